"""Files and folders that are made under a name of their own first, and what killed processes have left of such."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PARTIAL, A_DAY = ".partial", 86_400  # how a name ends until what it names is whole; seconds
HERE = platform.node().replace(".", "-") or "here"


@contextmanager
def partial_of(path: Path) -> Iterator[Path]:
    """A free name beside `path`, hidden, to make a file or folder under and to rename to `path` when it is whole.

    What still has the name at the end is removed, and so is, at the start, what killed processes have left beside `path`.
    """
    sweep(path.parent)
    partial = path.with_name(f".{path.name}.{HERE}.{os.getpid()}{PARTIAL}")
    _remove(partial)
    try:
        yield partial
    finally:
        _remove(partial)


def sweep(parent: Path) -> None:
    """Remove what processes that were killed have left in `parent`, on this machine or, after a day, on another one."""
    for old in parent.glob(f".*{PARTIAL}"):
        *_, machine, pid = old.name.removesuffix(PARTIAL).split(".")
        is_dead = machine == HERE and pid.isdigit() and not psutil.pid_exists(int(pid))
        with suppress(FileNotFoundError):  # another process sweeps as well
            if is_dead or time.time() - old.stat().st_mtime > A_DAY:
                _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
