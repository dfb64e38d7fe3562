"""What every importer does alike: opens images, turns boxes where EXIF turns the image, gathers problems and notes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbook.data.entries import listed
from workbook.data.importers.record import Box, Imported, Picture, Unreadable
from workbook.data.importers.source import SeveralFit, Source
from workbook.data.importers.upright import SIDEWAYS, Upright, read_upright, turned
from workbook.progress import progress_bar

SHOWN = 3  # places that a note names
EMPTY = "boxes without width or height, left out"
CROWDS = "objects that are crowds, difficult or ignored, taken as iscrowd: neither learned nor counted"
TURNED = "images that EXIF turns, whose boxes were drawn on the picture as it is stored: turned with it"
UPRIGHT = "images that EXIF turns: their boxes are taken as drawn on the upright picture"


class Collector:
    """Gathers pictures; an importer goes on after a problem, so that all are listed at once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._pictures: dict[Path, Picture] = {}
        self._problems: list[Unreadable] = []
        self._notes: dict[str, list[str]] = defaultdict(list)
        self._sizes: dict[Path, Upright | None] = {}

    def problem(self, where: Path | str, reason: str, inside: str = "") -> None:
        """where: the file; inside: its line, id or key."""
        shown = self.source.shown(where) if isinstance(where, Path) else where
        self._problems.append(Unreadable(f"{shown}, {inside}" if inside else shown, reason))

    def note(self, words: str, where: Path | str) -> None:
        """Notes of the same words are one line, with their number and the first places."""
        self._notes[words].append(self.source.shown(where) if isinstance(where, Path) else where)

    def each(self, items: Sequence[Any], what: str, unit: str = "file") -> Iterator[Any]:
        """The items, with a bar that shows the time left."""
        with progress_bar(len(items), what, unit) as bar:
            for item in items:
                yield item
                bar.update()

    def size_of(self, path: Path) -> Upright | None:
        """The size of an upright image; None, and one problem, when it cannot be read."""
        if path not in self._sizes:
            try:
                self._sizes[path] = read_upright(path)
            except ValueError as error:
                self.problem(path, str(error))
                self._sizes[path] = None
        return self._sizes[path]

    def image_of(self, text: Path, stem: str, folder: Path, split: str) -> Path | None:
        """The image of this stem, in `folder` or elsewhere, that a label file belongs to; None, and a problem, for none and for several."""
        try:
            image = self.source.find_stem(stem, folder, split)
        except SeveralFit as error:
            self.problem(text, str(error))
            return None
        if image is None:
            self.problem(text, f"the image {text.stem} is not there: copy it into images/, or delete the text")
        return image

    @property
    def has_problems(self) -> bool:
        return bool(self._problems)

    def lines(self, path: Path) -> list[str]:
        """The lines of a text; none, and a problem, when it cannot be read."""
        try:
            return read_lines(path)
        except ValueError as error:
            self.problem(path, str(error))
            return []

    def names(self, path: Path) -> list[str]:
        """The lines of a text that hold something, without spaces about them."""
        return [line.strip() for line in self.lines(path) if line.strip()]

    def add(self, path: Path, split: str, boxes: Sequence[Box], recorded: tuple[int, int] | None = None,
            fields: Mapping[str, Any] | None = None) -> None:
        """An image with its boxes. recorded: width and height that the label file gives, None where it gives none.

        An image that is added again gets the boxes of both; in another split that is a problem.
        """
        image = self.size_of(path)
        if image is None:
            return
        there = self._pictures.get(path)
        if there is not None and there.split != split:
            self.problem(path, f"it is in {there.split or 'no split'} and in {split or 'no split'}: val must not hold "
                               "what is trained on, so "
                         "take it out of one of them")
            return
        before = there.boxes if there is not None else ()
        more = {**there.fields, **(fields or {})} if there is not None else dict(fields or {})
        fitting = self._fitted(path, image, [box for box in boxes if self._has_sides(path, box)], recorded)
        self._pictures[path] = Picture(path, split, image.width, image.height, (*before, *fitting), more)

    def done(self, format_: str, classes: Sequence[str], **more: Any) -> Imported:
        """All that was read. Classes that are listed twice or have no name are a problem."""
        for name in sorted({name for name in classes if list(classes).count(name) > 1}):
            self.problem(f"class {name!r}", "it is listed twice: give each class a name of its own")
        if any(not name.strip() for name in classes):
            self.problem("classes", "one has an empty name: give each class a name")
        if self._pictures and not classes and not self._problems:
            self.problem("classes", "there is no class, since no image has an object: import a folder with labelled "
                                    "images")
        for path in self._pictures:
            if not _is_text(str(path)):
                self.problem(ascii(path.name), "the name is no UTF-8 text: rename it, and in the labels too")
        notes = [f"{words}: {len(places)} ({listed(places, SHOWN)})" for words, places in self._notes.items()]
        pictures = tuple(self._pictures.values())
        return Imported(format_, tuple(classes), pictures, tuple(self._problems), tuple(notes), **more)

    def _has_sides(self, path: Path, box: Box) -> bool:
        """A box without width or height is no object; it is left out, and noted."""
        if box.xywh[2] > 0 and box.xywh[3] > 0:
            return True
        self.note(EMPTY, path)
        return False

    def _fitted(self, path: Path, image: Upright, boxes: Sequence[Box], recorded: tuple[int, int] | None) -> list[Box]:
        """The boxes on the upright image, whose size the label file may give as it is stored."""
        for box in boxes:
            if box.crowd:
                self.note(CROWDS, path)
        if recorded is None and image.orientation > 1:
            self.note(UPRIGHT, path)
        if recorded is None or recorded == (image.width, image.height):
            return [replace(box, xywh=_rounded(box.xywh)) for box in boxes]
        if recorded == image.stored and image.orientation >= SIDEWAYS:
            self.note(TURNED, path)
            return [replace(box, xywh=_rounded(box.xywh)) for box in (turned(box, image) for box in boxes)]
        self.problem(path, f"it has {image.width}x{image.height} pixels, but the labels were made for "
                           f"{recorded[0]}x{recorded[1]}: import "
                     "the image that was labelled, or scale the labels with it")
        return []


def corners(xmin: float, ymin: float, xmax: float, ymax: float) -> tuple[float, float, float, float]:
    """x, y, width, height of two corners. Raises ValueError when they are the wrong way round."""
    numbers = (xmin, ymin, xmax, ymax)
    shown = ", ".join(f"{value:g}" for value in numbers)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"the corners {shown} are not finite: draw the box again, or delete it")
    if xmax < xmin or ymax < ymin:
        raise ValueError(f"the corners xmin, ymin, xmax, ymax are {shown}, and the second lies before the first: "
                         "exchange them")
    return xmin, ymin, xmax - xmin, ymax - ymin


def number(word: Any, what: str) -> float:
    """Raises ValueError, with words for people, when it is no finite number."""
    try:
        value = float(word)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {word!r}, but must be a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{what} is {word!r}, but must be finite")
    return value


def read_lines(path: Path) -> list[str]:
    """The lines of a text, a byte order mark taken off. Raises ValueError, with words for people."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None


def _rounded(box_xywh: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """To a millionth of a pixel: 0.1 * 30 is 3."""
    x, y, width, height = (round(float(value), 6) for value in box_xywh)
    return x, y, width, height


def _is_text(name: str) -> bool:
    return name.encode(errors="ignore").decode() == name
