"""YOLO v5 to v11: a data.yaml, and a text an image with `class cx cy w h` as shares of it; darknet's obj.names too.

FiftyOne's YOLOv5DatasetImporter is not used (fiftyone/utils/yolo.py, 1.22). A class number beyond `names` becomes a
class called by that number (`_parse_yolo_row`). Images without a text, which show what is background, are dropped.
Roboflow's `../train/images` beside the yaml, and images outside a folder `images`, are not found. A wrong number stops
it without file and line. Importing it needs a database. The rules of paths are those of ultralytics
(`check_det_dataset`, `img2label_paths`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbook.data.importers.collect import Collector, number
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import Source
from workbook.data.importers.texts import some_lines
from workbook.data.importers.upright import Upright, around, polygon_area

NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
NO_LABELS = frozenset((*NAMES_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "obj.data"))
SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
ROUNDED = 0.01  # shares of the image may leave 0 to 1 by so much
BACKGROUND = "images without a label file, taken as images without objects"
POLYGONS = "polygons, each with the upright box around it"


@dataclass(frozen=True)
class Config:
    """Where the images of each split lie, and the names of the classes by number."""

    names: Mapping[int, str]
    images: tuple[tuple[str, Path], ...]  # split and file


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
        if _is_config(path):
            return source.shown(path)
    if source.file is not None:
        return ""
    texts = [path for path in source.files if path.suffix == ".txt" and path.name not in NO_LABELS]
    return next((source.shown(path) for path in texts[:200] if _is_label(some_lines(path, 1))), "")


def _is_config(path: Path) -> bool:
    """Names, and where the images of each split are; supervision writes the names alone."""
    try:
        content = _yaml(path)
    except ValueError:
        return False
    return isinstance(content, dict) and "names" in content


def _yaml(path: Path) -> Any:
    """Raises ValueError, with words for people."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"it is not valid YAML ({' '.join(str(error).split())}): correct it") from None


def broken_yaml(source: Source) -> Iterator[tuple[Path, str]]:
    """The yaml files that cannot be read, with the reason."""
    for path in source.with_suffix(".yaml", ".yml"):
        try:
            _yaml(path)
        except ValueError as error:
            yield path, str(error)


def _is_label(lines: Sequence[str]) -> bool:
    words = lines[0].split() if lines else []
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0].is_integer() and numbers[0] >= 0


def _read(source: Source) -> Imported:
    found = Collector(source)
    config = _config(source, found)
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


# ---- where images and names are --------------------------------------------------------------------------------------


def _config(source: Source, found: Collector) -> Config:
    configs = [path for path in source.with_suffix(".yaml", ".yml") if _is_config(path)]
    if len(configs) > 1:
        found.problem(configs[0], f"it is one of {len(configs)} such files, and each may number the classes in "
                                  "another way: import one by "
                      f"its path, such as {configs[0]}")
        return Config({}, ())
    if configs:
        return _from_yaml(configs[0], found)
    for path, reason in broken_yaml(source):
        found.problem(path, reason)
    if source.file is not None and not found.has_problems:
        found.problem(source.file, "it has no names, or is no yaml: give the data.yaml that lists the classes as names")
    return Config({}, ()) if found.has_problems else _without_yaml(source, found)


def _without_yaml(source: Source, found: Collector) -> Config:
    """The split is that of the folder; the names are in a text of their own."""
    files = [path for path in source.files if path.name in NAMES_FILES]
    lists = {tuple(found.names(path)) for path in files}
    if not lists:
        found.problem("classes", "no data.yaml and no classes.txt says which class is number 0: write classes.txt, "
                                 "one name a line, in "
                      "the order of the numbers")
    elif len(lists) > 1:
        found.problem(files[0], f"{len(files)} such files list other classes: delete those that are wrong")
    names = dict(enumerate(sorted(lists)[0])) if lists else {}
    return Config(names, _by_folder(source))


def _by_folder(source: Source) -> tuple[tuple[str, Path], ...]:
    """Every image, with the split that its folders speak of."""
    return tuple((source.split_of(path), path) for path in source.images)


