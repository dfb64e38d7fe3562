"""Files and folders that are made under a name of their own first, and what killed processes have left of such.

    .NAME.<8 hex: this boot and its space of process ids>.<pid>-<its start>.partial
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workbook.process import is_running, machine, started

NAME = re.compile(r"\..+\.([0-9a-f]{8})\.(\d+)-(\d+)\.partial")
A_DAY = 86_400  # seconds


@contextmanager
def partial_of(path: Path) -> Iterator[Path]:
    """A free name beside `path`, hidden, to make a file or folder under and to rename to `path` when it is whole.

    What still has the name at the end is removed, and so is, at the start, what killed processes have left beside `path`.
    """
    sweep(path.parent)
    partial = path.with_name(f".{path.name}.{_here()}.{os.getpid()}-{started()}.partial")
    _remove(partial)
    try:
        yield partial
    finally:
        _remove(partial)


def sweep(parent: Path) -> None:
    """Remove from `parent` what processes of this boot have left that are gone, and what others have not touched for a day."""
    for old in parent.glob(".*.partial"):
        with suppress(OSError):  # another process sweeps as well
            if (found := NAME.fullmatch(old.name)) and _is_left(old, *found.groups()):
                _remove(old)


def _is_left(path: Path, where: str, pid: str, since: str) -> bool:
    if machine() and where == _here():
        return not is_running(int(pid), int(since))
    return time.time() - _last_change(path) > A_DAY


def _here() -> str:
    return hashlib.sha256(machine().encode()).hexdigest()[:8]


def _last_change(path: Path) -> float:
    """Seconds since 1970, of the file, or of all in the folder; a link is not followed."""
    tree = () if path.is_symlink() else os.walk(path)
    below = (os.path.join(folder, name) for folder, folders, files in tree for name in (*folders, *files))
    return max(os.lstat(each).st_mtime for each in (str(path), *below))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
