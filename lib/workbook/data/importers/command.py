"""`workbook import`: read, refuse or write, split, check."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from workbook.data.catalog import data_root, new_folder
from workbook.data.checks import check_dataset
from workbook.data.entries import Problem, listed
from workbook.data.importers.formats import find_importer
from workbook.data.importers.record import Imported
from workbook.data.importers.source import Source
from workbook.data.importers.write import by_split, write
from workbook.data.reading import DataError
from workbook.data.split import split as split_dataset

SHOWN = 200  # problems that a message lists


@dataclass(frozen=True)
class Result:
    """What an import has made."""

    folder: Path
    imported: Imported
    summary: tuple[str, ...]  # lines for people
    problems: tuple[Problem, ...]  # of the check
    not_split: str = ""  # why a val set that was asked for was not made


def import_dataset(path: Path, name: str, format_: str = "", copy: bool = False, split: bool = False) -> Result:
    """Make data/NAME of the labels at `path`, a folder or one file of it, and check it.

    split: make a val set as `workbook split` does. Raises DataError, and writes nothing, when the name is not free, the
    format is not recognised, or something cannot be read: then the message lists all of it.
    """
    new_folder(name)
    source = Source.of(path.absolute())
    imported = find_importer(source, format_).read(source)
    _stop_at_problems(source, imported, split)
    folder = write(name, imported, path.absolute(), copy)
    lines = _summary(imported, folder)
    refused = _split(name) if split else ""
    there = tuple(side for side in ("train", "val") if (folder / f"{side}.json").exists())
    problems = tuple(check_dataset(folder, there))
    if "val" not in there and not refused:
        lines.append(f"there is no val.json yet: `workbook split {name}` makes it from train.json")
    return Result(folder, imported, tuple(lines), problems, refused)


def left_of_import(name: str) -> str:
    """What an import that was stopped has left, for people: nothing, or a whole dataset that was being checked."""
    folder = data_root() / name
    return f"{folder} is whole, and was being checked: `workbook check {name}` goes on" if folder.exists() else "nothing was written"


def _stop_at_problems(source: Source, imported: Imported, split: bool) -> None:
    """Raises DataError with everything that cannot be read."""
    problems = list(map(str, imported.problems)) + _split_problems(imported, split)
    if not imported.pictures and not problems:
        problems.append("there is no image")
    if problems:
        lines = [f"  - {problem}" for problem in problems[:SHOWN]]
        more = [f"  and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        head = f"{source.file or source.folder} cannot be imported as {imported.format}, {len(problems)} problem(s):"
        raise DataError("\n".join([head, *lines, *more, "Mend them, then import again. Nothing was written"]))


def _split_problems(imported: Imported, split: bool) -> list[str]:
    splits = {picture.split for picture in imported.pictures}
    without = [picture.path.name for picture in imported.pictures if not picture.split]
    if "" in splits and len(splits) > 1:
        return [f"{len(without)} image(s) are in no split, such as {listed(without, 3)}, but others are: move them to "
                "train, val or test"]
    if "val" in splits and "train" not in splits and len(splits) > 1:
        return ["there are val and test, but no train: import the folder that holds train as well"]
    if split and "val" in splits and len(splits) > 1:
        return ["it has a val set already: import it without --split"]
    return []


def _split(name: str) -> str:
    """Why the data set, which is whole, could not be split; empty when it was."""
    try:
        split_dataset(name)
    except DataError as error:
        return str(error)
    return ""


def _summary(imported: Imported, folder: Path) -> list[str]:
    splits = by_split(imported.pictures)
    boxes = Counter(box.crowd for picture in imported.pictures for box in picture.boxes)
    counts = ", ".join(f"{len(pictures)} {split}" for split, pictures in splits.items())
    lines = [f"{imported.format}: {counts} images, {boxes[False]} objects, {boxes[True]} crowds, "
             f"{len(imported.classes)} classes in this "
             f"order: {listed(list(imported.classes), 20)}"]
    lines += [f"note: {note}" for note in imported.notes]
    alone = {picture.split for picture in imported.pictures}
    if len(alone) == 1 and alone <= {"val", "test"}:
        lines.append(f"note: there is no split but {alone.pop()}, so it is written as train.json")
    if "test" in splits:
        lines.append("note: test.json is there for you; the workbook trains on train.json and measures on val.json")
    images = folder / "images"
    what = f"is a link to {images.readlink()}" if images.is_symlink() else "holds copies"
    lines.append(f"{folder}: images/ {what}")
    return lines
