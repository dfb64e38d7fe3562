"""The rules for the entries of one COCO file, each a small generator of problems; `checks.py` puts them together."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np

from workbook.data.boxes import in_another_form
from workbook.data.columns import LARGEST_INT, Columns, columns_of
from workbook.data.images import leaves_folder
from workbook.data.reading import SMALLEST_SIDE

MOST_OUTSIDE = 1.0  # pixels that a box may stick out, by rounding

Level = Literal["error", "note"]
Found = Iterator[tuple[Level, str]]  # what a rule finds: the level and the reason
Sides = tuple[int, int]  # width and height of an image in pixels

# table → (what an entry of it is called, the keys whose values must not occur twice)
NOUNS = {"images": ("image", ("id", "file_name")), "categories": ("category", ("id", "name")),
         "annotations": ("annotation", ("id",))}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one entry. An error stops a run before it trains, a note does not."""

    level: Level
    file: str  # train.json, images/a.jpg
    id: str  # image 7, annotation 12, class tree; empty for the whole file
    reason: str  # what is wrong, what is allowed, what to do

    def __str__(self) -> str:
        return f"{self.level}: {', '.join(filter(None, (self.file, self.id)))}: {self.reason}"


@dataclass(frozen=True)
class _Known:
    """What the rules for an entry need of the rest of the file."""

    sides: dict[int, Sides | None]  # image id → width and height, None where they are broken
    categories: Collection[int]  # ids
    other_form: Collection[int]  # indices of the annotations whose boxes have another form, which is one problem of the file
    meant: Callable[[str], str]  # a file_name that no file has → words about the file that is there


def entry_problems(file: str, content: dict[str, list[Any]], meant: Callable[[str], str] = lambda _: "") -> list[Problem]:
    """All problems of the three tables of one file, in their order. Files of images are not opened.

    meant: gives words about the file that a file_name outside images/ may mean, `FilesThere.words`.
    """
    problems: list[Problem] = []
    sides = {entry["id"]: _sides(entry) for entry in content["images"] if has_id(entry)}
    categories = {entry["id"] for entry in content["categories"] if has_id(entry)}
    columns = columns_of(content["annotations"], sides, categories)
    form = in_another_form(content["annotations"], sides, columns)
    known = _Known(sides, categories, form.indices, meant)
    if form.reason:
        problems.append(Problem("error", file, "", form.reason))
    places: dict[str, Iterable[int]] = {table: range(len(content[table])) for table in NOUNS}
    places["annotations"] = (~_surely_sound(columns)).nonzero()[0].tolist()
    for table, (noun, unique) in NOUNS.items():
        entries = content[table]
        for place in places[table]:
            entry = entries[place]
            id_ = f"{noun} {entry['id']}" if has_id(entry) else f"{noun} at place {place} (counted from 0)"
            problems += [Problem(level, file, id_, reason) for level, reason in _entry(table, place, entry, known)]
        for key in unique:
            problems += [Problem("error", file, f"{noun} {id_}", reason)
                         for id_, reason in _repeated(key, noun, content[table])]
    if not content["images"]:
        problems.append(Problem("error", file, "", "it lists no image"))
    if not content["categories"]:
        problems.append(Problem("error", file, "", 'it lists no category: a class is {"id": 1, "name": "tree"}'))
    return problems


def _surely_sound(columns: Columns) -> np.ndarray:
    """[annotations] bool: no rule finds anything, not even a note. What is close to a border is left to the rules themselves."""
    x, y, width, height = columns.boxes.T
    across, down = columns.sides.T
    with np.errstate(all="ignore"):
        inside = (x >= 0) & (y >= 0) & (x + width <= across) & (y + height <= down) & (width >= 1) & (height >= 1)
        share = columns.areas / (width * height)
    fits = (columns.areas > 0) & (columns.areas < LARGEST_INT / 2) & (share < 1.049) & ((share > 0.951) | columns.has_mask)
    sound: np.ndarray = columns.is_box & columns.has_id & columns.in_category & columns.is_plain & inside & fits
    return sound


def has_id(entry: Any) -> bool:
    """Whether the entry has a usable id: a whole number from 0 (the evaluation knows no negative ones)."""
    return isinstance(entry, dict) and _whole(entry.get("id")) and entry["id"] >= 0


def _entry(table: str, place: int, entry: Any, known: _Known) -> Found:
    if not isinstance(entry, dict):
        yield "error", f"it is {_show(entry)}, but must be an object with keys"
        return
    if not has_id(entry):
        yield "error", f"id is {_show(entry.get('id'))}, but must be a whole number from 0"
    if table == "images":
        yield from _image(entry, known)
    elif table == "categories":
        if not isinstance(entry.get("name"), str) or not entry["name"].strip():
            yield "error", f"name is {_show(entry.get('name'))}, but must be the name of a class"
    else:
        yield from _annotation(entry, known)
        yield from _bbox(entry, None if place in known.other_form else known)


def _repeated(key: str, noun: str, entries: list[Any]) -> Iterator[tuple[Any, str]]:
    """The id of the first entry, and the reason, for each value of `key` that several entries have."""
    usable = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get(key), int | str)]
    if len({entry[key] for entry in usable}) == len(usable):
        return
    ids: dict[Any, list[Any]] = {}
    for entry in usable:
        ids.setdefault(entry[key], []).append(entry.get("id"))
    for value, its in ids.items():
        if len(its) > 1:
            which = "" if key == "id" else f" (ids {listed(its)})"
            yield its[0], f"{key} {_show(value)} occurs {len(its)} times{which}, but every {noun} must have its own"


