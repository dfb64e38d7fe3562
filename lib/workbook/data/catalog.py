"""Names → folders: where a dataset lies, its classes, and the hash that says whether two runs saw the same data."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbook.data import tree_crowns
from workbook.data.images import ImageFile, image_files
from workbook.data.reading import Coco, DataError, content_hash, is_crowd, read_coco, size_counts
from workbook.files import outputs_root, shared_lock

__all__ = ["EMBEDDED", "DataError", "Dataset", "data_root", "dataset_folder", "find_dataset", "summary"]

# Datasets that come with the workbook, and what writes them into a folder when they are first asked for.
EMBEDDED: dict[str, Callable[[Path], None]] = {"tree_crowns": tree_crowns.prepare}
CUT = "@"  # in the name of a dataset that was cut from the train set of another, see data/cuts.py


@dataclass(frozen=True)
class Dataset:
    """A folder with train.json, val.json and images/ in COCO format."""

    name: str
    folder: Path
    classes: tuple[str, ...]  # by category id in train.json: label i is classes[i]
    hash: str  # sha256 over both files' tables and the bytes of every image they list

    @property
    def train_json(self) -> Path:
        return self.folder / "train.json"

    @property
    def val_json(self) -> Path:
        return self.folder / "val.json"

    @property
    def images_dir(self) -> Path:
        return self.folder / "images"

    @property
    def train(self) -> Coco:
        """The tables of train.json: parsed when first asked for, again when the file has changed, and never to be
        changed."""
        return read_coco(self.train_json)

    @property
    def val(self) -> Coco:
        """The tables of val.json, as `train`."""
        return read_coco(self.val_json)


def data_root() -> Path:
    """The folder that holds one folder a dataset: `$WORKBOOK_DATA`, or `data/` beside `lib/`."""
    return Path(os.environ.get("WORKBOOK_DATA") or Path(__file__).resolve().parents[3] / "data").absolute()


def dataset_names() -> list[str]:
    """The names of all datasets that there are: folders with a train.json, and the embedded ones."""
    there = {path.parent.name for path in data_root().glob("*/train.json") if not path.parent.name.startswith(".")}
    return sorted(there | set(EMBEDDED))


def cuts_root() -> Path:
    """The folder that holds the datasets that the workbook cuts from others. They are derived: deleted, they are cut again."""
    return outputs_root() / "cuts"


def dataset_folder(name: str) -> Path:
    """The folder of this dataset; an embedded one is made when it is not there yet.

    Raises DataError when there is none, with a list of those there are, or when the name is a path.
    """
    if not isinstance(name, str) or not name or name.startswith(".") or set(name) & set("/\\\0:"):
        raise DataError(f"dataset {name!r}: give the name of a folder in {data_root()}, not a path. {_known()}")
    folder = data_root() / name
    if CUT in name and not folder.exists():
        folder = cuts_root() / name
    if name in EMBEDDED and not folder.exists():
        _prepare(name, folder)
    if name in EMBEDDED and not (folder / "val.json").is_file():
        raise DataError(f"{folder} is incomplete: delete it, and it is made anew when it is next asked for")
    if not folder.is_dir() and CUT in name:
        raise DataError(f"no dataset '{name}' in {cuts_root()}: `workbook remedy RUN` cuts it again from "
                        f"{name.partition(CUT)[0]}, for a RUN on that data")
    if not folder.is_dir():
        raise DataError(f"no dataset '{name}' in {data_root()}. {_known()}\nA dataset is a folder with train.json, "
                        "val.json and images/ in COCO format (see data/README.md)")
    return folder


def new_folder(name: str) -> Path:
    """The folder of a dataset that is to be made. Raises DataError when the name is no name, or is not free."""
    if not name or name.startswith(".") or set(name) & set("/\\\0:" + CUT):
        raise DataError(f"dataset {name!r}: give the name of a new folder in {data_root()}, without / \\ : {CUT} and not a path")
    folder = data_root() / name
    if name in EMBEDDED or os.path.lexists(folder):
        raise DataError(f"there is a dataset '{name}' already, {folder}, and it is not overwritten: give another name, or delete it first. "
                        f"If it is of an import that was stopped while it checked, it is whole: `workbook check {name}` goes on")
    return folder


def find_dataset(name: str) -> Dataset:
    """The dataset of this name, with its classes and its hash. Whether it is sound, `require_sound` says.

    The first time it reads every image, see `lib/workbook/data/images.py`. Raises DataError when there is no such dataset or one
    of its two files cannot be read.
    """
    folder = dataset_folder(name)
    train, val = (read_coco(folder / f"{split}.json") for split in ("train", "val"))
    try:
        classes = tuple(category["name"] for category in sorted(train["categories"], key=lambda entry: entry["id"]))
        file_names = sorted({str(image["file_name"]) for coco in (train, val) for image in coco["images"]})
    except (KeyError, TypeError):
        raise DataError(f"{folder} has broken entries: `workbook check {name}` lists them") from None
    return Dataset(name, folder, classes, _hash(train, val, image_files(folder / "images", file_names)))


def summary(dataset: Dataset) -> dict[str, Any]:
    """Name, hash and counts, as they stand in run.json. Objects are annotations but no crowds; sizes are COCO's."""
    train, val = dataset.train, dataset.val
    sizes = size_counts(val["annotations"])
    return {
        "name": dataset.name,
        "hash": dataset.hash,
        "classes": list(dataset.classes),
        "train_images": len(train["images"]),
        "val_images": len(val["images"]),
        "train_objects": sum(not is_crowd(a) for a in train["annotations"]),
        "val_objects": sum(not is_crowd(a) for a in val["annotations"]),
        **{f"val_{size}": sizes[size] for size in ("small", "medium", "large")},
    }


def _known() -> str:
    root = data_root()
    there = sorted(path.parent.name for path in root.glob("*/train.json") if not path.parent.name.startswith("."))
    return f"There are: {', '.join(there) or 'none'}. Embedded: {', '.join(EMBEDDED)}"


def _prepare(name: str, folder: Path) -> None:
    """Make an embedded dataset; a second process waits for the first one and finds it made."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with shared_lock(folder.parent / f".{name}.lock"):
            if not folder.exists():
                EMBEDDED[name](folder)
    except OSError as error:
        raise DataError(f"cannot write to {folder.parent}: {error.strerror}. "
                        "Make it writable, or set WORKBOOK_DATA to another folder") from error


def _hash(train: Coco, val: Coco, files: dict[str, ImageFile]) -> str:
    """Missing images count as empty, so that a broken dataset has a hash too."""
    content = [content_hash(train), content_hash(val), [[name, file.sha256] for name, file in files.items()]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
