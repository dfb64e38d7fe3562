"""The folder that is imported: its files, its images by name, and the split that a name speaks of."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from workbook.data.names import simple_name
from workbook.data.reading import DataError

IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".ppm", ".pgm", ".pbm",
    ".mpo", ".dng", ".pfm", ".avif"))
_SPLIT_WORDS = {
    "train": "train", "training": "train", "trainval": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test"}
# what stands beside a split in the name of a folder: VisDrone2019-DET-train, obj_train_data, test-dev, train_images
_BESIDE = frozenset((
    "images", "image", "imgs", "img", "data", "labels", "label", "annotations", "annotation", "obj", "det", "set",
    "dev", "challenge", "ids", "visdrone", "dota", "voc", "coco", "jpegimages", "labeltxt", "json", "xml"))


class SeveralFit(ValueError):
    """A name fits several image files; the message lists them."""


@dataclass(frozen=True)
class Source:
    """`folder` is read; `file` is the one file that was named, where PATH is a file."""

    folder: Path
    file: Path | None = None

    @classmethod
    def of(cls, path: Path) -> Source:
        """Raises DataError when there is nothing at the path, or an archive."""
        if path.is_dir():
            return cls(path)
        if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"):
            raise DataError(f"{path} is an archive: unpack it, and import the folder")
        if path.is_file():
            return cls(path.parent, path)
        raise DataError(f"there is no folder or file {path}: give the folder that holds labels and images, or the "
                        "data.yaml, json or csv")

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every file below the folder, sorted; hidden ones, and what macOS packs beside, are passed over."""
        found = []
        for parent, folders, names in os.walk(self.folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX"
                                and not _leads_back(Path(parent) / name))
            found += [Path(parent) / name for name in sorted(names) if not name.startswith(".")]
        return tuple(found)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """The files with one of these endings, in lower case; the named file alone, where one was named."""
        if self.file is not None:
            return [self.file] if self.file.suffix.lower() in suffixes else []
        return [path for path in self.files if path.suffix.lower() in suffixes]

    @cached_property
    def images(self) -> tuple[Path, ...]:
        return tuple(path for path in self.files if path.suffix.lower() in IMAGE_SUFFIXES)

    def shown(self, path: Path) -> str:
        """The path relative to the folder, where it lies in it."""
        inside = path.is_relative_to(self.folder) and path != self.folder
        return path.relative_to(self.folder).as_posix() if inside else str(path)

    def split_of(self, path: Path) -> str:
        """The split that the folders above a file speak of, the nearest first; empty where none does."""
        if not path.is_relative_to(self.folder):
            return ""
        folders = path.relative_to(self.folder).parts[:-1]
        return next((split for name in reversed(folders) if (split := split_of_folder(name))), "")

    def find_image(self, name: str, near: Path, split: str = "") -> Path | None:
        """The image file that a label file calls `name`; None when there is none.

        First the very path, from `near` and from the folder. Then, of the files of that name, the one that shares most
        folders with it, is of the same split, and lies nearest to the labels. Raises SeveralFit when two are left.
        """
        wanted = name.replace("\\", "/")
        if "://" in wanted:
            wanted = wanted.partition("?")[0]  # an address of cloud storage, with its signature
        for start in (near, self.folder):
            if wanted and _is_file(start / wanted):
                return start / wanted
        plain = PurePosixPath(simple_name(wanted))
        return self._nearest(plain, self._by_name.get(plain.name, ()), near, split)

    def find_stem(self, stem: str, near: Path, split: str = "") -> Path | None:
        """The image file whose name without its ending is `stem`, which may have folders before it. As `find_image`."""
        wanted = PurePosixPath(simple_name(stem))
        return self._nearest(wanted, self._by_stem.get(wanted.name, ()), near, split)

    def _nearest(self, wanted: PurePosixPath, candidates: Iterable[Path], near: Path, split: str) -> Path | None:
        left = list(candidates)
        depth = len(wanted.parts)
        for score in (lambda path: _shared_end(wanted, self.shown(path)), lambda path: self.split_of(path) == split,
                      lambda path: path.parent == near, lambda path: _shared_start(path, near),
                      lambda path: -abs(len(PurePosixPath(self.shown(path)).parts) - depth)):
            best = max(map(score, left), default=0)
            left = [path for path in left if score(path) == best]
        if len(left) > 1:
            raise SeveralFit(f"{' and '.join(map(self.shown, left[:3]))} both fit: rename one with the labels")
        return left[0] if left else None

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in self.images:
            found[simple_name(path.name)].append(path)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found = defaultdict(list)
        for path in self.images:
            found[simple_name(path.stem)].append(path)
        return found


def split_of_folder(name: str) -> str:
    """`val` for val2017, valid, VisDrone2019-DET-val, obj_valid_data; empty for a name that holds other words too."""
    words = _words(name)
    splits = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    others = [word for word in words if word not in _SPLIT_WORDS and word not in _BESIDE]
    return splits.pop() if len(splits) == 1 and not others else ""


def split_of_file(stem: str) -> str:
    """`train` for instances_train2017, train-annotations-bbox; empty where no split is named, or several are."""
    splits = {_SPLIT_WORDS[word] for word in _words(stem) if word in _SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else ""


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without the digits at their ends."""
    words = [word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", name.lower())]
    return [word for word in words if word]


def _shared_end(wanted: PurePosixPath, shown: str) -> int:
    """How many folders right before the file are the same."""
    own = PurePosixPath(simple_name(shown)).parent.parts[::-1]
    count = 0
    for one, other in zip(wanted.parent.parts[::-1], own, strict=False):
        if one != other:
            break
        count += 1
    return count


def _is_file(path: Path) -> bool:
    """Also of names that are too long for a file."""
    try:
        return path.is_file()
    except OSError:
        return False


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it lies in, so that following it would never end."""
    real = Path(os.path.realpath(folder))
    return folder.is_symlink() and Path(os.path.realpath(folder.parent)).is_relative_to(real)


def _shared_start(path: Path, near: Path) -> int:
    return len(os.path.commonpath((path.absolute(), near.absolute())))
