"""YOLO v5 to v11: a data.yaml, and a text an image with `class cx cy w h` as shares of it; darknet's obj.names too.

FiftyOne's YOLOv5DatasetImporter is not used (fiftyone/utils/yolo.py, 1.22). A class number beyond `names` becomes a
class called by that number (`_parse_yolo_row`). Images without a text, which show what is background, are dropped.
Roboflow's `../train/images` beside the yaml, and images outside a folder `images`, are not found. A wrong number stops
it without file and line. Importing it needs a database. The label of an image lies where
ultralytics looks for it (`img2label_paths`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbook.data.importers.collect import Collector, number
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import Source
from workbook.data.importers.texts import some_lines
from workbook.data.importers.upright import Upright, around, polygon_area
from workbook.data.importers.yolo_config import NAMES_FILES, is_config, read_config

NO_LABELS = frozenset((*NAMES_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "obj.data"))
ROUNDED = 0.01  # shares of the image may leave 0 to 1 by so much
BACKGROUND = "images without a label file, taken as images without objects"
POLYGONS = "polygons, each with the upright box around it"


def label_path(image: Path) -> Path:
    """The text of an image: the last folder `images` above it becomes `labels`; without one it is beside the image."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _matches(source: Source) -> str:
    for path in source.with_suffix(".yaml", ".yml"):
        if is_config(path):
            return source.shown(path)
    if source.file is not None:
        return ""
    texts = [path for path in source.files if path.suffix == ".txt" and path.name not in NO_LABELS]
    return next((source.shown(path) for path in texts[:200] if _is_label(some_lines(path, 1))), "")


def _is_label(lines: Sequence[str]) -> bool:
    words = lines[0].split() if lines else []
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0].is_integer() and numbers[0] >= 0


def _read(source: Source) -> Imported:
    found = Collector(source)
    config = read_config(source, found)
    texts: dict[Path, list[Path]] = {}
    for split, image in found.each(config.images, "reading images and labels", "image"):
        text = label_path(image)
        texts.setdefault(text, []).append(image)
        found.add(image, split, _boxes(text, image, config.names, found))
    for text, images in texts.items():
        if len(set(images)) > 1:
            found.problem(text, f"it belongs to {' and '.join(path.name for path in sorted(set(images)))}: rename one "
                                "of them, and give it a "
                          "label file of its own")
    _check_texts(found, texts)
    return found.done("yolo", [config.names[index] for index in sorted(config.names)])


def _boxes(text: Path, image: Path, names: Mapping[int, str], found: Collector) -> list[Box]:
    if not text.is_file():
        found.note(BACKGROUND, image)
        return []
    size = found.size_of(image) if names else None
    boxes = []
    for index, line in enumerate(found.lines(text), 1):
        if not line.strip() or size is None:
            continue
        try:
            box = _box(line.split(), names, size)
        except ValueError as error:
            found.problem(text, str(error), f"line {index}")
            continue
        if box.segmentation:
            found.note(POLYGONS, text)
        boxes.append(box)
    return boxes


def _box(words: Sequence[str], names: Mapping[int, str], size: Upright) -> Box:
    """Raises ValueError, with words for people."""
    if len(words) == 6:
        raise ValueError("it has six numbers: a score stands behind the box, as in what a detector predicted. Labels "
                         "have five")
    if len(words) < 5 or (len(words) > 6 and len(words) % 2 == 0):
        raise ValueError(f"it has {len(words)} numbers, but a box is `class cx cy w h`, and a polygon `class x1 y1 x2 "
                         "y2 x3 y3 ...`")
    name = _class(words[0], names)
    shares = [number(word, f"number {index}") for index, word in enumerate(words[1:], 2)]
    if any(not -ROUNDED <= share <= 1 + ROUNDED for share in shares):
        raise ValueError(f"{' '.join(words[1:5])} are no shares of the image, which lie within 0 to 1: divide x and w "
                         "by the image's width, "
                         "y and h by the image's height")
    if len(shares) == 4:
        cx, cy, width, height = shares
        if width < 0 or height < 0:
            raise ValueError("width or height is negative: a box is `class cx cy w h`, not two corners")
        left = (cx - width / 2) * size.width
        top = (cy - height / 2) * size.height
        return Box(name, (left, top, width * size.width, height * size.height))
    points = [(x * size.width, y * size.height) for x, y in zip(shares[::2], shares[1::2], strict=True)]
    flat = [round(value, 6) for point in points for value in point]
    return Box(name, around(points), area=polygon_area(points) or None, segmentation=[flat])


def _class(word: str, names: Mapping[int, str]) -> str:
    index = number(word, "the class")
    if not index.is_integer():
        raise ValueError(f"the class is {word}, but must be a whole number")
    if int(index) not in names:
        listed = f"{min(names)} to {max(names)}"
        raise ValueError(f"class {word} has no name: names lists {listed}. Add the name, or correct the line")
    return names[int(index)]


def _check_texts(found: Collector, texts: Mapping[Path, Any]) -> None:
    """Label files of the same folders that belong to no image: their boxes would be lost."""
    for folder in sorted({text.parent for text in texts}):
        for text in sorted(folder.glob("*.txt")):
            if text in texts or text.name in NO_LABELS or not _is_label(some_lines(text, 1)):
                continue
            found.problem(text, "there is no image of this name: copy it there, or delete the label file")


YOLO = Importer("yolo", "YOLO v5 to v11", "data.yaml with names, or label texts with classes.txt", _matches, _read)
