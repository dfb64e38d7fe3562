"""The data set of the workbook that is made of what an importer has read: data/NAME, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbook.data.catalog import new_folder
from workbook.data.importers.record import SPLITS, Imported, Picture
from workbook.data.reading import DataError
from workbook.files import write_json
from workbook.partial import partial_of
from workbook.progress import progress_bar


def write(name: str, imported: Imported, origin: Path, copy: bool) -> Path:
    """Write data/NAME and return it: first under a temporary name, then renamed.

    Every image is called by its path below the folder that all have in common; `images` is a link to that folder, or
    holds copies. Raises DataError when the name is not free or the folder cannot be written, and leaves nothing then.
    """
    folder = new_folder(name)
    root = images_root([picture.path for picture in imported.pictures], copy)
    try:
        with partial_of(folder) as partial:
            partial.mkdir(parents=True)
            _add_images(partial / "images", imported.pictures, root, copy)
            for split, pictures in by_split(imported.pictures).items():
                write_json(partial / f"{split}.json", _coco(imported, pictures, root, origin))
            new_folder(name)  # while the images were copied somebody else may have made it
            partial.rename(folder)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}. Free space, make it writable, or set WORKBOOK_DATA "
                        "to another folder. "
                        "Nothing was written") from error
    return folder


def by_split(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """train, val and test, as far as there are any. Images of one split alone are train, whatever it was called."""
    splits: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    alone = len({picture.split for picture in pictures}) == 1
    for picture in pictures:
        splits["train" if alone else picture.split].append(picture)
    return {split: found for split, found in splits.items() if found}


def images_root(paths: Sequence[Path], copy: bool) -> Path:
    """The folder that all images have in common. Raises DataError when a link to it would not do."""
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))
    if copy:
        return root
    if len(root.parts) < 3:
        raise DataError(f"the images have no folder in common but {root}, such as {paths[0]} and {paths[-1]}: import "
                        "with --copy, which "
                        "copies them into the data set")
    real = os.path.realpath(root)
    outside = [path for path in paths if os.path.commonpath((os.path.realpath(path), real)) != real]
    if outside:
        raise DataError(f"{len(outside)} image(s) are links to files outside {root}, such as {outside[0]}: import "
                        "with --copy, which copies "
                        "what they lead to")
    return root


def _add_images(images: Path, pictures: Sequence[Picture], root: Path, copy: bool) -> None:
    if not copy:
        images.symlink_to(os.path.realpath(root))
        return
    with progress_bar(len(pictures), "copying images", "image") as bar:
        for picture in pictures:
            target = images / _file_name(picture, root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture.path, target)
            bar.update()


def _file_name(picture: Picture, root: Path) -> str:
    return Path(os.path.abspath(picture.path)).relative_to(root).as_posix()


def _coco(imported: Imported, pictures: Sequence[Picture], root: Path, origin: Path) -> dict[str, Any]:
    """The content of one split, in the order of the pictures; ids count from 1."""
    numbers = {name: number for number, name in enumerate(imported.classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, 1):
        images.append({"id": image_id, "file_name": _file_name(picture, root), "width": picture.width,
                       "height": picture.height, **picture.fields})
        for box in picture.boxes:
            area = box.area or round(box.xywh[2] * box.xywh[3], 6)
            own = {"id": len(annotations) + 1, "image_id": image_id, "category_id": numbers[box.name],
                   "bbox": list(box.xywh), "area": area, "iscrowd": int(box.crowd)}
            mask: Mapping[str, Any] = {"segmentation": box.segmentation} if box.segmentation else {}
            annotations.append({**own, **mask, **box.fields})
    fields = imported.class_fields
    categories = [{"id": number, "name": name, **fields.get(name, {})} for name, number in numbers.items()]
    info = {"description": f"imported from {origin}", "imported": {"format": imported.format, "from": str(origin)}}
    return {"info": info, **imported.tables, "images": images, "annotations": annotations, "categories": categories}
