"""The data of a run where they lie now: at the path that its config names, or, moved since, in the data folder.

There they are found by the dataset's name, and known by their content: the hash over both annotation files and every image that
`run.json` holds. So data, outputs or the whole workbook may be moved to another folder or machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmcv import Config

from workbook.data.catalog import EMBEDDED, Dataset, data_root, find_dataset
from workbook.data.images import MISSING, image_files
from workbook.data.reading import DataError
from workbook.errors import RunError
from workbook.runs.config import read_config
from workbook.runs.folder import Run

Stamps = tuple[tuple[int, int], ...]  # size and time of each annotation file


class _OtherDataError(Exception):
    """What is in the data folder is not what the run was trained on: why, and what to do."""

    def __init__(self, why: str, do: str) -> None:
        super().__init__(why)
        self.do = do


def run_config(run: Run, *, images: bool = True) -> Config:
    """The config of a run, as `read_config` reads it, with the paths of its data as they are now.

    images: False for a caller that reads the annotations of val alone. The recorded paths are taken while they are there: who
    mends a label goes on with the run. Raises RunError when the data are nowhere, or are others; it says what was expected.
    """
    config = read_config(run.folder / "config.py")
    missing = _missing(config, images)
    if missing:
        try:
            found = _in_data_folder(run)
        except _OtherDataError as error:
            raise RunError(f"{missing} is missing: {run.name} was trained on {_expected(run)} there, and {error}. {error.do}") from None
        config.data = _rerooted(config._cfg_dict.data.to_dict(), Path(config.data.val.ann_file).parent, found)
    return config


def _missing(config: Config, images: bool) -> Path | None:
    """The first of the recorded paths that is not there."""
    data = config.data
    files = [Path(data.val.ann_file)]
    folders = []
    if images:
        files.append(Path(data.train.ann_file))
        folders = [Path(data.val.img_prefix), Path(data.train.img_prefix)]
    gone = [path for path in files if not path.is_file()] + [path for path in folders if not path.is_dir()]
    return gone[0] if gone else None


def _data(run: Run) -> Mapping[str, Any]:
    """What `run.json` says of the data; nothing in a record that was broken off before it did."""
    data = run.record.get("data")
    return data if isinstance(data, dict) else {}


def _expected(run: Run) -> str:
    data = _data(run)
    counts = f"{data.get('train_images', '?')} train and {data.get('val_images', '?')} val images"
    return f"'{data.get('name')}' ({counts}, data hash {str(data.get('hash'))[:8]})"


def _in_data_folder(run: Run) -> Path:
    """The folder of the run's data below the data folder. Raises _OtherDataError."""
    data = _data(run)
    name = str(data.get("name"))
    folder = data_root() / name
    set_it = f"set WORKBOOK_DATA to the folder that holds the {name}/ it was trained on"
    if not folder.is_dir() and name not in EMBEDDED:
        raise _OtherDataError(f"{folder} is not there either", f"Put it back, or {set_it}")
    try:
        return _with_hash(name, data_root(), str(data.get("hash")), tuple(_stamps(folder)))
    except DataError as error:
        raise _OtherDataError(f"{folder} cannot be used: {error}", f"Mend it, or {set_it}") from None


def _stamps(folder: Path) -> Iterator[tuple[int, int]]:
    for path in (folder / "train.json", folder / "val.json"):
        if path.exists():
            stat = path.stat()
            yield stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=100)  # of what was found to be the same alone: an error is raised anew
def _with_hash(name: str, root: Path, expected: str, stamps: Stamps) -> Path:
    """The folder of the dataset, when its content has the hash. `stamps` keep an old answer from being given for new files."""
    dataset = find_dataset(name)
    if dataset.hash == expected:
        return dataset.folder
    listed = [str(image["file_name"]) for coco in (dataset.train, dataset.val) for image in coco["images"]]
    if gone := [file for file, found in image_files(dataset.images_dir, listed).items() if found.error == MISSING]:
        raise _OtherDataError(f"of the {len(set(listed))} images of {dataset.folder} {len(gone)} are missing, the first {gone[0]}",
                              f"Copy them to {dataset.images_dir}")
    raise _OtherDataError(f"{dataset.folder} holds other data ({_counts(dataset)}, data hash {dataset.hash[:8]})", (
        f"Set WORKBOOK_DATA to the folder that holds the {name}/ it was trained on, or train again on this one"))


def _counts(dataset: Dataset) -> str:
    return f"{len(dataset.train['images'])} train and {len(dataset.val['images'])} val images"


def _rerooted(value: Any, old: Path, new: Path) -> Any:
    """The same value, each path in it that lies below `old` below `new`."""
    if isinstance(value, dict):
        return {key: _rerooted(item, old, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_rerooted(item, old, new) for item in value)
    if isinstance(value, str) and Path(value).is_relative_to(old):
        return str(new / Path(value).relative_to(old))
    return value
