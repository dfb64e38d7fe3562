"""Where the images of a YOLO data set lie, and which class has which number: data.yaml, or folders and a text of names.

The rules of paths are those of ultralytics (`check_det_dataset`), and CVAT's and darknet's lists of images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbook.data.importers.collect import Collector
from workbook.data.importers.source import Source

NAMES_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Config:
    """Where the images of each split lie, and the names of the classes by number."""

    names: Mapping[int, str]
    images: tuple[tuple[str, Path], ...]  # split and file


def is_config(path: Path) -> bool:
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


def read_config(source: Source, found: Collector) -> Config:
    """What the data.yaml says, or without one the folders and the text of names; what is wrong goes to `found`."""
    configs = [path for path in source.with_suffix(".yaml", ".yml") if is_config(path)]
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
