"""Pascal VOC: an xml an image, as VOC itself, LabelImg, CVAT, Roboflow and FiftyOne write it.

FiftyOne's VOCDetectionDatasetImporter is not used (fiftyone/utils/voc.py, 1.22). It cuts the fractions of pixels off.
The corners of VOC's own files count from 1 with both ends included, and are read as if they counted from 0. `difficult`
excuses nothing, and ImageSets are not read. Importing it needs a database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from workbook.data.importers.collect import Collector, corners, number
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import SeveralFit, Source
from workbook.data.importers.texts import SAMPLED, some_lines

# the order of VOC's own classes: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, development kit, section 3
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
SETS = {"train": "train", "val": "val", "trainval": "train", "test": "test"}
WHOLE = ("truncated", "occluded", "difficult")  # fields of an object that are 0 or 1
BACKGROUND = "images without an xml, taken as images without objects"
# what <source> says in files whose corners count from 1: VOC's own, Roboflow's, and those of its library supervision
# (roboflow/supervision#144, and its object_to_pascal_voc in 0.31)
FROM_ONE_SOURCES = ("PASCAL VOC", "VOC2007 Database", "VOC2012 Database", "roboflow.ai", "roboflow.com")
FROM_ONE = "files whose corners count from 1 with both ends included, as VOC's do: turned to edges that count from 0"


def _matches(source: Source) -> str:
    for path in islice(source.with_suffix(".xml"), SAMPLED):
        if re.search("<annotation[ >]", " ".join(some_lines(path))):
            return source.shown(path)
    return ""


def _read(source: Source) -> Imported:
    found = Collector(source)
    sets = _sets(found)
    names: list[str] = []
    labelled: dict[Path, Path] = {}
    for path in found.each(source.with_suffix(".xml"), "reading labels"):
        root = _root(path, found)
        image = _image(path, root, found) if root is not None else None
        if root is None or image is None:
            continue
        if image in labelled:
            found.problem(path, f"{source.shown(labelled[image])} is of the same image {image.name}: delete the one "
                                "that is wrong")
            continue
        labelled[image] = path
        boxes = list(_boxes(path, root, found))
        names += [box.name for box in boxes]
        found.add(image, _split(image, sets, source), boxes, _recorded(root))
    _add_backgrounds(found, labelled, sets)
    return found.done("voc", _classes(found, names))


def _root(path: Path, found: Collector) -> ElementTree.Element | None:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        found.problem(path, f"it is not valid XML ({error}): is it cut off? Export it again")
        return None
    return root if root.tag == "annotation" else None


def _image(path: Path, root: ElementTree.Element, found: Collector) -> Path | None:
    """By the name of the xml, which a tool keeps true when files are renamed; else by <filename>."""
    source = found.source
    split = source.split_of(path)
    name = (root.findtext("filename") or "").strip()
    stem = path.relative_to(source.folder).with_suffix("").as_posix()
    try:
        image = source.find_stem(stem, path.parent, split) or source.find_image(name, path.parent, split)
    except SeveralFit as error:
        found.problem(path, str(error))
        return None
    if image is None:
        found.problem(path, f"the image {name or path.stem} is not there: copy it there, or delete the xml")
    return image


def _recorded(root: ElementTree.Element) -> tuple[int, int] | None:
    """Some tools leave the size out, or write 0."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _boxes(path: Path, root: ElementTree.Element, found: Collector) -> Iterator[Box]:
    origin = " ".join(root.findtext(f"source/{key}") or "" for key in ("annotation", "database"))
    from_one = any(words in origin for words in FROM_ONE_SOURCES)
    if from_one:
        found.note(FROM_ONE, path)
    for index, entry in enumerate(root.findall("object"), 1):
        try:
            yield _box(entry, from_one)
        except ValueError as error:
            found.problem(path, str(error), f"object {index}")


def _box(entry: ElementTree.Element, from_one: bool) -> Box:
    """Raises ValueError, with words for people."""
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise ValueError("it has no <name>: write the class there, or delete the object")
    outline = entry.find("bndbox")
    if outline is None:
        raise ValueError("it has no <bndbox> with xmin, ymin, xmax, ymax: draw the box, or delete the object")
    xmin, ymin, xmax, ymax = (number(outline.findtext(key), key) for key in ("xmin", "ymin", "xmax", "ymax"))
    shift = 1 if from_one else 0
    fields = _fields(entry)
    xywh = corners(xmin - shift, ymin - shift, xmax, ymax)
    return Box(name, xywh, crowd=bool(fields.get("difficult")), fields=fields)


def _fields(entry: ElementTree.Element) -> dict[str, Any]:
    """What VOC says of an object beside its box; CVAT writes more of it as attributes."""
    fields: dict[str, Any] = {key: 1 for key in WHOLE if (entry.findtext(key) or "").strip().lower() in ("1", "true")}
    pose = (entry.findtext("pose") or "").strip()
    if pose and pose != "Unspecified":
        fields["pose"] = pose
    attributes = {str(item.findtext("name")): item.findtext("value") for item in entry.findall("attributes/attribute")}
    return {**fields, **({"attributes": attributes} if attributes else {})}


def _sets(found: Collector) -> dict[str, str]:
    """The stem of an image → the split of ImageSets/Main; train and val go before trainval, which joins them."""
    lists = [path for path in found.source.files if path.parent.name == "Main" and path.suffix == ".txt"]
    sets: dict[str, str] = {}
    for name in ("train", "val", "test", "trainval"):
        for path in (path for path in lists if path.stem == name):
            for line in found.names(path):
                sets.setdefault(line, SETS[name])
    return sets


def _split(image: Path, sets: Mapping[str, str], source: Source) -> str:
    """By ImageSets, where an image is called by its stem, with the folders below JPEGImages before it."""
    parts = image.with_suffix("").parts
    for start in range(len(parts)):
        if (name := "/".join(parts[start:])) in sets:
            return sets[name]
    return "" if sets else source.split_of(image)


def _add_backgrounds(found: Collector, labelled: Mapping[Path, Path], sets: Mapping[str, str]) -> None:
    for image in found.source.images if found.source.file is None else ():
        if image not in labelled and image.parent.name not in ("SegmentationClass", "SegmentationObject"):
            found.note(BACKGROUND, image)
            found.add(image, _split(image, sets, found.source), ())


def _classes(found: Collector, names: list[str]) -> list[str]:
    """VOC numbers no classes: the order of labelmap.txt (CVAT) or classes.txt, else VOC's own, else the alphabet's."""
    listed = [name for name in _listed_classes(found) if name != "background" or name in names]
    if not listed and names and set(names) <= set(VOC_CLASSES):
        return list(VOC_CLASSES)
    return [*dict.fromkeys(listed), *sorted(set(names) - set(listed))]


def _listed_classes(found: Collector) -> list[str]:
    source = found.source
    for path in source.files if source.file is None else ():
        if path.name == "labelmap.txt":
            return [line.rsplit(":", 3)[0] for line in found.names(path) if not line.startswith("#")]
        if path.name in ("classes.txt", "predefined_classes.txt"):
            return found.names(path)
    return []


VOC = Importer("voc", "Pascal VOC", "xml files with <annotation>", _matches, _read)
