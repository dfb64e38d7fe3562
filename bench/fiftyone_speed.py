"""How long until 1,000 images with 73,000 boxes can be browsed? `python -m bench.fiftyone_speed [--theirs]`

A made run at a fifth of COCO val2017 (1,000 images, 7,200 truths, 65,800 detections, 80 classes) is put into an empty
database, and once more. For comparison, `--theirs`: FiftyOne's own `evaluate_detections` on the same boxes.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.bootstrap_speed import coco_scale
from workbook.browse.database import connect
from workbook.browse.samples import read_runs
from workbook.browse.views import TRUTH, build, table
from workbook.diagnosis.matching import match
from workbook.diagnosis.stages import DETECTED, TWO_STAGE
from workbook.evaluation.sizes import sizes_of
from workbook.files import write_json
from workbook.runs.folder import Run, runs_root

IMAGES, TRUTHS, DETECTIONS = 1_000, 7_200, 65_800


def made_run(root: Path) -> Run:
    """A run folder with what is browsed: the stages are drawn by lot, what is detected is COCO's matching."""
    truth, detections = coco_scale(0, IMAGES, TRUTHS, DETECTIONS)
    for image in truth["images"]:
        image["file_name"] = f"{image['id']:06}.jpg"
    run = Run(runs_root() / "faster_rcnn-resnet50-00000000")
    run.folder.mkdir(parents=True)
    (root / "val.json").write_text(json.dumps(truth))
    names = tuple(category["name"] for category in truth["categories"])
    (run.folder / "config.py").write_text(f"data = dict(val=dict(ann_file={str(root / 'val.json')!r}, img_prefix='', classes={names}))\n")
    write_json(run.folder / "run.json", {"name": run.name, "status": "done", "data": {"name": "made", "hash": "0"}})
    write_json(run.folder / "predictions.json", detections)
    write_json(run.folder / "waterfall.json", {"iou": 0.5, "stages": [
        {"name": s.name, "question": s.question, "color": s.color, "remedies": list(s.remedies)} for s in TWO_STAGE]})
    made_trace(truth, detections).to_parquet(run.folder / "trace.parquet", index=False)
    return run


def made_trace(truth: dict[str, Any], detections: list[dict[str, Any]]) -> pd.DataFrame:
    rng, by = np.random.default_rng(0), match(truth, detections, 0.5).taken_by
    names = {category["id"]: category["name"] for category in truth["categories"]}
    lost = rng.choice([stage.name for stage in TWO_STAGE], len(by))
    rows = [
        {"annotation_id": a["id"], "class": names[a["category_id"]], "size": sizes_of(a["area"])[0],
         "stage": DETECTED if found >= 0 else stage, "detected": found >= 0, "score": detections[found]["score"] if found >= 0 else np.nan}
        for a, found, stage in zip(truth["annotations"], by, lost, strict=True) if not a["iscrowd"]
    ]
    trace = pd.DataFrame(rows).assign(lost_to=None, named_class="background")
    for column in ("candidate_iou", "class_score", "box_iou", "named_score", "false_above", "resized_area"):
        trace[column] = rng.random(len(trace))
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--theirs", action="store_true", help="time FiftyOne's evaluate_detections too (minutes)")
    theirs = parser.parse_args().theirs
    seconds: dict[str, float] = {}
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after what fiftyone does at the end
    os.environ["WORKBOOK_OUTPUTS"] = folder
    run = made_run(Path(folder))

    def timed(what: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[what] = time.perf_counter() - start
        return result

    fo = timed("importing fiftyone, starting mongod", connect)
    dataset = timed("reading the run, matching, adding all, saving the views", lambda: build(read_runs([run])))
    timed("the same once more", lambda: build(read_runs([run])))
    timed("counting the boxes of every view", lambda: table(dataset))
    pred = next(field for field in dataset.get_field_schema(embedded_doc_type=fo.Detections) if field != TRUTH)
    boxes = sum(dataset.count(f"{field}.detections") for field in (TRUTH, pred))
    if theirs:
        timed("FiftyOne's evaluate_detections alone", lambda: dataset.evaluate_detections(pred, gt_field=TRUTH, eval_key="theirs"))
    print(f"{len(dataset):,} images, {boxes:,} boxes, {os.cpu_count()} cores\n| what | seconds |\n|---|---|")
    for what, took in seconds.items():
        print(f"| {what} | {took:.1f} |")


if __name__ == "__main__":
    main()
