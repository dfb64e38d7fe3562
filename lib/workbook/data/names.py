"""Which file an image's file_name means when there is none of that name: the same letters in other words of a computer."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import PIL.Image

from workbook.data.images import leaves_folder

NOWHERE = ": copy it there, or take the image and its annotations out of the file"
SHOWN = 3  # files that a message names


class FilesThere:
    """The files of a dataset's folder, listed when the first one is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def words(self, file_name: str) -> str:
        """`; there is images/a.jpg: correct file_name`, what else a person has to do, or "" when there is no such file."""
        found = self.meant(file_name)
        if not found:
            return ""
        shown = " and ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if found[SHOWN:] else "")
        inside = all(name.startswith("images/") for name in found)
        if not inside:
            target = PurePosixPath(_as_posix(file_name)).name if leaves_folder(file_name) else _as_posix(file_name)
            return f"; there is {shown}, outside images/: move it to images/{target}"
        return f"; there is {shown}{_other_form(file_name, found[0])}: correct file_name"

    def meant(self, file_name: str) -> list[str]:
        """The files that the name may mean, relative to the dataset's folder, those in images/ alone where there are any.

        Names are the same in any case, Unicode form, percent-encoding and folder; else with any ending of an image.
        """
        wanted = PurePosixPath(simple_name(file_name))
        for candidates in (self._by_name.get(wanted.name), self._by_stem.get(wanted.stem), self._by_stem.get(wanted.name)):
            if candidates:
                inside = [name for name in candidates if name.startswith("images/")] or candidates
                most = max(_shared_end(wanted, name) for name in inside)
                return [name for name in inside if _shared_end(wanted, name) == most]
        return []

    @cached_property
    def _files(self) -> list[str]:
        """Every file below images/, also where that is a link, and below the rest of the folder, sorted."""
        images = [f"images/{name}" for name in _below(self.folder / "images")]
        return sorted({*images, *_below(self.folder)})

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for name in self._files:
            found[PurePosixPath(simple_name(name)).name].append(name)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """Of images alone: a.txt beside a.jpg holds its labels."""
        endings = PIL.Image.registered_extensions()
        found = defaultdict(list)
        for name in self._files:
            path = PurePosixPath(simple_name(name))
            if path.suffix in endings:
                found[path.stem].append(name)
        return found


def _below(folder: Path) -> Iterator[str]:
    """Relative names with `/`. Hidden files, and names that are no text, are passed over."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = (Path(parent) / name).relative_to(folder).as_posix()
            if not name.startswith(".") and path.encode(errors="ignore").decode() == path:
                yield path


def _as_posix(file_name: str) -> str:
    return file_name.replace("\\", "/")


def simple_name(name: str) -> str:
    """The same for all spellings of a name, full-width letters and ligatures too (Unicode's form NFKC)."""
    plain = unquote(_as_posix(name)).replace("+", " ").strip()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", plain).casefold())


def _shared_end(wanted: PurePosixPath, name: str) -> int:
    """How many folders before the file are the same."""
    count = 0
    for one, other in zip(wanted.parent.parts[::-1], PurePosixPath(simple_name(name)).parent.parts[::-1], strict=False):
        if one != other:
            break
        count += 1
    return count


def _other_form(file_name: str, found: str) -> str:
    """What no reader can see: the same letters, composed (NFC) or not (NFD)."""
    real = found.removeprefix("images/")
    if file_name == real or unicodedata.normalize("NFC", file_name) != unicodedata.normalize("NFC", real):
        return ""
    form = "NFC (composed)" if unicodedata.is_normalized("NFC", real) else "NFD (decomposed, as macOS writes)"
    return f", the same letters in the Unicode form {form}"
