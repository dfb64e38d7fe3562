"""Who works on a folder: a file with an owner in it, that one process at a time can hold, on one machine or on a
shared disk.

The file comes into being whole and only once (a hard link does not overwrite), and its time of change is the owner's
heartbeat. A lease is dead when its process is gone from this very machine, or, on another machine, when its heart has
not beaten for `LIMIT` seconds by the file system's own clock. A dead lease is taken over by the one process that holds
the lease on its end; so two that find it dead at once cannot both have it, nor take from each other what one of them
has just got.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from workbook.process import is_running, machine, started

LEASE_FILE = ".lease.json"  # in the folder of a run
BEAT = 5.0  # seconds between two heartbeats
LIMIT = 120.0  # seconds without one, after which an owner on another machine counts as dead


@dataclass(frozen=True)
class Owner:
    """The process that holds a lease. `token` is its own for every lease; `machine` and `process_started` tell it from
    namesakes."""

    host: str
    pid: int
    since: str  # UTC, ISO 8601
    machine: str  # this boot of this machine and its space of process ids; empty where they cannot be told
    process_started: int  # clock ticks since the machine's start
    token: str
    user: str = ""  # who runs the process; empty in a lease of an older version

    @classmethod
    def here(cls) -> Owner:
        """The calling process, with a new token."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), since, machine(), started(), uuid.uuid4().hex, user_name())

    def __str__(self) -> str:
        whose = f" of the user {self.user}" if self.user not in ("", user_name()) else ""
        return f"process {self.pid}{whose} on {self.host} since {self.since}"


def user_name() -> str:
    """The user's name, or their number where the system knows no name, as in many containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


class Lease:
    """One process's lease at `path`: `acquire` it, ask whether it still `is_held` before writing, `release` it."""

    def __init__(self, path: Path) -> None:
        self.path, self.owner = path, Owner.here()
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)

    def acquire(self) -> Owner | None:
        """None when the lease is ours now, else the living owner who has it. Raises OSError when the folder cannot be
        written."""
        other = _acquire(self.path, self.owner)
        if other is None:
            self._heart.start()
        return other

    def is_held(self) -> bool:
        """False when the lease was taken over, after a sleep of this machine for example, or its file was deleted."""
        found = _read(self.path)
        return found is not None and found[0].token == self.owner.token

    def release(self) -> None:
        """Give up what is still ours."""
        self._stop.set()
        self._heart.join()
        if self.is_held():
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that does not answer for a while; whoever writes asks `is_held`
                if self.is_held():
                    os.utime(self.path)  # the time of the file system, not ours


def living_owner(path: Path) -> Owner | None:
    """The owner of the lease at `path` if there is one and nothing says that it is dead."""
    found = _read(path)
    return found[0] if found and _alive(*found, path.parent) else None


def _acquire(path: Path, me: Owner) -> Owner | None:
    with _staged(path, me) as staged:
        while True:
            with contextlib.suppress(FileExistsError):
                os.link(staged, path)
                return None
            found = _read(path)
            if found is None:  # given up just now
                continue
            owner = found[0]
            if owner.token == me.token:  # a network file system may make the link and report that it was there
                return None
            if _alive(*found, path.parent):
                return owner
            end = path.with_name(f"{path.name}.{owner.token}")
            if other := _acquire(end, me):
                return other
            try:
                found = _read(path)
                if found and found[0].token == owner.token:
                    os.replace(staged, path)
                    return None
            finally:
                end.unlink(missing_ok=True)


@contextlib.contextmanager
def _staged(path: Path, owner: Owner) -> Iterator[Path]:
    """The content of a lease, whole and on the disk, under a name of its own."""
    staged = path.with_name(f"{path.name}.{owner.token}.new")
    try:
        with open(staged, "w") as file:
            json.dump(asdict(owner), file)
            file.flush()
            os.fsync(file.fileno())
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _read(path: Path) -> tuple[Owner, float] | None:
    """The owner and the time of the last heartbeat, from an opened file: a network file system then asks its server."""
    try:
        with open(path) as file:
            content, beat = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        return Owner(**json.loads(content)), beat
    except (ValueError, TypeError):  # not written here: it is respected like that of another machine
        return Owner("an unknown host", 0, "an unknown time", "", 0, "unknown"), beat


def _alive(owner: Owner, beat: float, folder: Path) -> bool:
    if owner.machine and owner.machine == machine():
        return is_running(owner.pid, owner.process_started)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.") as file:
            return os.fstat(file.fileno()).st_mtime - beat < LIMIT
    except OSError:  # who cannot write here cannot tell, and cannot take it over either
        return True
