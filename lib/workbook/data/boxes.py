"""What the boxes of a file say together: whether they are written in another form than COCO's, and which are listed twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from workbook.data.columns import Columns, columns_of

ROUNDED = 0.01  # shares of the image may leave 0 to 1 by so much
FEW = 3  # so many boxes are no accident, where they are a tenth of the file
STICKS_OUT = 0.05  # of the image's side: more is no rounding
SAME_AREA = 0.02  # relative
SAME_BOX = 1.0  # pixels in each of x, y, width, height: one export rounds, another counts pixels from 1


@dataclass(frozen=True)
class OtherForm:
    """Boxes that are not x, y, width, height in pixels. `indices` are their annotations'; empty where all is as it should be."""

    reason: str = ""  # what they are, with an example, and what to do
    indices: Collection[int] = frozenset()


@dataclass(frozen=True)
class _Boxes:
    """The boxes that are four finite numbers, as arrays with a row a box."""

    indices: np.ndarray  # [n] of their annotations
    numbers: np.ndarray  # [n, 4] as they are written
    areas: np.ndarray  # [n] as they are written; NaN where there is none
    sides: np.ndarray  # [n, 2] of their images, width and height; NaN where they are not known


def in_another_form(
    annotations: Sequence[Any], sides: Mapping[int, tuple[int, int] | None], columns: Columns | None = None
) -> OtherForm:
    """Whether the boxes of a file are shares of the image, or two corners.

    sides: image id → width and height in pixels, None where they are broken; columns: of these annotations, where they are
    there already. Boxes that are not four finite numbers are passed over.
    """
    boxes = _boxes(columns or columns_of(annotations, sides, set()))
    if not len(boxes.indices):
        return OtherForm()
    return _as_shares(annotations, boxes) or _as_corners(annotations, boxes) or OtherForm()


def _boxes(columns: Columns) -> _Boxes:
    there = columns.is_box
    return _Boxes(np.flatnonzero(there), columns.boxes[there], columns.areas[there], columns.sides[there])


def _as_shares(annotations: Sequence[Any], boxes: _Boxes) -> OtherForm | None:
    """Boxes inside the first pixel of their image: all of them, or too many for an accident."""
    within = ((boxes.numbers >= -ROUNDED) & (boxes.numbers <= 1 + ROUNDED)).all(axis=1)
    found = boxes.indices[within]
    count, total = len(found), len(boxes.indices)
    if count < total and (count < FEW or count < 0.1 * total):
        return None
    return OtherForm(
        f"{_of(count, total)} within 0 to 1, such as {_example(annotations[found[0]])}: shares of the image, as YOLO writes them, "
        "but bbox is x, y, width, height in pixels. Multiply x and width by the image's width, y and height by its height "
        "(where x, y are the center, first subtract half the width and half the height), and area by both",
        frozenset(found.tolist()))


def _as_corners(annotations: Sequence[Any], boxes: _Boxes) -> OtherForm | None:
    """Boxes that fit into their images as two corners, though as corner and sides many stick out, or have another area."""
    x1, y1, x2, y2 = boxes.numbers.T
    width, height = boxes.sides.T
    fit = (x1 >= -1) & (y1 >= -1) & (x2 > x1) & (y2 > y1) & (x2 <= width + 1) & (y2 <= height + 1)
    stick_out = (x1 + x2 > (1 + STICKS_OUT) * width + 1) | (y1 + y2 > (1 + STICKS_OUT) * height + 1)
    between = (x2 - x1) * (y2 - y1)
    of_corners = (abs(boxes.areas - between) <= SAME_AREA * between) & (abs(boxes.areas - x2 * y2) > SAME_AREA * x2 * y2)
    total = len(boxes.indices)
    if fit.sum() < 0.98 * total:
        return None
    if stick_out.sum() >= 2 and stick_out.sum() >= 0.2 * total:
        why = f"as x, y, width, height {stick_out.sum()} of {total} boxes stick out of their images"
        first = int(np.flatnonzero(stick_out & fit)[0])
    elif of_corners.sum() >= FEW and of_corners.sum() >= 0.5 * total:
        why = f"the area of {of_corners.sum()} of {total} boxes is that between two corners"
        first = int(np.flatnonzero(of_corners & fit)[0])
    else:
        return None
    return OtherForm(
        f"{why}, and {fit.sum()} of {total} fit as two corners x1, y1, x2, y2, such as {_example(annotations[boxes.indices[first]])} "
        f"in an image of {width[first]:.0f}x{height[first]:.0f} pixels. Write x1, y1, x2 - x1, y2 - y1, and the area that these give",
        frozenset(boxes.indices.tolist()))


def _of(count: int, total: int) -> str:
    if count < total:
        return f"{count} of {total} boxes lie"
    return f"all {total} boxes lie" if total > 1 else "its only box lies"


def _example(annotation: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in annotation["bbox"])
    return f"annotation {annotation.get('id')} with bbox [{shown}]"


def listed_twice(annotations: Sequence[Mapping[str, Any]]) -> str:
    """Words about the annotations that repeat another one's image, class and box, with examples and what to do; or "".

    The annotations are sound. Boxes that differ by up to a pixel are the same.
    """
    pairs = list(_repeated(annotations))
    if not pairs:
        return ""
    shown = ", ".join(f"annotation {again} that of annotation {first}" for again, first in pairs[:3])
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    verb = "repeats" if len(pairs) == 1 else "repeat"
    return (f"{len(pairs)} of {len(annotations)} annotations {verb} the box and class of another one of their image: {shown}{more}. "
            "An object that is listed twice counts as two, of which a detector can find one: delete the repeated ones "
            "(were two exports merged?)")


def _repeated(annotations: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int]]:
    """The id of each annotation that repeats an earlier one, and that one's."""
    found: list[tuple[int, int]] = []
    for group in _near_groups(annotations):
        group.sort()
        window: list[tuple[list[float], int]] = []  # those before it whose x is near enough
        for box, index in group:
            window = [one for one in window if box[0] - one[0][0] <= SAME_BOX]
            same = [other for other_box, other in window
                    if all(abs(x - y) <= SAME_BOX for x, y in zip(box, other_box, strict=True))]
            if same:
                found.append((max(index, same[0]), min(index, same[0])))
            else:
                window.append((box, index))
    for again, first in sorted(found):
        yield annotations[again]["id"], annotations[first]["id"]


def _near_groups(annotations: Sequence[Mapping[str, Any]]) -> Iterator[list[tuple[list[float], int]]]:
    """The boxes of each image and class, with their places, where two of them begin at the same x: only those may repeat."""
    groups: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for index, a in enumerate(annotations):
        groups[a["image_id"], a["category_id"], bool(a.get("iscrowd"))].append(index)
    for places in groups.values():
        if len(places) < 2:
            continue
        lefts = sorted(annotations[place]["bbox"][0] for place in places)
        if any(right - left <= SAME_BOX for left, right in pairwise(lefts)):
            yield [(annotations[place]["bbox"], place) for place in places]
