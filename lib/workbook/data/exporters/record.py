"""What every exporter shares: its type, its notes, and the copies of the images."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from workbook.data.entries import listed
from workbook.data.images import image_path
from workbook.data.reading import Annotation, Coco, DataError, Image
from workbook.progress import progress_bar

SHOWN = 3  # places that a note names


@dataclass(frozen=True)
class Export:
    """What an export has made; `notes` say what the format cannot hold."""

    folder: Path
    notes: tuple[str, ...]


class Notes:
    """Notes of the same words are one line, with their number and the first places."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = defaultdict(list)

    def add(self, words: str, where: str) -> None:
        self._places[words].append(where)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{words}: {len(places)} ({listed(list(dict.fromkeys(places)), SHOWN)})"
                     for words, places in self._places.items())


# dataset folder, split → its tables, the folder to fill, notes
Exporter = Callable[[Path, Mapping[str, Coco], Path, Notes], None]


def copy_images(source: Path, splits: Mapping[str, Coco], target: Path) -> None:
    """Every image of the splits, under its own name below `target`."""
    names = list(dict.fromkeys(image["file_name"] for coco in splits.values() for image in coco["images"]))
    with progress_bar(len(names), "copying images", "image") as bar:
        for name in names:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image_path(source / "images", name), path)
            bar.update()


def with_bar(images: Sequence[Image], split: str) -> Iterator[Image]:
    """The images of a split, with a bar while the labels of each are written."""
    with progress_bar(len(images), f"writing labels of {split}", "image") as bar:
        for image in images:
            yield image
            bar.update()


def write_labels(path: Path, text: str) -> None:
    """One label file of a folder that gets its name when it is whole: it need not be safe on the disk by itself, for each takes 2 ms."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def require_own_stems(splits: Mapping[str, Coco], what: str) -> None:
    """Raises DataError when two images would share a label file, since only their endings differ."""
    stems = defaultdict(set)
    for coco in splits.values():
        for image in coco["images"]:
            stems[PurePosixPath(image["file_name"]).with_suffix("")].add(image["file_name"])
    shared = [" and ".join(sorted(names)) for names in stems.values() if len(names) > 1]
    if shared:
        raise DataError(f"{what} calls the labels of an image by its name without the ending, and {listed(shared, 5)} "
                        "would share "
                        "them: rename one of each, in images/ and in the json")


def by_image(coco: Coco) -> dict[int, list[Annotation]]:
    """Image id → its annotations, in the order of the file."""
    found: dict[int, list[Annotation]] = {image["id"]: [] for image in coco["images"]}
    for entry in coco["annotations"]:
        found[entry["image_id"]].append(entry)
    return found


def classes(splits: Mapping[str, Coco]) -> dict[str, int]:
    """Class name → its number from 0, in the order of the ids of train; those that only other splits list behind."""
    tables = [sorted(coco["categories"], key=lambda entry: entry["id"]) for coco in splits.values()]
    names = [entry["name"] for table in tables for entry in table]
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def names_by_id(coco: Coco) -> dict[int, str]:
    return {entry["id"]: entry["name"] for entry in coco["categories"]}


def note_lost(notes: Notes, name: str, entry: Any, known: Iterable[str]) -> None:
    """Notes for masks and for keys of an annotation that a format of plain boxes cannot hold."""
    if entry.get("segmentation"):
        notes.add("masks, of which only the boxes are written", name)
    own = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", *known}
    for key in sorted(set(entry) - own):
        notes.add(f"the key {key} of objects, which is not written", name)
