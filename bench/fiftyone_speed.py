"""Row P13: 5,000 images with 36,000 objects and 329,000 detections into FiftyOne, with matches and views; and its first page.

    python -m bench.fiftyone_speed [images] [--theirs]

A made run of the size of COCO val2017 (80 classes; see bench/diagnosis_speed.py) is put into an empty database, and once more. The first
page is what the App asks its server for when it is opened: 20 images with all their boxes. For comparison, `--theirs`: FiftyOne's own
`evaluate_detections` on the same boxes.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import diagnosis_speed
from bench.row import Row, timed
from workbook.browse.app import ADDRESS, launch
from workbook.browse.database import connect
from workbook.browse.samples import read_runs
from workbook.browse.views import OBJECTS, build, table
from workbook.diagnosis.made_from import take_fingerprint
from workbook.diagnosis.store import save
from workbook.files import write_json
from workbook.runs.config import read_config
from workbook.runs.folder import Run, runs_root

IMAGES = 5_000
MOST_SECONDS, MOST_PAGE_SECONDS = 60, 3
FIRST_PAGE = """query ($dataset: String!) {
  samples(dataset: $dataset, view: [], first: 20, filter: {}) {
    __typename ... on SampleItemStrConnection { edges { node { __typename ... on ImageSample { id sample } } } }
  }
}"""


def p13() -> list[Row]:
    """Into an empty database, and the first page."""
    seconds, boxes = measure(IMAGES)
    build_seconds, page = seconds["reading the run, adding all, saving the views"], seconds["the App's first page"]
    ours = f"{build_seconds:.0f} s, first page {page:.1f} s"
    return [Row("P13", f"{IMAGES:,} images with {boxes:,} boxes into FiftyOne with matches and views", "", ours, ours,
                f"<= {MOST_SECONDS} s, page {MOST_PAGE_SECONDS} s", build_seconds <= MOST_SECONDS and page <= MOST_PAGE_SECONDS,
                {"ours": (build_seconds, page)})]


def made_run(root: Path, images: int) -> Run:
    """A finished run of made detections, diagnosed and saved as any other."""
    made = diagnosis_speed.run(images)
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


def measure(images: int, theirs: bool = False) -> tuple[dict[str, float], int]:
    """What → seconds, and how many boxes there are. theirs: FiftyOne's own evaluation too (minutes)."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after what fiftyone does at the end
    os.environ["WORKBOOK_OUTPUTS"] = folder
    run = made_run(Path(folder), images)
    seconds: dict[str, float] = {}
    found: dict[str, Any] = {}

    def note(what: str, call: Callable[[], Any]) -> Any:
        seconds[what] = timed(lambda: found.update({what: call()}))
        return found[what]

    fo = note("importing fiftyone, starting mongod", connect)
    dataset = note("reading the run, adding all, saving the views", lambda: build(read_runs([run])))
    note("the same once more", lambda: build(read_runs([run])))
    note("counting the boxes of every view", lambda: table(dataset))
    session = note("starting the App's server", lambda: launch(dataset, 5151))
    note("the App's first page", lambda: _first_page(dataset.name, session.server_port))
    pred = next(field for field in dataset.get_field_schema(embedded_doc_type=fo.Detections) if field != OBJECTS)
    if theirs:
        note("FiftyOne's evaluate_detections alone", lambda: dataset.evaluate_detections(pred, gt_field=OBJECTS, eval_key="theirs"))
    return seconds, sum(dataset.count(f"{field}.detections") for field in (OBJECTS, pred))


def _first_page(dataset: str, port: int) -> None:
    """Ask as the App does. Raises RuntimeError when the server does not give 20 images with their boxes."""
    body = json.dumps({"query": FIRST_PAGE, "variables": {"dataset": dataset}}).encode()
    asked = urllib.request.Request(f"http://{ADDRESS}:{port}/graphql", body, {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(asked))
    edges = ((answer.get("data") or {}).get("samples") or {}).get("edges") or []
    if len(edges) != 20 or not all(edge["node"]["sample"][OBJECTS] for edge in edges):
        raise RuntimeError(f"the App's server answered {str(answer)[:500]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=int, nargs="?", default=IMAGES)
    parser.add_argument("--theirs", action="store_true", help="time FiftyOne's evaluate_detections too (minutes)")
    asked = parser.parse_args()
    seconds, boxes = measure(asked.images, asked.theirs)
    print(f"{asked.images:,} images, {boxes:,} boxes, {os.cpu_count()} cores\n| what | seconds |\n|---|---|")
    for what, took in seconds.items():
        print(f"| {what} | {took:.1f} |")


if __name__ == "__main__":
    main()
