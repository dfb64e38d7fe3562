"""COCO, as the COCO data set, Roboflow, CVAT, Label Studio, labelme and FiftyOne write it: a split a file or a folder.

FiftyOne's COCODetectionDatasetImporter is not used (fiftyone/utils/coco.py, 1.22). It reads one file, and stops at the
first image that is not there or has no width. The later of two equal image ids wins, and two categories of one name
become one class. An object with a mask and no box is dropped. Importing it needs a database.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from workbook.data.importers.collect import Collector
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import SeveralFit, Source, split_of_file
from workbook.data.importers.texts import first_of_kind, kind, read_json
from workbook.data.importers.upright import around, polygon_area

BESIDE_INSTANCES = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
BACKGROUNDS = ("_background_", "__ignore__")  # which labelme's labels.txt begins with
OWN_KEYS = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name"),
            "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")}
NO_AREA = "objects without an area, whose area is that of their mask or box"
NO_BOX = "objects without a box, whose box is the one around their mask"
UNLISTED = "image files that no json lists, left out"
DERIVED = "files of other tasks on the same images, left out"
HALVED = "the whole set, beside the train.json and val.json that it was split into, left out"
GROUPS = "classes that are a group or the background and have no object, left out"


@dataclass(frozen=True)
class _File:
    path: Path
    content: Mapping[str, Any]
    split: str
    names: Mapping[Any, str]  # category id → name


def _matches(source: Source) -> str:
    return first_of_kind(source, "coco")


def _read(source: Source) -> Imported:
    found = Collector(source)
    contents = _contents(source, found)
    files = [_File(path, content, split_of_file(path.stem) or source.split_of(path), _names(path, content, found))
             for path, content in contents.items()]
    used: set[Path] = set()
    for file in files:
        used |= _add_file(file, found)
    if source.file is None:
        for path in source.images:
            if path not in used:
                found.note(UNLISTED, path)
    classes, class_fields = _classes(files, found)
    licenses = [content["licenses"] for content in contents.values() if content.get("licenses")]
    tables = {"licenses": licenses[0]} if licenses and all(other == licenses[0] for other in licenses) else {}
    return found.done("coco", classes, class_fields=class_fields, tables=tables)


def _contents(source: Source, found: Collector) -> dict[Path, Mapping[str, Any]]:
    """The COCO files; those of other tasks are left out where there is one of instances."""
    contents: dict[Path, Mapping[str, Any]] = {}
    for path in source.with_suffix(".json"):
        try:
            content = read_json(path)
        except ValueError as error:
            found.problem(path, str(error))
            continue
        if kind(content) == "coco":
            contents[path] = content
    if not contents:
        found.problem(source.file or source.folder, "no json with the lists images, annotations and categories")
    if any(path.name.startswith("instances_") for path in contents):
        for path in [path for path in contents if path.name.startswith(BESIDE_INSTANCES)]:
            found.note(DERIVED, path)
            del contents[path]
    for path in [path for path in contents if _is_both_halves(path, contents)]:
        found.note(HALVED, path)
        del contents[path]
    return contents


def _is_both_halves(path: Path, contents: Mapping[Path, Mapping[str, Any]]) -> bool:
    """It is the `all.json` that `workbook split` leaves: its images are those of train.json and val.json beside it."""
    halves = [contents.get(path.with_name(name)) for name in ("train.json", "val.json")]
    if path.name != "all.json" or None in halves:
        return False
    whole, *parts = (_file_names(content) for content in (contents[path], *halves) if content is not None)
    return whole == set().union(*parts)


def _file_names(content: Mapping[str, Any]) -> set[str]:
    return {str(entry.get("file_name")) for entry in content["images"] if isinstance(entry, dict)}


# ---- classes ---------------------------------------------------------------------------------------------------------


def _names(path: Path, content: Mapping[str, Any], found: Collector) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for index, entry in enumerate(content.get("categories") or []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip() or not _whole(entry.get("id")):
            found.problem(path, f"it is {entry!r}, but must have a whole number as id, and a "
                                "name", f"category at place {index} (from 0)")
        elif entry["id"] in names:
            found.problem(path, f"it is {names[entry['id']]!r} and {name!r}: give each class an id of its "
                                "own", f"category {entry['id']}")
        elif name in names.values():
            found.problem(path, f"{name!r} is listed twice: join the two, or rename one", f"category {entry['id']}")
        else:
            names[entry["id"]] = name
    return names


def _classes(files: Sequence[_File], found: Collector) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """By id in the first file, those that only later files list behind; with the further keys of their categories."""
    order = list(dict.fromkeys(file.names[id_] for file in files for id_ in sorted(file.names)))
    entries = [entry for file in files for entry in file.content.get("categories") or [] if isinstance(entry, dict)]
    groups = {entry.get("supercategory") for entry in entries if entry.get("supercategory") != entry.get("name")}
    annotations = [(file, a) for file in files for a in file.content.get("annotations") or [] if isinstance(a, dict)]
    with_objects = {file.names.get(a.get("category_id")) for file, a in annotations if _whole(a.get("category_id"))}
    left_out = [name for name in order if name not in with_objects and (name in groups or name in BACKGROUNDS)]
    for name in left_out:
        found.note(GROUPS, name)
    fields: dict[str, dict[str, Any]] = {}
    for entry in entries:
        fields.setdefault(str(entry.get("name")), _others(entry, "categories"))
    classes = [name for name in order if name not in left_out]
    return classes, {name: fields[name] for name in classes if fields.get(name)}


# ---- images and objects ----------------------------------------------------------------------------------------------


def _add_file(file: _File, found: Collector) -> set[Path]:
    """Adds the images of one file; returns their paths."""
    annotations = _by_image(file, found)
    paths: set[Path] = set()
    ids: set[Any] = set()
    for index, entry in enumerate(found.each(file.content["images"], f"reading {file.path.name}", "image")):
        id_ = entry.get("id") if isinstance(entry, dict) else None
        if not _whole(id_) or not isinstance(entry.get("file_name"), str):
            found.problem(file.path, "it must have a whole number as id, and a file_name",
                          f"image at place {index} (from 0)")
            continue
        if id_ in ids:
            found.problem(file.path, "the id is given to several images: number them anew, with their "
                                     "annotations", f"image {id_}")
            continue
        ids.add(id_)
        if (path := _image_path(file, entry, found)) is not None:
            paths.add(path)
            boxes = list(_boxes(file, annotations.get(id_, []), found))
            split = file.split or found.source.split_of(path)
            found.add(path, split, boxes, _recorded(entry), _others(entry, "images"))
    for id_ in annotations.keys() - ids:
        found.problem(file.path, f"{len(annotations[id_])} annotation(s), such as {annotations[id_][0].get('id')}, "
                                 "are of an image that is "
                      "not listed: add it to images, or take them out", f"image_id {id_!r}")
    return paths


def _by_image(file: _File, found: Collector) -> dict[Any, list[dict[str, Any]]]:
    annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for index, entry in enumerate(file.content.get("annotations") or []):
        if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int | float | str):
            found.problem(file.path, "it has no image_id: add it, or take it out", f"annotation at place {index} "
                                                                                   "(from 0)")
        else:
            annotations[entry["image_id"]].append(entry)
    return annotations


def _image_path(file: _File, entry: Mapping[str, Any], found: Collector) -> Path | None:
    try:
        path = found.source.find_image(entry["file_name"], file.path.parent, file.split)
    except SeveralFit as error:
        found.problem(file.path, f"file_name {entry['file_name']!r}: {error}", f"image {entry['id']}")
        return None
    if path is None:
        found.problem(file.path, f"the file {entry['file_name']!r} is not there: copy it there, or take the image and "
                                 "all annotations of it out",
                      f"image {entry['id']}")
    return path


def _recorded(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    width = entry.get("width")
    height = entry.get("height")
    return (int(width), int(height)) if _whole(width) and _whole(height) and width > 0 and height > 0 else None


def _boxes(file: _File, annotations: Sequence[Mapping[str, Any]], found: Collector) -> Iterator[Box]:
    for entry in annotations:
        try:
            yield _box(file, entry, found)
        except ValueError as error:
            found.problem(file.path, str(error), f"annotation {entry.get('id')}")


def _box(file: _File, entry: Mapping[str, Any], found: Collector) -> Box:
    """Raises ValueError, with words for people."""
    name = file.names.get(entry.get("category_id")) if _whole(entry.get("category_id")) else None
    if name is None:
        known = ", ".join(map(str, sorted(file.names))) or "none"
        raise ValueError(f"category_id {entry.get('category_id')!r} is unknown: categories lists {known}")
    if entry.get("iscrowd") not in (None, 0, 1, False, True):
        raise ValueError(f"iscrowd is {entry['iscrowd']!r}, but must be 0 or 1")
    segmentation = entry.get("segmentation") or None
    xywh = _xywh(entry.get("bbox"))
    if xywh is None:
        xywh = _around_mask(segmentation)
        found.note(NO_BOX, file.path)
    area = entry.get("area")
    if not _positive(area):
        area = _area(segmentation)
        found.note(NO_AREA, file.path)
    crowd = bool(entry.get("iscrowd")) or bool(entry.get("ignore"))
    return Box(name, xywh, crowd, area, segmentation, _others(entry, "annotations"))


def _xywh(bbox: Any) -> tuple[float, float, float, float] | None:
    """None where there is no box. Raises ValueError when it is none that can be read."""
    if not bbox:
        return None
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(value, int | float) for value in bbox):
        raise ValueError(f"bbox is {bbox!r}, but must be four numbers: x, y, width, height in pixels")
    if not all(math.isfinite(value) for value in bbox):
        raise ValueError(f"bbox {bbox!r} is not finite: draw the box again, or delete the annotation")
    if bbox[2] < 0 or bbox[3] < 0:
        raise ValueError(f"bbox {bbox!r} has a negative width or height: it is x, y, width, height, not two corners")
    x, y, width, height = map(float, bbox)
    return x, y, width, height


def _around_mask(segmentation: Any) -> tuple[float, float, float, float]:
    if isinstance(segmentation, list) and all(isinstance(part, list) and len(part) >= 6 for part in segmentation):
        return around([point for part in segmentation for point in _points(part)])
    if isinstance(segmentation, dict):
        from pycocotools import mask  # which few files need

        x, y, width, height = mask.toBbox(_runs(segmentation)).tolist()
        return x, y, width, height
    raise ValueError("it has neither bbox nor segmentation: draw the box, or delete the annotation")


def _area(segmentation: Any) -> float | None:
    """Of a mask in pixels²; None without one. Parts of an object are taken as not overlapping."""
    if isinstance(segmentation, dict):
        from pycocotools import mask

        return float(mask.area(_runs(segmentation)))
    return sum(polygon_area(_points(part)) for part in segmentation or []) or None


def _runs(segmentation: Mapping[str, Any]) -> Any:
    from pycocotools import mask

    counts = segmentation.get("counts")
    size = segmentation.get("size")
    if not isinstance(counts, list | str) or not isinstance(size, list) or len(size) != 2:
        raise ValueError("segmentation is no mask of COCO, with counts and size: export it again, or delete the "
                         "annotation")
    return mask.frPyObjects(segmentation, *size) if isinstance(counts, list) else segmentation


def _points(part: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(part[::2], part[1::2], strict=False))


def _others(entry: Mapping[str, Any], table: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in OWN_KEYS[table]}


def _whole(value: Any) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and float(value).is_integer()


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


COCO = Importer("coco", "COCO", "json files with the lists images, annotations and categories", _matches, _read)
