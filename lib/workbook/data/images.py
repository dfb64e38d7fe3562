"""What training will see of an image file: found out once by decoding it as training does, then remembered.

Reading and decoding 5,000 photos takes a while, so the answers are stored in `.images.json` inside the dataset's
folder, with each file's size and times. A file that was touched is read again; deleting `.images.json` is always safe.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

import cv2
import numpy as np
import PIL.Image

from workbook.cores import usable_cores
from workbook.data.reading import DataError
from workbook.files import write_json
from workbook.progress import progress_bar

MEMORY = ".images.json"
MANY = 500  # fewer images are read without a bar
MISSING = "the file is missing"
LEAVES = "its name leaves images/: give the name relative to images/, without '..'"
LINKED = "it is a link to a place outside images/: copy the file there, or let images/ itself be the link"
_ORIENTATION = 0x0112  # the EXIF tag: 1 upright, 2 to 8 turned or mirrored
_MAY_LEAVE = re.compile(r"^/|\\|:|\.\.")  # without one of these a name stays inside on every system
_READ_AS = 2  # a new way of judging files needs a new number here: old answers are then forgotten
Stamp = tuple[int, int, int]  # size in bytes, time of the content, time of the entry: what changes when the file does


@dataclass(frozen=True)
class ImageFile:
    """One file as training reads it (mmcv: OpenCV, EXIF orientation applied, 8 bits, colour)."""

    sha256: str = ""  # of the bytes; empty when there are none to read
    width: int = 0  # pixels, after EXIF orientation; 0 when it cannot be decoded
    height: int = 0
    orientation: int = 1  # the EXIF tag
    error: str = ""  # why training cannot use it
    note: str = ""  # what the user should know


_FIELDS = tuple(ImageFile.__dataclass_fields__)


def leaves_folder(file_name: str) -> bool:
    """Whether the name points outside `images/`: absolute, with a drive, or climbing with `..`."""
    if not _MAY_LEAVE.search(file_name):  # nearly every name of a large set
        return False
    windows = PureWindowsPath(file_name)
    return bool(PurePosixPath(file_name).is_absolute() or windows.drive or windows.root or ".." in windows.parts)


def image_path(images_dir: Path, file_name: str) -> Path:
    """The file to open. Raises DataError when it lies outside `images_dir`, by its name or by a link."""
    if leaves_folder(file_name) or linked_out(images_dir, [file_name]):
        raise DataError(f"{file_name}: {LEAVES if leaves_folder(file_name) else LINKED}")
    return images_dir / file_name


def linked_out(images_dir: Path, file_names: Iterable[str]) -> set[str]:
    """Names that a symbolic link inside `images/` leads out of it; `images/` itself may well be a link."""
    root, real_folder = os.path.realpath(images_dir), lru_cache(maxsize=None)(os.path.realpath)
    plain = _plain_files(images_dir)
    found = set()
    for name in file_names:
        if name in plain:
            continue
        path = os.path.normpath(os.path.join(images_dir, name))
        folder, last = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(real_folder(folder), last)
        if real != root and not real.startswith(os.path.join(root, "")):
            found.add(name)
    return found


def _plain_files(images_dir: Path) -> set[str]:
    """The names right inside the folder that are no links, from one listing of it."""
    try:
        with os.scandir(images_dir) as entries:
            return {entry.name for entry in entries if not entry.is_symlink()}
    except OSError:
        return set()


def image_files(images_dir: Path, file_names: Iterable[str]) -> dict[str, ImageFile]:
    """Look at every named file of `images_dir`. A name that leaves the folder is not touched.

    Interrupted, it keeps what it has seen: the next call goes on there.
    """
    names = list(dict.fromkeys(file_names))
    memory = images_dir.parent / MEMORY
    linked = linked_out(images_dir, (name for name in names if not leaves_folder(name) and "\0" not in name))
    known, stamps = _remembered(memory), {name: None if name in linked else _stamp(f"{images_dir}/", name) for name in names}
    found = {name: known[name][1] for name, stamp in stamps.items() if stamp and known.get(name, (None,))[0] == stamp}
    fresh = {name: stamp for name, stamp in stamps.items() if stamp and name not in found}
    try:
        for name, file in _look_at(images_dir, fresh):
            found[name] = file
    finally:
        if fresh:
            _remember(memory, {**known, **{name: (stamp, found[name]) for name, stamp in fresh.items() if name in found}})
    reasons = {name: LEAVES if leaves_folder(name) else LINKED if name in linked else MISSING for name in names if name not in found}
    return {name: found[name] if name in found else ImageFile(error=reasons[name]) for name in names}


def unchanged_images(images_dir: Path) -> str:
    """A hash of all that is remembered of the images, while every one of them is as it was seen; else, and where nothing is
    remembered, empty."""
    memory = images_dir.parent / MEMORY
    try:
        text = memory.read_text()
        stored = json.loads(text)
        names = list(stored["files"])
        same = stored["read_as"] == [_READ_AS, cv2.__version__] and all(
            tuple(stamp) == _stamp(f"{images_dir}/", name) for name, (stamp, _) in stored["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    if not same or linked_out(images_dir, names):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


def _look_at(images_dir: Path, fresh: Mapping[str, Stamp]) -> Iterator[tuple[str, ImageFile]]:
    """Each file by its name as it is known, in the order of the names; reading, hashing and decoding run beside, under a bar."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a broken file is reported once, by us
    pool = ThreadPoolExecutor(max_workers=usable_cores())
    try:
        with progress_bar(len(fresh), "reading images", "image", quiet=len(fresh) < MANY) as bar:
            paths = [images_dir / name for name in fresh]
            for name, file in zip(fresh, pool.map(_read, paths, fresh.values()), strict=True):
                yield name, file
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.utils.logging.setLogLevel(level)


