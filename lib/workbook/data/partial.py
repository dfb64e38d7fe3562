"""Folders that are made under a name of their own first, and what killed processes have left of such."""

from __future__ import annotations

import os
import platform
import shutil
import time
from pathlib import Path

import psutil

PARTIAL, A_DAY = ".partial", 86_400  # how a folder that is being made ends; seconds
HERE = platform.node().replace(".", "-") or "here"


def partial_of(folder: Path) -> Path:
    """Where this process makes `folder` before it is renamed, beside it."""
    return folder.with_name(f".{folder.name}.{HERE}.{os.getpid()}{PARTIAL}")


def sweep(parent: Path) -> None:
    """Remove what processes that were killed have left in `parent`, on this machine or, after a day, on another one."""
    for old in parent.glob(f".*{PARTIAL}"):
        *_, machine, pid = old.name.removesuffix(PARTIAL).split(".")
        is_dead = machine == HERE and pid.isdigit() and not psutil.pid_exists(int(pid))
        if is_dead or time.time() - old.stat().st_mtime > A_DAY:
            shutil.rmtree(old, ignore_errors=True)
