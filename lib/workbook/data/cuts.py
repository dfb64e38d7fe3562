"""Datasets cut from the train set of another one, so that a choice can be made without its val set.

    outputs/cuts/<dataset>@search-<8 hex>/        the train set in two: to fit on (train.json) and to score on (val.json)
    outputs/cuts/<dataset>@search-<8 hex>-half/   the same to score on, half of the other images to fit on; a quarter too

The hex digits are of the dataset's hash. The images are those of the dataset: `images` is a link. A cut is an ordinary
dataset, so a run on it is an ordinary run; its name has an `@`, by which it is found here and not among the user's.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from workbook.data.catalog import CUT, Dataset, cuts_root, find_dataset
from workbook.data.images import MEMORY
from workbook.data.reading import Coco, DataError
from workbook.data.split import divide, part_of
from workbook.files import WRITABLE, write_json
from workbook.partial import partial_of

SEARCH_SHARE = 0.25  # of the train images
SHARES = {"quarter": 0.25, "half": 0.5}  # of the images to fit on; each is part of the next
SEED = 0


def cut_for_search(dataset: Dataset) -> str:
    """The name of the cut of this dataset: made when it is not there, stratified by class and object size, always the same.

    What its own split held together (`info.split.group_by`) stays together. Raises DataError when there is nothing to
    divide, or the cut cannot be written.
    """
    name = f"{dataset.name}{CUT}search-{dataset.hash[:8]}"
    if not (cuts_root() / name).exists():
        whole = dataset.train
        group_by = _group_by(whole)
        sides = divide(whole, dataset.folder, SEARCH_SHARE, SEED, group_by)
        how = {"share": SEARCH_SHARE, "seed": SEED, "group_by": group_by, "of": dataset.hash}
        fit, score = (part_of(whole, _on(sides, side), how) for side in ("train", "val"))
        _write(name, dataset, fit, score)
    return name


def cut_shares(cut: str) -> dict[str, str]:
    """Share (half, quarter) → the name of the dataset with that share of the cut's images to fit on, all scored alike."""
    dataset = find_dataset(cut)
    names = {share: f"{cut}-{share}" for share in SHARES}
    if all((cuts_root() / name).exists() for name in names.values()):
        return names
    fit: Any = dataset.train
    reached = 1.0
    for share in sorted(SHARES, key=lambda share: -SHARES[share]):
        group_by = _group_by(fit)
        sides = divide(fit, dataset.folder, SHARES[share] / reached, SEED, group_by)
        fit = part_of(fit, _on(sides, "val"), {"share": SHARES[share], "seed": SEED, "group_by": group_by, "of": dataset.hash})
        reached = SHARES[share]
        _write(names[share], dataset, fit, dataset.val)
    return names


def _group_by(whole: Coco) -> str:
    """The field of the images by which the user's own split held them together; empty when it did not."""
    info: Any = whole.get("info")
    how = info.get("split") if isinstance(info, dict) else None
    group_by = how.get("group_by", "") if isinstance(how, dict) else ""
    has_all = all(group_by in image for image in whole["images"])
    return str(group_by) if group_by and has_all else ""


def _on(sides: dict[int, str], side: str) -> set[int]:
    return {image for image, where in sides.items() if where == side}


def _write(name: str, dataset: Dataset, fit: Any, score: Any) -> None:
    """The folder, whole or not at all. What is known of the images (`.images.json`) is handed on."""
    folder = cuts_root() / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{name}.lock"), partial_of(folder) as partial:
            if not folder.exists():
                _fill(partial, dataset, fit, score)
                partial.rename(folder)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}. {WRITABLE}") from error


def _fill(folder: Path, dataset: Dataset, fit: Any, score: Any) -> None:
    folder.mkdir()
    (folder / "images").symlink_to(os.path.realpath(dataset.images_dir))
    write_json(folder / "train.json", fit)
    write_json(folder / "val.json", score)
    if (dataset.folder / MEMORY).is_file():
        shutil.copyfile(dataset.folder / MEMORY, folder / MEMORY)