def _from_yaml(path: Path, found: Collector) -> Config:
    content = _yaml(path)
    if not set(content) & set(SPLIT_KEYS):
        return Config(_names(path, content, found), _by_folder(found.source))
    images: list[tuple[str, Path]] = []
    roots = _roots(path, content, found)
    entries = {SPLIT_KEYS[key]: value for key, value in content.items() if key in SPLIT_KEYS and value}
    if entries.get("val") is not None and entries.get("val") == entries.get("train"):
        found.problem(path, "train and val are the same images, so val would measure what is learned by heart: take "
                            "val out of it, then "
                      "import with --split", "key val")
        del entries["val"]
    if entries.get("test") in (entries.get("train"), entries.get("val")) and entries.get("test"):
        found.note("test is train or val once more, and is left out", path)
        del entries["test"]
    for split, value in entries.items():
        for entry in value if isinstance(value, list) else [value]:
            images += [(split, image) for image in _images(str(entry), split, roots, path, found)]
    return Config(_names(path, content, found), tuple(dict.fromkeys(images)))


def _names(path: Path, content: Mapping[str, Any], found: Collector) -> dict[int, str]:
    """names is a list, or number → name; numbers without a name stay without."""
    names = content["names"]
    if isinstance(names, list):
        numbered = dict(enumerate(map(str, names)))
    elif isinstance(names, dict) and all(isinstance(key, int) and key >= 0 for key in names):
        numbered = {key: str(name) for key, name in names.items()}
    else:
        found.problem(path, f"it is {names!r}, but must be a list of names, or a number and a name a line", "key names")
        return {}
    count = content.get("nc")
    if isinstance(count, int) and count != len(numbered):
        found.problem(path, f"it is {count}, but names lists {len(numbered)}: correct the one that is wrong", "key nc")
    return numbered


def _roots(path: Path, content: Mapping[str, Any], found: Collector) -> list[Path]:
    """The folders that a split may be relative to: what `path` says, then the folder of the yaml."""
    declared = str(content.get("path") or "")
    root = path.parent / declared
    if declared and not root.is_dir():
        found.note(f"`path: {declared}` is not there, so the splits are read beside the file", path)
    return [*([root] if root.is_dir() else []), path.parent]


def _images(entry: str, split: str, roots: Sequence[Path], yaml_path: Path, found: Collector) -> list[Path]:
    """The image files of one entry: of a folder, with those below it, or of a text that lists them."""
    tried = [root / own for own in (entry, entry.removeprefix("../")) for root in roots]
    there = next((path for path in tried if path.exists()), None)
    if there is None:
        paths = ", ".join(dict.fromkeys(os.path.normpath(path) for path in tried))
        if split == "test":
            found.note(f"`test: {entry}` is not there and is left out", yaml_path)
        else:
            found.problem(yaml_path, f"{entry} is not there, as none of {paths} is: correct it, or `path`, to where "
                                     "the images are",
                          f"key {split}")
        return []
    there = Path(os.path.normpath(there))
    if there.suffix == ".txt":
        return list(_listed_images(there, roots, found))
    images = list(Source(there).images)
    if not images:
        found.problem(yaml_path, f"{there} holds no image: correct it to where the images are", f"key {split}")
    return images


def _listed_images(listing: Path, roots: Sequence[Path], found: Collector) -> Iterator[Path]:
    """The images that a text lists, one a line, relative to it, to the root, or whole."""
    for index, line in enumerate(found.lines(listing), 1):
        name = line.strip().replace("\\", "/")
        if not name:
            continue
        tried = [Path(os.path.normpath(start / name)) for start in (listing.parent, *roots)]
        # CVAT and darknet write data/ before the folder of the archive
        tried += [Path(os.path.normpath(root / name.removeprefix("data/"))) for root in roots]
        there = next((path for path in tried if path.is_file()), None)
        if there is None:
            found.problem(listing, f"{name} is not there: correct the line, or take it out", f"line {index}")
        else:
            yield there


# ---- labels ----------------------------------------------------------------------------------------------------------


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
