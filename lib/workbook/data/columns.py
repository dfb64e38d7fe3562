"""The annotations of a file as columns, read once, so that a rule looks at a million of them at a time.

A value that is not of the kind that COCO writes has no place in a column: it is marked there, and is left to the rules for one entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np

LARGEST = 1e100  # arrays hold it and its square
LARGEST_INT = 2**63  # exclusive: beyond it neither numpy nor the evaluation can hold a whole number


@dataclass(frozen=True)
class Columns:
    """A row an annotation; of one that is no object with keys, every column is empty."""

    is_box: np.ndarray  # [n] bool: its bbox is a list of four finite numbers
    boxes: np.ndarray  # [n, 4] as they are written; NaN where there is no box
    areas: np.ndarray  # [n] as they are written; NaN where there is no number
    sides: np.ndarray  # [n, 2] of its image, width and height in pixels; NaN where they are not known
    has_id: np.ndarray  # [n] bool: a whole number from 0
    in_category: np.ndarray  # [n] bool: the category is one of the file's
    is_plain: np.ndarray  # [n] bool: `iscrowd` is 0, 1 or missing, and `ignore` is not set
    has_mask: np.ndarray  # [n] bool


def columns_of(annotations: Sequence[Any], sides: Mapping[int, tuple[int, int] | None], categories: set[int]) -> Columns:
    """sides: image id → width and height, None where they are broken; categories: the ids of the file's."""
    entries = [a if isinstance(a, dict) else {} for a in annotations]
    is_box, boxes = _boxes([a.get("bbox") for a in entries])
    areas = [a.get("area") for a in entries]
    return Columns(
        is_box=is_box, boxes=boxes,
        areas=np.array([area if is_number(area) else math.nan for area in areas], float),
        sides=_sides([a.get("image_id") for a in entries], sides),
        has_id=_all_in([a.get("id") for a in entries], range(LARGEST_INT).__contains__),
        in_category=_all_in([a.get("category_id") for a in entries], categories.__contains__),
        is_plain=np.array([a.get("iscrowd", 0) in (0, 1) and not a.get("ignore") for a in entries], bool),
        has_mask=np.array([bool(a.get("segmentation")) for a in entries], bool),
    )


def is_number(value: Any) -> bool:
    """Whether arrays can hold it and its square: no word, no truth value, nothing beyond every float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _boxes(written: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """[n] bool, whether it is a box, and [n, 4], its numbers."""
    fours = np.array([isinstance(box, list) and len(box) == 4 for box in written], bool)
    flat = list(chain.from_iterable(box for box, is_four in zip(written, fours.tolist(), strict=True) if is_four))
    numbers = np.array(flat if set(map(type, flat)) <= {float} else [value if is_number(value) else math.nan for value in flat], float)
    numbers = numbers.reshape(-1, 4)
    boxes = np.full((len(written), 4), math.nan)
    boxes[fours] = numbers
    return (np.abs(boxes) < LARGEST).all(axis=1), boxes


def _sides(image_ids: Sequence[Any], sides: Mapping[int, tuple[int, int] | None]) -> np.ndarray:
    """[n, 2] the width and height of each image."""
    known = [pair or (math.nan, math.nan) for pair in sides.values()]
    table = np.array([*known, (math.nan, math.nan)], float)  # the last for an image that is not there
    place = dict(zip(sides, range(len(known)), strict=True))
    ids = image_ids if set(map(type, image_ids)) <= {int} else [id_ if type(id_) is int else None for id_ in image_ids]
    found: np.ndarray = table[np.fromiter(map(place.get, ids, repeat(len(known))), int, len(ids))]
    return found


def _all_in(values: Sequence[Any], allowed: Callable[[int], bool]) -> np.ndarray:
    """[n] bool: a whole number, which is allowed."""
    return np.array([type(value) is int and allowed(value) for value in values], bool)
