"""DOTA: labelTxt/ with a text an image, quadrilaterals that become upright boxes. FiftyOne has no importer of it.

A text may begin with `imagesource:` and `gsd:` (v1.0); a line is x1 y1 x2 y2 x3 y3 x4 y4 category difficult, in pixels.
As in CAPTAIN-WHU/DOTA_devkit's DOTA2COCO.py the box is the upright one, and the area that of the quadrilateral, which
stays as the mask. The order of the classes is the devkit's; those that are new in v1.5 and v2.0 stand behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workbook.data.importers.collect import Collector, number
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import Source
from workbook.data.importers.texts import some_lines
from workbook.data.importers.upright import around, polygon_area

CLASSES = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle", "ship",
    "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout", "harbor", "swimming-pool",
    "helicopter", "container-crane", "airport", "helipad")
SINCE_15 = ("container-crane",)
SINCE_20 = ("airport", "helipad")
HEADERS = ("imagesource", "gsd", "acquisition dates")
BACKGROUND = "images without a text, taken as images without objects"


def _matches(source: Source) -> str:
    texts = (path for path in source.with_suffix(".txt"))
    return next((source.shown(path) for path in list(texts)[:200] if _is_label(some_lines(path))), "")


def _is_header(line: str) -> bool:
    return line.split(":")[0].strip().lower() in HEADERS


def _is_label(lines: Sequence[str]) -> bool:
    first = next((line.split() for line in lines if not _is_header(line)), [])
    try:
        [float(word) for word in first[:8]]
    except ValueError:
        return False
    return len(first) in (9, 10) and not _is_number(first[8])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _read(source: Source) -> Imported:
    found = Collector(source)
    names: list[str] = []
    labelled: set[Path] = set()
    texts = [path for path in source.with_suffix(".txt")
             if path.parent.name.startswith("labelTxt") or _is_label(some_lines(path))]
    for path in found.each(texts, "reading labels"):
        split = source.split_of(path)
        image = found.image_of(path, path.stem, path.parent.parent / "images", split)
        if image is None:
            continue
        labelled.add(image)
        lines = list(enumerate(found.lines(path), 1))
        header = _header([line for _, line in lines if _is_header(line)])
        rows = [(index, line) for index, line in lines if line.strip() and not _is_header(line)]
        boxes = list(_boxes(path, rows, found))
        names += [box.name for box in boxes]
        found.add(image, split or source.split_of(image), boxes, fields=header)
    for image in source.images if source.file is None else ():
        if image not in labelled:
            found.note(BACKGROUND, image)
            found.add(image, source.split_of(image), ())
    return found.done("dota", _classes(names))


def _header(lines: Sequence[str]) -> dict[str, Any]:
    """gsd is the length of a pixel on the ground, in metres; it may be null."""
    fields: dict[str, Any] = {}
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if value and value.lower() not in ("null", "none"):
            fields[key] = float(value) if _is_number(value) else value
    return fields


def _boxes(path: Path, lines: Sequence[tuple[int, str]], found: Collector) -> Iterator[Box]:
    for index, line in lines:
        try:
            yield _box(line.split())
        except ValueError as error:
            found.problem(path, str(error), f"line {index}")


def _box(words: Sequence[str]) -> Box:
    """Raises ValueError, with words for people."""
    if len(words) not in (9, 10) or _is_number(words[8]):
        raise ValueError(f"it is `{' '.join(words)[:60]}`, but must be x1 y1 x2 y2 x3 y3 x4 y4 category difficult")
    values = [number(word, f"number {index}") for index, word in enumerate(words[:8], 1)]
    points = list(zip(values[::2], values[1::2], strict=True))
    difficult = words[9] if len(words) == 10 else "0"
    fields = {"difficult": int(number(difficult, "difficult"))} if difficult != "0" else {}
    area = polygon_area(points) or None
    return Box(words[8], around(points), bool(fields), area, [values], fields)


def _classes(names: Sequence[str]) -> list[str]:
    """DOTA's own, as many as its version has; other names by the alphabet."""
    if not set(names) <= set(CLASSES):
        return sorted(set(names))
    later = () if set(names) & set(SINCE_20) else SINCE_20
    latest = () if later == () or set(names) & set(SINCE_15) else SINCE_15
    return [name for name in CLASSES if name not in later and name not in latest]


DOTA = Importer("dota", "DOTA", "texts (labelTxt/) with four corners and a category a line", _matches, _read)
