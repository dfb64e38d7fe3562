"""Rows P3, P4, P5 and P16: COCO metrics, intervals and a diagnosis at the size of val2017, and what it costs in plain inference."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import torch
from mmdet.datasets import build_dataset
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench.bootstrap_speed import DETECTIONS, IMAGES, TRUTHS, coco_scale, hotcoco_seconds
from bench.row import Row, Timing, in_turn, ratio_row, timed
from bench.stock import few_images, job_of
from workbook.diagnosis.diagnose import diagnose
from workbook.evaluation.coco_metrics import evaluate
from workbook.evaluation.matching import match
from workbook.evaluation.resampling import average_precision, figures_by_class, resample_weights
from workbook.models.config import build_model
from workbook.models.precision import set_precision
from workbook.training.loader import as_batch, to_device
from workbook.training.validation import as_coco

SCALE = f"{IMAGES:,} images, {TRUTHS:,} truths, {DETECTIONS:,} detections"


def p3() -> list[Row]:
    """From dicts in memory to the six numbers, on both sides."""
    truth, detections = coco_scale()
    stock = Timing((timed(lambda: pycocotools_metrics(truth, detections)),))  # half a minute: once
    ours = Timing(tuple(timed(lambda: evaluate(truth, detections)) for _ in range(3)))
    return [ratio_row("P3", f"COCO metrics, {SCALE}; stock is pycocotools", stock, ours, 50)]


def pycocotools_metrics(truth: dict, detections: list[dict]) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        engine = COCOeval(coco, coco.loadRes(detections), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine.stats


def p4() -> list[Row]:
    """A resample of one detector's AP; hotcoco's own compares two detectors, so it is halved."""
    truth, detections = coco_scale()
    matches = match(truth, detections)

    def thousand() -> None:
        figures_by_class(average_precision(matches, resample_weights(len(matches.images), 1_000, seed=0)), matches)

    ours = Timing(tuple(timed(thousand) for _ in range(3)))
    theirs = hotcoco_seconds(truth, detections, resamples=20) / 2 * 1_000
    return [ratio_row("P4", f"1,000 resamples, {SCALE}; stock is hotcoco, drawn from 20", Timing((theirs,)), ours, 5)]


def p5() -> list[Row]:
    """Trace and all replays of the val images, against `simple_test` on them; random weights give the most detections."""
    job = job_of(dataset=few_images(4, 10), backbone="tf_efficientnet_lite0", recipe="finetune", image_size=320)
    model = set_precision(build_model(job.config), job.device, job.precision).eval()
    val = build_dataset(job.config.data.val)

    @torch.no_grad()
    def plain() -> None:
        for index in range(len(val)):
            batch = to_device(as_batch([val.with_truth(index)]), job.device)
            as_coco(model.simple_test(batch["img"], batch["img_metas"], rescale=True)[0], val.img_ids[index], val.cat_ids)

    passes, whole = in_turn(plain, lambda: diagnose(model, val, resamples=2), rounds=3)
    cost = whole.median / passes.median
    return [Row("P5", "trace and all replays of 10 images, Faster R-CNN lite0, 320 px; stock is one plain pass", str(passes), str(whole),
                f"{cost:.2f} passes", "<= 2.5", cost <= 2.5, {"stock": passes.seconds, "ours": whole.seconds})]


def p16() -> list[Row]:
    """A diagnosis beyond the network's passes: traces, 32 replays, Shapley values and all intervals, in a process of its own."""
    call = [sys.executable, "-c", "import json; from bench import diagnosis_speed as d; m = d.run(); "
            "print(json.dumps([m.images, m.objects, m.detections, sum(m.seconds.values()), m.peak_mb]))"]
    printed = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    images, objects, detections, seconds, peak_mb = json.loads(printed.splitlines()[-1])
    work = f"diagnosis beyond the network: {images:,} images, {objects:,} objects, {detections:,} detections, five stages, 1,000 resamples"
    met = seconds <= 300 and peak_mb <= 4 * 1024
    return [Row("P16", work, "", f"{seconds:.0f} s, {peak_mb / 1024:.1f} GB", f"{seconds / 60:.1f} minutes, {peak_mb / 1024:.1f} GB",
                "<= 5 minutes, < 4 GB", met, {"ours": (seconds,)})]
