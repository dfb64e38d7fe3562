"""How long until 1,000 images with 73,000 boxes can be browsed? `python -m bench.fiftyone_speed [--theirs]`

A made run at a fifth of COCO val2017 (1,000 images, 80 classes; see bench/diagnosis_speed.py) is put into an empty database,
and once more. For comparison, `--theirs`: FiftyOne's own `evaluate_detections` on the same boxes.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import diagnosis_speed
from workbook.browse.database import connect
from workbook.browse.samples import read_runs
from workbook.browse.views import OBJECTS, build, table
from workbook.diagnosis.made_from import take_fingerprint
from workbook.diagnosis.store import save
from workbook.files import write_json
from workbook.runs.config import read_config
from workbook.runs.folder import Run, runs_root

IMAGES = 1_000


def made_run(root: Path) -> Run:
    """A finished run of made detections, diagnosed and saved as any other."""
    made = diagnosis_speed.run(IMAGES)
    for name in ("train", "val"):
        write_json(root / f"{name}.json", made.coco)
    run = Run(runs_root() / "faster_rcnn-resnet50-00000000")
    run.best_checkpoint.parent.mkdir(parents=True)
    run.best_checkpoint.write_bytes(b"made")
    names = tuple(category["name"] for category in made.coco["categories"])
    splits = {name: {"ann_file": str(root / f"{name}.json"), "img_prefix": "", "classes": names} for name in ("train", "val")}
    (run.folder / "config.py").write_text(f"data = {splits!r}\n")
    write_json(run.folder / "run.json", {"name": run.name, "status": "done", "data": {"name": "made", "hash": "0"}})
    write_json(run.folder / "predictions.json", [])
    write_json(run.folder / "metrics.json", {})
    save(run, made.diagnosis, take_fingerprint(run, read_config(run.folder / "config.py"), 0.5, torch.device("cpu")))
    return run


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
    dataset = timed("reading the run, adding all, saving the views", lambda: build(read_runs([run])))
    timed("the same once more", lambda: build(read_runs([run])))
    timed("counting the boxes of every view", lambda: table(dataset))
    pred = next(field for field in dataset.get_field_schema(embedded_doc_type=fo.Detections) if field != OBJECTS)
    boxes = sum(dataset.count(f"{field}.detections") for field in (OBJECTS, pred))
    if theirs:
        timed("FiftyOne's evaluate_detections alone", lambda: dataset.evaluate_detections(pred, gt_field=OBJECTS, eval_key="theirs"))
    print(f"{len(dataset):,} images, {boxes:,} boxes, {os.cpu_count()} cores\n| what | seconds |\n|---|---|")
    for what, took in seconds.items():
        print(f"| {what} | {took:.1f} |")


if __name__ == "__main__":
    main()