def _stamp(folder: str, name: str) -> Stamp | None:
    """None when there is no such file inside the folder, whose name ends with a slash."""
    try:
        if leaves_folder(name):
            return None
        stat = os.stat(folder + name)
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return None


def _remembered(memory: Path) -> dict[str, tuple[Stamp, ImageFile]]:
    try:
        stored = json.loads(memory.read_text())
        if stored["read_as"] != [_READ_AS, cv2.__version__]:
            return {}
        known = {name: (tuple(stamp), ImageFile(*map(file.pop, _FIELDS))) for name, (stamp, file) in stored["files"].items()}
        if any(file for _, file in stored["files"].values()):  # more than the fields
            return {}
        return known
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # nothing remembered, or not by us: everything is read


def _remember(memory: Path, files: dict[str, tuple[Stamp, ImageFile]]) -> None:
    entries = {name: [stamp, asdict(file)] for name, (stamp, file) in files.items()}
    with suppress(OSError):  # a folder that may not be written costs time, not truth
        write_json(memory, {"read_as": [_READ_AS, cv2.__version__], "files": entries})


@lru_cache(maxsize=100_000)
def _read(path: Path, stamp: Stamp) -> ImageFile:
    """Read, hash and decode one file; `stamp` keeps an old answer from being given for a changed file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return ImageFile(error=f"the file cannot be read: {error.strerror}")
    sha256 = hashlib.sha256(data).hexdigest()
    if not data:
        return ImageFile(sha256, error="the file is empty (0 bytes): copy it again")
    try:
        header = _header(data)
    except PIL.Image.DecompressionBombError:
        return ImageFile(sha256, error="it has more than 178 million pixels: cut it into tiles")
    except Exception:  # Pillow raises many kinds on damaged headers; all mean the same to the user
        return ImageFile(sha256, error=f"the file is no image that can be read: it starts with {data[:12]!r}")
    return _decode(sha256, data, header)


@dataclass(frozen=True)
class _Header:
    kind: str
    mode: str
    size: tuple[int, int]
    orientation: int
    bits: int  # a channel
    several: bool  # frames of an animation, or pages


def _header(data: bytes) -> _Header:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of many harmless oddities in EXIF
        with PIL.Image.open(io.BytesIO(data)) as image:
            tags = PIL.Image.Image.getexif(image)  # not PNG's own method, which decodes the image to look behind it
            orientation = int(tags.get(_ORIENTATION, 1))
            # phones write MPO: a JPEG with a preview or a depth map behind it
            several = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
            return _Header(str(image.format), image.mode, image.size, orientation, _bits(image, data), several)


def _bits(image: PIL.Image.Image, data: bytes) -> int:
    """Bits a channel in the file. Pillow opens 16-bit colour as 8-bit, so PNG and TIFF are asked themselves."""
    if image.format == "PNG":
        return data[24]  # the bit depth in IHDR, which is always the first chunk
    tags = getattr(image, "tag_v2", None)
    return int(max(tags.get(258, (8,)))) if tags else 16 if image.mode.startswith("I;16") else 8


def _decode(sha256: str, data: bytes, header: _Header) -> ImageFile:
    """Decode as training does. An upright JPEG at an eighth: every byte is read all the same, so damage shows."""
    eighth = header.kind == "JPEG" and header.orientation == 1
    flag = cv2.IMREAD_REDUCED_COLOR_8 if eighth else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        pixels = None
    if pixels is None:
        return ImageFile(sha256, error=f"a {header.kind} of mode {header.mode} that cannot be decoded: it is cut off, "
                         "damaged, or of a kind that training cannot read. Copy it again, or save it as 8-bit PNG")
    height, width = pixels.shape[:2]
    if eighth:
        width, height = header.size
    several = f"a {header.kind} of several frames or pages, of which training sees the first" if header.several else ""
    return _with_depth(ImageFile(sha256, width, height, header.orientation, note=several), header.bits, pixels)


def _with_depth(found: ImageFile, bits: int, pixels: np.ndarray) -> ImageFile:
    """Note what becomes of more than 8 bits: training reads the upper 8, which is fine when the range is used."""
    if bits <= 8:
        return found
    brightest = int(pixels.max())
    words = (f"{bits} bits a channel, of which training keeps the upper 8: "
             f"its brightest value is then {brightest} of 255")
    if brightest < 16:
        return replace(found, error=f"{words}, almost black. Scale its values to 8 bits before")
    return replace(found, note=words)
