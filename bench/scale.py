"""Rows P12 to P15: the workbook at size, from made data in a temporary folder; and what grows with what.

    python -m bench.scale images|objects|classes|runs|redraw     one table of docs/scale.md, three sizes

A figure here is of a process of its own: seconds by the wall, user CPU seconds and the peak of its memory, as the kernel counted them.
User seconds move least on a machine that others use too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.row import Row, Timing
from bench.sweep_overhead import redraw_seconds
from workbook.files import write_json
from workbook.runs.folder import run_name

IMAGES, VAL_IMAGES, OBJECTS_AN_IMAGE, CLASSES = 118_000, 5_000, 7.29, 80  # COCO 2017
RUNS = 1_000
REAL = 4  # image files of a split; the others are links to them
WIDTH, HEIGHT = 160, 120  # pixels
PREPARE = """
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
prepare(check_parameters({"dataset": "made", "pretrained": "none", "device": "cpu", "epochs": 1}))
"""
# the peak of a process begins at that of the one that starts it: so that one is small
COUNTED = """
import json, os, resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
wall = time.perf_counter() - started
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([wall, usage.ru_utime, usage.ru_maxrss / 2**20]))
sys.exit(code)
"""
FIGURES = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")


@dataclass(frozen=True)
class Took:
    """What one process took."""

    wall: float  # seconds
    user: float  # CPU seconds
    peak_gb: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.user:.1f} s of CPU), {self.peak_gb:.1f} GB"


def took(*command: str, **environment: str) -> Took:
    """Run `python ...` and count. Raises CalledProcessError when it fails."""
    done = subprocess.run([sys.executable, "-S", "-c", COUNTED, sys.executable, *command], check=True, capture_output=True, text=True,
                          env={**os.environ, **environment})
    return Took(*json.loads(done.stdout))


def write_set(folder: Path, images: int, val_images: int, objects_an_image: float, classes: int) -> None:
    """A sound data set in COCO format, its images hard links to a few JPEG files."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "files").mkdir()
    for split, count, first in (("train", images, 0), ("val", val_images, images)):
        for number in range(REAL):
            pixels = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (WIDTH, HEIGHT))
            cv2.imwrite(str(folder / "files" / f"{split}{number}.jpg"), pixels)
        for number in range(count):
            os.link(folder / "files" / f"{split}{number % REAL}.jpg", folder / "images" / f"{first + number:012d}.jpg")
        (folder / f"{split}.json").write_text(json.dumps(_tables(rng, count, first, objects_an_image, classes)))


def _tables(rng: np.random.Generator, images: int, first: int, objects_an_image: float, classes: int) -> dict[str, Any]:
    of_image = np.repeat(np.arange(images), rng.poisson(objects_an_image, images))
    sides = rng.uniform(8, 60, (len(of_image), 2)).round(2)
    corners = (rng.random((len(of_image), 2)) * ((WIDTH, HEIGHT) - sides)).round(2)
    boxes = np.concatenate([corners, sides], axis=1).tolist()
    labels = (rng.zipf(1.4, len(of_image)) % classes + 1).tolist()
    rows = zip(of_image.tolist(), labels, boxes, strict=True)
    return {
        "images": [{"id": first + n, "file_name": f"{first + n:012d}.jpg", "width": WIDTH, "height": HEIGHT} for n in range(images)],
        "annotations": [
            {"id": id_, "image_id": first + image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for id_, (image, label, box) in enumerate(rows, start=1)
        ],
        "categories": [{"id": n + 1, "name": f"class {n}"} for n in range(classes)],
    }


def write_runs(root: Path, count: int) -> None:
    """Run folders of a finished sweep over seeds."""
    for seed in range(count):
        asked = {"dataset": "made", "detector": "faster_rcnn", "backbone": "resnet50", "recipe": "official", "epochs": 12,
                 "image_size": [400, 400], "batch_size": 2, "seed": seed, "device": "cpu", "overrides": {}}
        folder = root / "runs" / run_name(asked, "0" * 64)
        folder.mkdir(parents=True)
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=seed)
        counts = {"train_images": 35, "val_images": 10, "val_objects": 214, "val_small": 66, "val_medium": 140, "val_large": 8}
        write_json(folder / "run.json", {
            "name": folder.name, "number": seed + 1, "parameters": asked, "status": "done", "error": None, "seconds": 1800.0,
            "started": started.isoformat(), "finished": started.isoformat(), "best_epoch": 12, "epochs_done": 12, "iterations": 216,
            "data": {"name": "made", "hash": "0" * 64, **counts}, "optimizer": {"type": "AdamW", "lr": 1e-4}, "schedule": "step [8, 11]",
            "hardware": {"device": "cpu", "cpu": "made", "cores": 2, "gpu": None}, "settings": {"precision": "fp32"},
        })
        write_json(folder / "metrics.json", {**dict.fromkeys(FIGURES, 0.2), "best_epoch": 12})


