"""Which process it is, told from all others: by its number, the start of it, and the boot and space of numbers that both belong to."""

from __future__ import annotations

import os
from pathlib import Path


def machine() -> str:
    """This boot of this machine and its space of process ids; empty where they cannot be told, as outside Linux."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started() -> int:
    """When the calling process began, in clock ticks since the machine's start; 0 where it cannot be told."""
    return int(_stat(os.getpid())[19]) if machine() else 0


def is_running(pid: int, since: int) -> bool:
    """Whether the process of this number and start, and not a later one with its number, is there; a zombie is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    try:
        state, *_ = fields = _stat(pid)
    except OSError:  # hidden from us, or ending right now
        return True
    return state not in "ZX" and int(fields[19]) == since


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on (proc_pid_stat(5)); 19 is the start in clock ticks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
