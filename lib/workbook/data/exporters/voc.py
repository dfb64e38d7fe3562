"""Pascal VOC: Annotations/, JPEGImages/, ImageSets/Main/, and CVAT's labelmap.txt for the order of the classes.

The corners are edges of pixels counted from 0, with fractions, as LabelImg, CVAT, Roboflow and FiftyOne write and read
them. VOC's own files count from 1 with both ends included; a reader knows them by <annotation>PASCAL VOC2007, which is
not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from workbook.data.exporters.record import (
    Notes,
    by_image,
    classes,
    copy_images,
    names_by_id,
    note_lost,
    require_own_stems,
    with_bar,
    write_labels,
)
from workbook.data.reading import Annotation, Coco, Image, is_crowd
from workbook.files import write_text

FIELDS = ("pose", "truncated", "occluded", "difficult")
CROWDS = "crowds, written as difficult: VOC's word for an object that is excused"


def write(source: Path, splits: Mapping[str, Coco], folder: Path, notes: Notes) -> None:
    """Raises DataError when two images would share an xml."""
    require_own_stems(splits, "VOC")
    copy_images(source, splits, folder / "JPEGImages")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for split, coco in splits.items():
        names = names_by_id(coco)
        annotations = by_image(coco)
        for image in with_bar(coco["images"], split):
            path = folder / "Annotations" / PurePosixPath(image["file_name"]).with_suffix(".xml")
            write_labels(path, _xml(image, annotations[image["id"]], names, notes))
        stems = [str(PurePosixPath(image["file_name"]).with_suffix("")) for image in coco["images"]]
        write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    lines = ["# label:color_rgb:parts:actions", *(f"{name}:::" for name in classes(splits))]
    write_text(folder / "labelmap.txt", "\n".join(lines) + "\n")


def _xml(image: Image, annotations: Sequence[Annotation], names: Mapping[int, str], notes: Notes) -> str:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", image["file_name"])
    _add(_add(root, "source"), "database", "Unknown")
    size = _add(root, "size")
    for side in ("width", "height"):
        _add(size, side, image[side])
    _add(size, "depth", 3)
    _add(root, "segmented", 0)
    for entry in annotations:
        _add_object(root, entry, names[entry["category_id"]])
        note_lost(notes, image["file_name"], entry, FIELDS)
        if is_crowd(entry) and "difficult" not in entry:
            notes.add(CROWDS, image["file_name"])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_object(root: ElementTree.Element, entry: Any, name: str) -> None:
    element = _add(root, "object")
    _add(element, "name", name)
    _add(element, "pose", entry.get("pose", "Unspecified"))
    for key in ("truncated", "occluded"):
        _add(element, key, int(bool(entry.get(key))))
    _add(element, "difficult", int(is_crowd(entry)))
    x, y, width, height = entry["bbox"]
    outline = _add(element, "bndbox")
    for key, value in (("xmin", x), ("ymin", y), ("xmax", x + width), ("ymax", y + height)):
        _add(outline, key, f"{value:.10g}")


def _add(parent: ElementTree.Element, tag: str, text: Any = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = None if text is None else str(text)
    return element