def of_set(images: int = IMAGES, val_images: int = VAL_IMAGES, objects_an_image: float = OBJECTS_AN_IMAGE,
           classes: int = CLASSES) -> dict[str, Took]:
    """The first check of a made set, a second one, and `prepare` as it starts every run."""
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder) / "made", images, val_images, objects_an_image, classes)
        time.sleep(3)  # what has just been written is not remembered
        names = {"WORKBOOK_DATA": folder, "WORKBOOK_OUTPUTS": f"{folder}/outputs"}
        return {
            "first check": took("-m", "workbook", "check", "made", **names),
            "second check": took("-m", "workbook", "check", "made", **names),
            "prepare": took("-c", PREPARE, **names),
        }


def of_runs(count: int) -> dict[str, Took]:
    """`list` and `compare` of so many made runs."""
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), count)
        return {command: took("-m", "workbook", command, WORKBOOK_OUTPUTS=folder) for command in ("list", "compare")}


def p12() -> list[Row]:
    """The checks of a set of COCO's size."""
    found = of_set()
    of = f"{IMAGES:,} images, 860,000 boxes, {CLASSES} classes"
    return [
        _row("P12", f"the first `workbook check` of {of}; its images are small links", found["first check"], None, None),
        _row("P12", "a second check of the unchanged set", found["second check"], 5, None),
        _row("P12", "all that a start of a run checks (`prepare`), the images known", found["prepare"], 30, 4),
    ]


def p14() -> list[Row]:
    """A sweep of 1,000 runs."""
    found = of_runs(RUNS)
    redraw = Timing(tuple(redraw_seconds(RUNS) for _ in range(3)))
    return [
        _row("P14", f"`workbook list` of {RUNS:,} runs", found["list"], 1, None),
        _row("P14", f"`workbook compare` of {RUNS:,} runs of one setting", found["compare"], 5, None),
        Row("P14", f"one redraw of the live table of {RUNS:,} runs", "", str(redraw), f"{1000 * redraw.median:.0f} ms", "<= 50 ms",
            redraw.median <= 0.05, {"ours": redraw.seconds}),
    ]


def p15() -> list[Row]:
    """What a person waits for the command."""
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder), 3)
        helps = [took("-m", "workbook", "--help") for _ in range(5)]
        lists = [took("-m", "workbook", "list", WORKBOOK_OUTPUTS=folder) for _ in range(5)]
    return [_row("P15", "`workbook --help`", _middle(helps), 0.3, None), _row("P15", "`workbook list` of 3 runs", _middle(lists), 1, None)]


def _middle(several: Sequence[Took]) -> Took:
    return sorted(several, key=lambda one: one.wall)[len(several) // 2]


def _row(key: str, work: str, found: Took, seconds: float | None, gigabytes: float | None) -> Row:
    """A row whose target is of the wall and of memory; without one it is stated."""
    targets = [f"<= {seconds:g} s"] if seconds is not None else []
    targets += [f"< {gigabytes:g} GB"] if gigabytes is not None else []
    met = None if seconds is None else found.wall <= seconds and (gigabytes is None or found.peak_gb < gigabytes)
    return Row(key, work, "", str(found), f"{found.wall:.2g} s" if found.wall < 10 else f"{found.wall:.0f} s",
               ", ".join(targets) or "stated", met, {"ours": (found.wall,), "user": (found.user,)})


SIZES: dict[str, dict[int, Any]] = {
    "images": {size: lambda size=size: of_set(images=size, val_images=size // 20) for size in (5_000, 30_000, 118_000)},
    "objects": {size: lambda size=size: of_set(5_000, 250, size) for size in (7, 50, 150)},
    "classes": {size: lambda size=size: of_set(20_000, 1_000, classes=size) for size in (8, 80, 800)},
    "runs": {size: lambda size=size: of_runs(size) for size in (10, 100, 1_000)},
    "redraw": {size: lambda size=size: {"redraw": f"{1000 * redraw_seconds(size):.0f} ms"} for size in (10, 100, 1_000)},
}


def main(what: str) -> None:
    """One table as Markdown."""
    rows = {size: measure() for size, measure in SIZES[what].items()}
    works = list(next(iter(rows.values())))
    print(f"| {what} | {' | '.join(works)} |\n|---|{'---|' * len(works)}")
    for size, found in rows.items():
        print(f"| {size:,} | {' | '.join(str(found[work]) for work in works)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
