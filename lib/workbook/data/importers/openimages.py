"""OpenImages V4 to V7: `*-annotations-bbox.csv` with class-descriptions, or the folders that FiftyOne downloads.

FiftyOne's OpenImagesV7DatasetImporter is not used (fiftyone/utils/openimages.py, 1.22). It reads only folders that
FiftyOne has downloaded, IsGroupOf excuses nothing, and importing it needs a database. The files list up to 1.7 million
images, of which most people have few: only the images that are there are read.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from workbook.data.importers.collect import Collector, corners, number
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import Source, split_of_file
from workbook.data.importers.tables import header, rows_with
from workbook.data.importers.upright import Upright

NEEDED = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
FLAGS = {"IsOccluded": "occluded", "IsTruncated": "truncated", "IsGroupOf": "IsGroupOf", "IsDepiction": "IsDepiction",
         "IsInside": "IsInside"}
NOT_THERE = "images that the csv lists and that are not there, left out"
BACKGROUND = "images that no csv lists, taken as images without objects"


def is_openimages(path: Path) -> bool:
    """Whether the csv holds OpenImages' boxes."""
    return set(NEEDED) <= set(header(path))


def _matches(source: Source) -> str:
    return next((source.shown(path) for path in source.with_suffix(".csv") if is_openimages(path)), "")


def _read(source: Source) -> Imported:
    found = Collector(source)
    names = _descriptions(found)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in source.images:
        by_stem[path.stem].append(path)
    listed: set[Path] = set()
    used: list[str] = []
    for path in (path for path in source.with_suffix(".csv") if is_openimages(path)):
        listed |= _add_table(path, by_stem, names, found, used)
    if not listed and not found.has_problems:
        found.problem(source.file or source.folder, "no image is there that a csv with the columns "
                                                    "" + ", ".join(NEEDED) + " lists")
    for image in source.images if source.file is None else ():
        if image not in listed:
            found.note(BACKGROUND, image)
            found.add(image, source.split_of(image), ())
    order = {name: index for index, name in enumerate(names.values())}
    return found.done("openimages", sorted(set(used), key=lambda name: (order.get(name, len(order)), name)))


def _descriptions(found: Collector) -> dict[str, str]:
    """/m/0k4j → Car, in the order of class-descriptions*.csv, or of the classes.csv of FiftyOne."""
    files = [path for path in found.source.files
             if path.suffix == ".csv" and (path.name.startswith("class-descriptions") or path.name == "classes.csv")]
    lines = [line.split(",", 1) for path in files[:1] for line in found.lines(path) if "," in line]
    return {key.strip(): name.strip().strip('"') for key, name in lines if key.strip() != "LabelName"}


def _add_table(path: Path, by_stem: dict[str, list[Path]], names: dict[str, str], found: Collector,
               used: list[str]) -> set[Path]:
    """Adds the images of one csv that are there; returns their paths, and adds the classes to `used`."""
    try:
        listed: set[str] = set()
        there = rows_with(path, "ImageID", by_stem.keys(), listed)
    except ValueError as error:
        found.problem(path, str(error))
        return set()
    split = split_of_file(path.stem) or found.source.split_of(path)
    for stem in sorted(listed - by_stem.keys()):
        found.note(NOT_THERE, stem)
    images: set[Path] = set()
    for stem, rows in found.each(list(there.groupby("ImageID", sort=False)), f"reading {path.name}", "image"):
        image = _image(by_stem[stem], split, path, found)
        size = found.size_of(image) if image is not None else None
        if image is None or size is None:
            continue
        boxes = []
        for index, row in rows.iterrows():
            try:
                boxes.append(_box(row, names, size))
            except ValueError as error:
                found.problem(path, str(error), f"line {index + 2}")
        used += [box.name for box in boxes]
        images.add(image)
        found.add(image, split, boxes)
    return images


def _image(candidates: list[Path], split: str, path: Path, found: Collector) -> Path | None:
    fitting = [image for image in candidates if found.source.split_of(image) == split] or candidates
    if len(fitting) > 1:
        found.problem(path, f"{' and '.join(map(found.source.shown, fitting[:3]))} both fit ImageID "
                            f"{fitting[0].stem}: rename or move one")
        return None
    return fitting[0]


def _box(row: Any, names: dict[str, str], size: Upright) -> Box:
    """Raises ValueError, with words for people."""
    xmin, ymin, xmax, ymax = (number(row[key], key) for key in ("XMin", "YMin", "XMax", "YMax"))
    if not all(-0.01 <= share <= 1.01 for share in (xmin, ymin, xmax, ymax)):
        raise ValueError("XMin, XMax, YMin, YMax must be shares of the image, within 0 to 1")
    xywh = corners(xmin * size.width, ymin * size.height, xmax * size.width, ymax * size.height)
    flags = {name: 1 for key, name in FLAGS.items() if row.get(key) == "1"}
    return Box(names.get(row["LabelName"], row["LabelName"]), xywh, crowd="IsGroupOf" in flags, fields=flags)


OPENIMAGES = Importer("openimages", "OpenImages", "a csv with ImageID, LabelName, XMin, XMax, YMin, "
                                                  "YMax", _matches, _read)
