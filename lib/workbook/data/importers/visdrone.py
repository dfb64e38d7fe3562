"""VisDrone-DET: folders with images/ and annotations/, a text an image. FiftyOne has no importer of it.

A line is left,top,width,height,score,category,truncation,occlusion in whole pixels. As the VisDrone2018-DET-toolkit has
it, category 0 is an ignored region, 11 is `others`, and a score of 0 marks an object that is not counted. It drops
detections in an ignored region whatever their class, so such a region becomes a crowd of each class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbook.data.importers.collect import Collector, number
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import Source
from workbook.data.importers.texts import some_lines

CLASSES = ("pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor")
REGION = 0
OTHERS = 11
BACKGROUND = "images without a text, taken as images without objects"
REGIONS = "ignored regions and `others`, each a crowd of all ten classes"


def _texts(source: Source) -> list[Path]:
    return [path for path in source.with_suffix(".txt") if path.parent.name == "annotations"]


def _matches(source: Source) -> str:
    return next((source.shown(path) for path in _texts(source)[:20] if _is_label(some_lines(path, 1))), "")


def _is_label(lines: list[str]) -> bool:
    words = lines[0].rstrip(",").split(",") if lines else []
    return len(words) == 8 and all(word.strip().lstrip("-").isdigit() for word in words)


def _read(source: Source) -> Imported:
    found = Collector(source)
    labelled: set[Path] = set()
    for path in found.each(_texts(source), "reading labels"):
        split = source.split_of(path)
        folder = path.parent.parent
        image = found.image_of(path, f"{folder.name}/images/{path.stem}", folder / "images", split)
        if image is None:
            continue
        labelled.add(image)
        found.add(image, split, list(_boxes(path, found)))
    for image in source.images if source.file is None else ():
        if image not in labelled:
            found.note(BACKGROUND, image)
            found.add(image, source.split_of(image), ())
    return found.done("visdrone", CLASSES)


def _boxes(path: Path, found: Collector) -> Iterator[Box]:
    for index, line in enumerate(found.lines(path), 1):
        words = line.strip().rstrip(",").split(",")
        if words == [""]:
            continue
        try:
            yield from _of_line(words, path, found)
        except ValueError as error:
            found.problem(path, str(error), f"line {index}")


def _of_line(words: list[str], path: Path, found: Collector) -> list[Box]:
    """Raises ValueError, with words for people."""
    if len(words) != 8:
        raise ValueError(f"it has {len(words)} numbers, but must have 8: "
                         "left,top,width,height,score,category,truncation,occlusion")
    left, top, width, height, score, category, truncation, occlusion = (number(word, f"{word!r}") for word in words)
    if width < 0 or height < 0:
        raise ValueError("width or height is negative: a line begins with left,top,width,height, not with two corners")
    if category not in range(OTHERS + 1):
        raise ValueError(f"category {category:g} is unknown: 0 is an ignored region, 1 to 10 are classes, 11 is others")
    xywh = (left, top, width, height)
    if category in (REGION, OTHERS):
        found.note(REGIONS, path)
        return [Box(name, xywh, crowd=True) for name in CLASSES]
    degrees = {"truncated": int(truncation), "occluded": int(occlusion)}
    fields = {key: value for key, value in degrees.items() if value > 0}
    return [Box(CLASSES[int(category) - 1], xywh, crowd=score == 0, fields=fields)]


VISDRONE = Importer("visdrone", "VisDrone", "annotations/ with texts of 8 numbers a line, beside "
                                            "images/", _matches, _read)
