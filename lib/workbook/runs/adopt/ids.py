"""What the ids of foreign results stand for in val.json. There may be several readings; the AP of each decides (`choose.py`).

ultralytics writes the stem of a file as `image_id`, as a number where it is one, and as `category_id` the place of the class, counted
from 1 since the end of 2024 and from 0 before. detectron2 counts from 0 where the data were not registered from a COCO file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from workbook.data.reading import Category, Image
from workbook.runs.adopt.errors import AdoptError, listed

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True)
class Reading:
    """One way to read the ids: in words, and the id of val.json for each entry."""

    words: str
    ids: tuple[int, ...]


def image_readings(entries: Sequence[Mapping[str, Any]], images: Sequence[Image]) -> list[Reading]:
    """How the images of the results can be read, the most literal way first: by file name where every entry has one, else by id
    and by the stem of the file name.

    Raises AdoptError that lists the images that are not in val.json, and those that may be two.
    """
    if all(isinstance(entry.get("file_name"), str) for entry in entries):
        return [_by_name([entry["file_name"] for entry in entries], images)]
    asked = [entry["image_id"] for entry in entries]
    known = {image["id"] for image in images}
    readings = [Reading("image_id as in val.json", tuple(asked))] if known.issuperset(asked) else []
    try:
        by_stem = Reading("image_id as the stem of the file name", _resolve(asked, images, [_stem]))
    except AdoptError:
        if readings:
            return readings
        if not known.isdisjoint(asked):  # some are ids of val.json, so what is wrong is said of ids
            by_id = {id_: [id_] if id_ in known else [] for id_ in asked}
            raise AdoptError("\n".join(_unknown(by_id, images))) from None
        raise
    return _without_repeats([*readings, by_stem])


def category_readings(entries: Sequence[Mapping[str, Any]], categories: Sequence[Category]) -> list[Reading]:
    """How the classes of the results can be read, the most literal way first: by name where every entry has one, else as ids of
    val.json, or as places from 1 or 0.

    Raises AdoptError with the classes of both sides where none fits.
    """
    known = {category["id"]: category["name"] for category in categories}
    classes = ", ".join(f"{id_} {known[id_]}" for id_ in sorted(known))
    if all(isinstance(entry.get("category_name"), str) for entry in entries):
        return [_by_class_name([entry["category_name"] for entry in entries], {name: id_ for id_, name in known.items()})]
    asked = [entry["category_id"] for entry in entries]
    ids = sorted(known)
    tables = {
        "category_id as in val.json": {id_: id_ for id_ in ids},
        "category_id as the place of the class, from 1": dict(enumerate(ids, start=1)),
        "category_id as the place of the class, from 0": dict(enumerate(ids)),
    }
    readings = [Reading(words, tuple(table[id_] for id_ in asked)) for words, table in tables.items() if table.keys() >= set(asked)]
    if not readings:
        raise AdoptError(f"the results name category_id {listed(sorted(set(asked)))}, and val.json lists {classes}: they are neither its "
                         "ids nor places of its classes. Give the dataset that the detector was trained on, or write the ids of val.json")
    return _without_repeats(readings)


def _by_class_name(asked: Sequence[str], known: Mapping[str, int]) -> Reading:
    if unknown := sorted(set(asked) - known.keys()):
        raise AdoptError(f"the results name classes that val.json does not have: {listed(unknown)}. Theirs: "
                         f"{', '.join(sorted(set(asked)))}. Of val.json: {', '.join(known)}. Rename them in the results, or give the "
                         "dataset that the detector was trained on")
    return Reading("classes by category_name", tuple(known[name] for name in asked))


def by_stem(stems: Sequence[str], images: Sequence[Image]) -> dict[str, int]:
    """The id of the image for each stem of a file name. Raises AdoptError for those that fit no image, or several."""
    return dict(zip(stems, _resolve(stems, images, [_stem]), strict=True))


def _by_name(asked: Sequence[str], images: Sequence[Image]) -> Reading:
    return Reading("images by file_name", _resolve(asked, images, [_posix, _base, _stem]))


def _resolve(asked: Sequence[Any], images: Sequence[Image], keys: Sequence[Callable[[Any], str]]) -> tuple[int, ...]:
    """The id of the image for each name: the first of `keys` under which val.json has any decides, and it must have one alone."""
    tables = [_table(images, key) for key in keys]
    found = {name: next((table[key(name)] for key, table in zip(keys, tables, strict=True) if key(name) in table), [])
             for name in dict.fromkeys(asked)}
    if wrong := [*_unknown(found, images), *_double(found, images)]:
        raise AdoptError("\n".join(wrong))
    return tuple(found[name][0] for name in asked)


def _unknown(found: Mapping[Any, Sequence[int]], images: Sequence[Image]) -> Iterator[str]:
    unknown = [name for name, matches in found.items() if not matches]
    if unknown:
        names = listed(sorted(image["file_name"] for image in images))
        ids = listed(sorted(image["id"] for image in images))
        yield (f"{len(unknown)} of the {len(found)} images of the results are not in val.json: {listed(unknown)}. val.json has {names}, "
               f"with the ids {ids}. Evaluate the detector on the images of val.json, or give the dataset that it was evaluated on")


def _double(found: Mapping[Any, Sequence[int]], images: Sequence[Image]) -> Iterator[str]:
    double = {name: matches for name, matches in found.items() if len(matches) > 1}
    if double:
        names = {image["id"]: image["file_name"] for image in images}
        words = [f"{name} may be {' or '.join(names[id_] for id_ in matches)}" for name, matches in double.items()]
        yield (f"{len(double)} of the {len(found)} images of the results fit several of val.json: {listed(words)}. Write the ids of "
               "val.json as image_id, or give each file a name of its own")


def _table(images: Sequence[Image], key: Callable[[Any], str]) -> dict[str, list[int]]:
    table = defaultdict(list)
    for image in images:
        table[key(image["file_name"])].append(image["id"])
    return table


def _posix(name: Any) -> str:
    return str(name).replace("\\", "/")


def _base(name: Any) -> str:
    return PurePosixPath(_posix(name)).name


def _stem(name: Any) -> str:
    """`a/0007.jpg` and 7 → `7`: a number loses its leading zeros, as ultralytics writes it."""
    base = PurePosixPath(_base(name))
    stem = base.stem if base.suffix.lower() in ENDINGS else base.name
    return str(int(stem)) if stem.isdecimal() else stem


def _without_repeats(readings: Sequence[Reading]) -> list[Reading]:
    """Of readings that give the same ids the first."""
    first: dict[tuple[int, ...], Reading] = {}
    for reading in readings:
        first.setdefault(reading.ids, reading)
    return list(first.values())
