"""What a COCO file holds, and how it is read: shared by every file of this room."""

from __future__ import annotations

import gc
import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypedDict

from workbook.errors import WorkbookError
from workbook.evaluation.sizes import AREA_RANGES, SIZES, in_size

TABLES = ("images", "annotations", "categories")
SMALLEST_SIDE = 32  # pixels: training passes over images with a smaller side
# table → the keys of its entries that hold whole numbers
WHOLE_NUMBERS = {"images": ("id", "width", "height"), "annotations": ("id", "image_id", "category_id"), "categories": ("id",)}
LARGEST_EXACT = 2**53  # beyond it a float may stand for several whole numbers
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # JSON may write one half of a pair, which cannot be printed or stored


class DataError(WorkbookError):
    """A dataset cannot be used; the message says which, why and what to do."""


class Image(TypedDict):
    """One picture: `file_name` is relative to `images/`, sizes are in pixels as training reads the file."""

    id: int
    file_name: str
    width: int
    height: int


class Annotation(TypedDict):
    """One object: `bbox` is x, y, w, h in pixels, `area` in pixels²; `iscrowd` 1 marks a region to excuse."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


class Category(TypedDict):
    id: int
    name: str


class Coco(TypedDict):
    """The three tables of a COCO file, as its readers here use them."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


def read_coco(path: Path) -> Coco:
    """The content of a COCO file; whether its entries are sound is for `check_dataset` to say. Ids and sides that are
    written 1.0 are 1, and a null `iscrowd` is a missing one.

    A file is parsed once a process and shared by all who ask, so nobody may change what is returned; a file whose
    size, inode or times are others is parsed again. Raises DataError when it is missing, is no JSON, or lacks one of
    the three tables.
    """
    try:
        stat = path.stat()
    except OSError:
        return _parse(path)  # which says what is wrong
    return _parsed(path.absolute(), (stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=4)  # train and val of two datasets: a large one takes gigabytes
def _parsed(path: Path, stamp: tuple[int, int, int, int]) -> Coco:
    """`stamp` keeps the content of an old file from being given for a new one."""
    with _without_collection():
        return _parse(path)


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for cycles meanwhile: a million new dicts set it off again and again, and it finds none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _parse(path: Path) -> Coco:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if HALF_CHARACTER.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise DataError(f"{path} is missing{_what_to_do(path)}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeEncodeError as error:
        raise DataError(f"{path} holds half a character, {error.object[error.start]!r}, which no file or class can be called: "
                        "export it again") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}. Is it cut off? Copy or export it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not an object with the lists {', '.join(TABLES)}")
    if wrong := [name for name in TABLES if not isinstance(content.get(name), list)]:
        raise DataError(f"{path} has no list {', '.join(wrong)}; it has: {', '.join(map(str, content)) or 'nothing'}. "
                        f"A COCO file is an object with the lists {', '.join(TABLES)}")
    for name, keys in WHOLE_NUMBERS.items():
        for entry in filter(partial(_is_unsettled, keys), content[name]):
            _settle(entry, keys)
    return content  # type: ignore[return-value]


def _is_unsettled(whole_numbers: Collection[str], entry: Any) -> bool:
    """Whether `_settle` may change it: it is asked of every entry, and nearly none is."""
    return isinstance(entry, dict) and (entry.get("iscrowd", 0) is None or float in map(type, map(entry.get, whole_numbers)))


def _settle(entry: dict[str, Any], whole_numbers: Collection[str]) -> None:
    """What exporters write in two ways becomes one: 1.0 is 1, as JSON has one kind of numbers, and an `iscrowd` of null is
    a missing one. Nothing else is changed: the content hash of a file that was accepted before must stay."""
    for key in whole_numbers:
        value = entry.get(key)
        if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
            entry[key] = int(value)
    if "iscrowd" in entry and entry["iscrowd"] is None:
        del entry["iscrowd"]


def _what_to_do(path: Path) -> str:
    name, whole = path.parent.name, path.with_name("train.json").exists()
    if path.name == "val.json" and whole:
        return f": `workbook split {name}` makes it from train.json"
    return f": a dataset is {name}/train.json, {name}/val.json and {name}/images/ in COCO format (see data/README.md)"


def content_hash(coco: Coco) -> str:
    """sha256 of the three tables. Spaces, the order of keys and other tables (`info`, `licenses`) have no influence.

    The order of images does: it is part of the order in which training sees them.
    """
    tables: dict[str, Any] = {name: coco[name] for name in TABLES}  # type: ignore[literal-required]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def of_classes(coco: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The ground truth of these classes, as a run that was trained for them is evaluated: every image, their
    annotations."""
    categories = [category for category in coco["categories"] if category["name"] in names]
    known = {category["id"] for category in categories}
    annotations = [a for a in coco["annotations"] if a["category_id"] in known]
    return {"images": coco["images"], "categories": categories, "annotations": annotations}


def is_crowd(annotation: Annotation) -> bool:
    """Crowds are regions to excuse, not objects to find; a missing `iscrowd` means an object."""
    return bool(annotation.get("iscrowd", 0))


def size_counts(annotations: list[Annotation]) -> Counter[str]:
    """How many objects (no crowds) are small, medium and large."""
    areas = [a["area"] for a in annotations if not a.get("iscrowd", 0)]
    counted = Counter({size: int(in_size(areas, size).sum()) for size in SIZES})
    counted["large"] += sum(area > AREA_RANGES["large"][1] for area in areas)  # which has no upper border here
    return +counted
