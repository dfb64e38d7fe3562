"""What a check has found, remembered in `.check.json` of the dataset's folder while nothing that it read has changed.

Only a set without errors is remembered: then every image that its files list is there and known (`.images.json`), so that their
sizes and times, with those of the two files, say whether anything has changed. Deleting `.check.json` is always safe.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple
from functools import cache
from pathlib import Path

import cv2

from workbook.data.entries import Problem
from workbook.data.images import unchanged_images
from workbook.files import write_text

JUDGED = ".check.json"
SETTLED = 2.0  # seconds: a file that changed later than that may change again within the clock's tick, unseen
FILES = ("train.json", "val.json")

State = dict[str, tuple[int, int, int, int]]  # file → size, inode, time of the content, time of the entry


def state_of(folder: Path) -> State | None:
    """The two files as they are now; None where one is missing, or has changed just now."""
    found: State = {}
    for name in FILES:
        try:
            stat = (folder / name).stat()
        except OSError:
            return None
        if time.time() - max(stat.st_mtime, stat.st_ctime) < SETTLED:
            return None
        found[name] = (stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def judged_before(folder: Path, state: State | None) -> list[Problem] | None:
    """The problems that a check of the same files and images found; None when there was none, or anything has changed since."""
    if state is None:
        return None
    try:
        stored = json.loads((folder / JUDGED).read_text())
        if stored["judged_by"] != _rules() or stored["state"] != {name: list(stamp) for name, stamp in state.items()}:
            return None
        if stored["images"] != unchanged_images(folder / "images"):
            return None
        return [Problem(*map(str, values)) for values in stored["problems"]]  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # nothing remembered, or not by us: it is judged anew


def remember(folder: Path, state: State | None, problems: Sequence[Problem]) -> None:
    """Keep what was found, where there is no error. state: of before the check, as `state_of` gave it."""
    if state is None or any(problem.level == "error" for problem in problems):
        return
    if images := unchanged_images(folder / "images"):
        content = {"judged_by": _rules(), "state": state, "images": images, "problems": [astuple(problem) for problem in problems]}
        with suppress(OSError):  # a folder that may not be written costs time, not truth
            write_text(folder / JUDGED, json.dumps(content))


@cache
def _rules() -> str:
    """Changes with the code that judges: sha256 of every file of this room, with OpenCV's version."""
    digest = hashlib.sha256(cv2.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