def _image(entry: dict[str, Any], known: _Known) -> Found:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        yield "error", f"file_name is {_show(name)}, but must be the name of a file in images/"
    elif leaves_folder(name):
        yield "error", f"file_name {_show(name)} leaves images/: give it relative to images/, without '..'{known.meant(name)}"
    for key in ("width", "height"):
        if not _whole(entry.get(key)) or entry[key] < 1:
            yield "error", f"{key} is {_show(entry.get(key))}, but must be a whole number of pixels from 1"
    if (sides := _sides(entry)) and min(sides) < SMALLEST_SIDE:
        yield "note", f"it is {sides[0]}x{sides[1]} pixels: training leaves out images under {SMALLEST_SIDE} px a side"


def _annotation(entry: dict[str, Any], known: _Known) -> Found:
    ids: Collection[int]
    for key, table, ids in (("image_id", "images", known.sides), ("category_id", "categories", known.categories)):
        if not _whole(entry.get(key)):
            without_quotes = ": write the number without quotes" if _means(entry.get(key), ids) else ""
            yield "error", f"{key} is {_show(entry.get(key))}, but must be the id of an entry in {table}{without_quotes}"
        elif entry[key] not in ids:
            yield "error", f"{key} {entry[key]} is unknown: {table} lists {listed(sorted(ids))}"
    if entry.get("iscrowd", 0) not in (0, 1):
        yield "error", f"iscrowd is {_show(entry['iscrowd'])}, but must be 0 or 1"
    if entry.get("ignore") and not entry.get("iscrowd"):
        yield "note", '`ignore` hides it from training but not from the evaluation: use "iscrowd": 1 for both'


def _means(value: Any, ids: Collection[int]) -> bool:
    """Whether a text is the number of an id."""
    return isinstance(value, str) and value.strip().isdecimal() and int(value) in ids


def _bbox(entry: dict[str, Any], known: _Known | None) -> Found:
    """Of the box and its area. known is None when the box has another form than x, y, width, height in pixels: whether it
    fits its image is then no question."""
    bbox = entry.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_number(value) for value in bbox):
        yield "error", f"bbox is {_show(bbox)}, but must be four numbers: x, y, width, height in pixels"
        yield from _area(entry, None)
    elif not all(math.isfinite(value) for value in bbox):
        yield "error", f"bbox {_show(bbox)} is not finite: draw the box again, or delete the annotation"
        yield from _area(entry, None)
    elif known is None:
        yield from _area(entry, None)
    else:
        yield from _box(bbox, known.sides.get(entry["image_id"]) if _whole(entry.get("image_id")) else None)
        yield from _area(entry, bbox[2] * bbox[3])


def _box(box_xywh: list[float], sides: Sides | None) -> Found:
    """`sides` are those of its image, None when they are broken themselves."""
    (x, y, width, height), shown = box_xywh, f"bbox {_show(box_xywh)}"
    if width < 0 or height < 0:
        yield "error", f"{shown} has a negative width or height: it is x, y, width, height, not two corners"
        return
    if width == 0 or height == 0:
        yield "error", f"{shown} is empty: draw the box again, or delete the annotation"
        return
    if width < 1 or height < 1:
        yield "note", f"{shown} has a side under 1 pixel: training leaves it out, the evaluation does not"
    if sides:
        image = f"the image of {sides[0]}x{sides[1]} pixels"
        inside = _overlap(x, width, sides[0]) * _overlap(y, height, sides[1])
        beyond = max(-x, -y, x + width - sides[0], y + height - sides[1])
        if inside < 0.5 * width * height:
            part = "more than half " if inside else ""
            yield "error", f"{shown} lies {part}outside {image}: draw it where the object is, or delete the annotation"
        elif beyond > MOST_OUTSIDE:
            yield "note", f"{shown} sticks out of {image} by {beyond:g}: training clips it, the evaluation does not"


def _overlap(low: float, length: float, side: float) -> float:
    return max(0.0, min(low + length, side) - max(low, 0.0))


def _area(entry: dict[str, Any], box_area: float | None) -> Found:
    """`box_area` is None when the box is broken. A mask may fill little of its box, but never more than it."""
    area = entry.get("area")
    if area is None:
        state = "null" if "area" in entry else "missing"
        yield "error", f"area is {state}: it is the object's size; without a mask it is width * height of bbox"
    elif not _number(area) or not math.isfinite(area) or area <= 0:
        yield "error", f"area is {_show(area)}, but must be a number of pixels² over 0"
    elif box_area and box_area > 0:
        share = area / box_area
        if share > 1.05 or (share < 0.95 and not entry.get("segmentation")):
            yield "note", f"area {area:g} is {share:.2g} times bbox's {box_area:g}; an object's size goes by its area"


def _sides(entry: dict[str, Any]) -> Sides | None:
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if _whole(width) and _whole(height) and width > 0 and height > 0 else None


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_INT


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, float) or _whole(value)


def _show(value: Any) -> str:
    """The value, cut when it is long; a missing one is said to be missing."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(values: list[Any], most: int = 10) -> str:
    """`3, 7, 9 and 12 more`."""
    return (", ".join(map(str, values[:most])) or "none") + (f" and {len(values) - most} more" if values[most:] else "")
