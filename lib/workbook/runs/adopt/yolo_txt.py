"""Detections as `yolo predict save_txt=True save_conf=True` writes them: a text file an image, a line a detection.

    class  center_x  center_y  width  height  confidence        # shares of the image; an image without detections has no file
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbook.data.reading import Image
from workbook.runs.adopt.errors import MOST, AdoptError
from workbook.runs.adopt.ids import by_stem

NUMBER = r"[-+]?([0-9.]+(e[-+]?[0-9]+)?|nan|inf)"
ROUNDED = 0.01  # a share may leave 0 to 1 by so much
FORM = "class center_x center_y width height confidence"


def label_files(folder: Path) -> list[Path]:
    """The text files of a folder, or else of its `labels`, that look like detections."""
    inside = (sorted(place.glob("*.txt")) for place in (folder, folder / "labels"))
    found = ([path for path in paths if _looks_like_labels(path)] for paths in inside)
    return next(filter(None, found), [])


def _looks_like_labels(path: Path) -> bool:
    """Nothing is in it, or its first line has four numbers after a first word."""
    try:
        first = next((line.split() for line in _lines(path) if line.strip()), None)
    except AdoptError:
        return False
    return first is None or (len(first) >= 5 and all(re.fullmatch(NUMBER, word) for word in first[1:5]))


def read_label_files(files: Sequence[Path], images: Sequence[Image]) -> list[dict[str, Any]]:
    """Their lines as COCO results: boxes in pixels of the images, `category_id` the class as it is written.

    Raises AdoptError with every line that is wrong, and with the files that are named for no image of val, or for two.
    """
    of_name = by_stem([path.stem for path in files], images)
    sides = {image["id"]: (image["width"], image["height"]) for image in images}
    entries: list[dict[str, Any]] = []
    wrong: list[str] = []
    for path in files:
        id_ = of_name[path.stem]
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            if words := _problem(line):
                wrong.append(f"{path.name}, line {number}: {words}")
            else:
                entries.append(_entry(line, id_, sides[id_]))
    if wrong:
        more = [f"and {len(wrong) - MOST} more"] if len(wrong) > MOST else []
        raise AdoptError("\n  - ".join([f"{files[0].parent} cannot be adopted: {len(wrong)} lines are wrong. Each must be {FORM}",
                                        *wrong[:MOST], *more]))
    if not entries:
        raise AdoptError(f"{files[0].parent} holds no detection, so there is nothing to measure: predict again with a lower conf")
    return entries


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AdoptError(f"{path} cannot be read as text ({error})") from None


def _problem(line: str) -> str:
    """What is wrong with a line; "" where nothing is."""
    parts = line.split()
    if len(parts) == 5:
        return "it has no confidence: predict again with save_conf=True"
    if len(parts) != 6:
        return f"it has {len(parts)} columns (outlines of masks are not read)"
    try:
        kind, *shares, score = map(float, parts)
    except ValueError:
        return f"{line.strip()!r} is not six numbers"
    if not all(map(math.isfinite, (kind, *shares, score))) or kind < 0 or kind != int(kind):
        return f"{line.strip()!r} is not a class, four shares and a confidence"
    if not all(-ROUNDED <= share <= 1 + ROUNDED for share in shares):
        return "its box is not in shares of the image: divide x and width by its width, y and height by its height"
    return "" if 0 <= score <= 1 else f"its confidence is {parts[5]}, and must be from 0 to 1"


def _entry(line: str, image_id: int, sides: tuple[int, int]) -> dict[str, Any]:
    kind, x, y, width, height, score = map(float, line.split())
    across, down = sides
    box = [(x - width / 2) * across, (y - height / 2) * down, width * across, height * down]
    return {"image_id": image_id, "category_id": int(kind), "bbox": box, "score": score}
