"""labelme's own files: a json an image, with shapes. FiftyOne has no importer of them.

labelme 5 writes a rectangle as two corners of either diagonal, a circle as middle and edge, a mask as the corners of
its first and last pixel. Shapes of one label and one group_id are parts of one object, as in labelme's own
examples/instance_segmentation/labelme2coco.py. labelme applies the EXIF orientation before it draws, so sizes and
points are those of the upright image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbook.data.importers.collect import Collector, number
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import SeveralFit, Source
from workbook.data.importers.texts import first_of_kind, kind, read_json
from workbook.data.importers.upright import around, polygon_area

NO_CLASSES = ("__ignore__", "_background_")  # which labels.txt begins with
FLAT = ("point", "points", "line", "linestrip")
NO_BOX = "points and lines, left out: they enclose nothing"
IGNORED = "shapes called __ignore__ or _background_, left out"
OTHERS = "json files without shapes, left out"


def _matches(source: Source) -> str:
    return first_of_kind(source, "labelme")


def _read(source: Source) -> Imported:
    found = Collector(source)
    names: list[str] = []
    for path in found.each(source.with_suffix(".json"), "reading labels"):
        try:
            content = read_json(path)
        except ValueError as error:
            found.problem(path, str(error))
            continue
        if kind(content) != "labelme":
            found.note(OTHERS, path)
            continue
        boxes = _boxes(path, content, found)
        names += [box.name for box in boxes]
        image = _image(path, content, found)
        if image is not None:
            flags = {key: value for key, value in (content.get("flags") or {}).items() if value}
            found.add(image, source.split_of(path) or source.split_of(image), boxes, _recorded(content), flags)
    return found.done("labelme", _classes(found, names))


def _image(path: Path, content: Mapping[str, Any], found: Collector) -> Path | None:
    name = str(content["imagePath"] or "")
    try:
        image = found.source.find_image(name, path.parent) or found.source.find_stem(path.stem, path.parent)
    except SeveralFit as error:
        found.problem(path, str(error))
        return None
    if image is None:
        found.problem(path, f"the image {name} is not there: copy it there, or delete the json")
    return image


def _recorded(content: Mapping[str, Any]) -> tuple[int, int] | None:
    width = content.get("imageWidth")
    height = content.get("imageHeight")
    return (width, height) if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0 else None


def _boxes(path: Path, content: Mapping[str, Any], found: Collector) -> list[Box]:
    """The objects of one file; parts of one group are one object."""
    objects: dict[Any, list[Box]] = {}
    for index, shape in enumerate(content["shapes"], 1):
        if isinstance(shape, dict) and shape.get("shape_type") in FLAT:
            found.note(NO_BOX, path)
            continue
        if isinstance(shape, dict) and shape.get("label") in NO_CLASSES:
            found.note(IGNORED, path)
            continue
        try:
            box = _box(shape)
        except ValueError as error:
            found.problem(path, str(error), f"shape {index}")
            continue
        group = shape.get("group_id")
        objects.setdefault((box.name, group) if group is not None else index, []).append(box)
    return [parts[0] if len(parts) == 1 else _joined(parts) for parts in objects.values()]


def _box(shape: Any) -> Box:
    """Raises ValueError, with words for people."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise ValueError("it has no label: name the class, or delete the shape")
    points = _points(shape.get("points"))
    form = shape.get("shape_type") or "polygon"
    if form in ("rectangle", "mask", "circle") and len(points) < 2:
        raise ValueError(f"a {form} has two points, but this one {len(points)}: draw it again, or delete the shape")
    if form == "circle":
        radius = math.dist(points[0], points[1])
        x, y = points[0]
        return Box(shape["label"], (x - radius, y - radius, 2 * radius, 2 * radius), area=math.pi * radius**2 or None,
                   segmentation=[_circle(x, y, radius)])
    left, top, width, height = around(points)
    if form == "mask":  # from its first pixel to its last, both included
        return Box(shape["label"], (left, top, width + 1, height + 1))
    if form in ("rectangle", "rotation") and len(points) == 2:
        return Box(shape["label"], (left, top, width, height))
    if len(points) < 3:
        raise ValueError(f"a {form} has three points or more, but this one {len(points)}: draw it again, or delete "
                         "the shape")
    flat = [value for point in points for value in point]
    return Box(shape["label"], (left, top, width, height), area=polygon_area(points) or None, segmentation=[flat])


def _points(points: Any) -> list[tuple[float, float]]:
    sound = isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points)
    if not points or not sound:
        raise ValueError("the points are no list of x, y: draw it again, or delete the shape")
    return [(number(x, "x of a point"), number(y, "y of a point")) for x, y in points]


def _circle(x: float, y: float, radius: float) -> list[float]:
    """A polygon of 32 corners."""
    angles = [2 * math.pi * step / 32 for step in range(32)]
    return [value for angle in angles for value in (x + radius * math.cos(angle), y + radius * math.sin(angle))]


def _joined(parts: Sequence[Box]) -> Box:
    """One object of several shapes."""
    ends = [(x + width, y + height) for x, y, width, height in (part.xywh for part in parts)]
    xywh = around([*(part.xywh[:2] for part in parts), *ends])
    masks = [part.segmentation for part in parts]
    area = sum(part.area or part.xywh[2] * part.xywh[3] for part in parts)
    polygons = [polygon for mask in masks for polygon in mask] if all(masks) else None
    return Box(parts[0].name, xywh, area=area if polygons else None, segmentation=polygons)


def _classes(found: Collector, names: Sequence[str]) -> list[str]:
    """The order of labels.txt, which labelme is started with; else the alphabet's."""
    source = found.source
    texts = [path for path in source.files if path.name == "labels.txt"] if source.file is None else []
    listed = [name for path in texts[:1] for name in found.names(path)]
    return [*dict.fromkeys(name for name in listed if name not in NO_CLASSES), *sorted(set(names) - set(listed))]


LABELME = Importer("labelme", "labelme", "json files with shapes and imagePath", _matches, _read)
