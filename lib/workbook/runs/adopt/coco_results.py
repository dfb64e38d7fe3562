"""COCO results as pycocotools, mmdet, detectron2, ultralytics and SAHI write them: a JSON list with an object a detection.

    {"image_id": 7, "category_id": 1, "bbox": [x, y, w, h], "score": 0.9}

`file_name` (ultralytics) and `category_name` (SAHI) are read where all entries have them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbook.runs.adopt.errors import MOST, AdoptError

LARGEST = 1e7  # pixels
NEEDED = ("image_id", "category_id", "bbox", "score")
FORM = '{"image_id": 7, "category_id": 1, "bbox": [x, y, w, h], "score": 0.9}'


def read_results(path: Path) -> list[dict[str, Any]]:
    """The entries of a file of results, each with the four keys that are needed, and numbers that are finite.

    Raises AdoptError with every entry that is wrong, by its place from 0.
    """
    content = _parse(path)
    if not isinstance(content, list):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else ""
        holds = f"an object with {keys or 'nothing'}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise AdoptError(f"{path} holds {holds}. Results are a list of {FORM}: give the file of the detections, not that of the labels")
    if not content:
        raise AdoptError(f"{path} holds no detection, so there is nothing to measure: evaluate again with a lower score threshold, and "
                         "see whether the weights were loaded")
    wrong = [f"entry {place}: {words}" for place, entry in enumerate(content) if (words := _problem(entry))]
    if wrong:
        more = [f"and {len(wrong) - MOST} more"] if len(wrong) > MOST else []
        lines = [f"{path} cannot be adopted: {len(wrong)} of {len(content)} entries are wrong. Each must be {FORM}; export them again",
                 *wrong[:MOST], *more]
        raise AdoptError("\n  - ".join(lines))
    return content


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AdoptError(f"{path} cannot be read ({error.strerror}): give the file of results, or the folder that holds it") from None
    except UnicodeDecodeError as error:
        raise AdoptError(f"{path} is not UTF-8 text (byte {error.start}): give COCO results as JSON") from None
    except (ValueError, RecursionError) as error:
        raise AdoptError(f"{path} is not valid JSON ({error}): is it cut off? Copy or export it again") from None


def _problem(entry: Any) -> str:
    """What is wrong with an entry; empty where it is sound."""
    if not isinstance(entry, dict):
        return f"it is a {type(entry).__name__}, not an object"
    if missing := [key for key in NEEDED if entry.get(key) is None]:
        return f"no {', '.join(missing)}"
    if type(entry["image_id"]) not in (int, str):
        return f"image_id {entry['image_id']!r} is neither a whole number nor a name"
    if not _is_whole(entry["category_id"]):
        return f"category_id {entry['category_id']!r} is no whole number"
    return _box_problem(entry["bbox"]) or _score_problem(entry["score"])


def _box_problem(box: Any) -> str:
    if not isinstance(box, list) or len(box) != 4:
        return f"bbox {box} is not four numbers"
    if not all(map(_is_finite, box)):
        return f"bbox {box} is not four finite numbers: has the training diverged?"
    if max(map(abs, box)) > LARGEST:
        return f"bbox {box} reaches beyond {LARGEST:g} pixels"
    if min(box[2:]) < 0:
        return f"bbox {box} has a negative width or height"
    return ""


def _score_problem(score: Any) -> str:
    if not _is_finite(score) or not 0 <= score <= 1:
        return f"score {score!r} is no number from 0 to 1"
    return ""


def _is_finite(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_whole(value: Any) -> bool:
    """Also 1.0, as pandas writes it."""
    return type(value) is int or (type(value) is float and value.is_integer())


def with_ids(entries: Sequence[dict[str, Any]], images: Sequence[int], categories: Sequence[int]) -> list[dict[str, Any]]:
    """The detections as the workbook writes them, with these ids of val.json."""
    return [
        {"image_id": image, "category_id": category, "bbox": [float(side) for side in entry["bbox"]], "score": float(entry["score"])}
        for entry, image, category in zip(entries, images, categories, strict=True)
    ]
