"""Keeps one mongod running as long as somebody uses it. A program of its own: `python mongod.py FOLDER MONGOD`.

Every user of the database holds a shared lock on `users.lock`, which the system releases even when the user is killed.
When this program gets the lock for itself alone, nobody is left: it stops mongod and ends. It imports nothing of lib,
so that it starts at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

LOCK, ADDRESS, LOG = "users.lock", "mongod.json", "mongod.log"
EVERY = 1.0  # seconds between two looks


def keep(folder: Path, program: str) -> int:
    """Start mongod on `folder/db`, say where it listens in `mongod.json`, and stop it when no user is left."""
    (folder / "db").mkdir(exist_ok=True)
    (folder / LOG).unlink(missing_ok=True)
    mongod = psutil.Popen([
        program, "--dbpath", str(folder / "db"), "--logpath", str(folder / LOG), "--port", "0", "--bind_ip", "127.0.0.1",
        "--nounixsocket", "--wiredTigerCacheSizeGB", "1", "--setParameter", "diagnosticDataCollectionEnabled=false",
    ], stdout=subprocess.DEVNULL)
    try:
        while mongod.poll() is None and not (port := _listens_on(mongod)):
            time.sleep(0.05)
        if mongod.poll() is None:
            _say(folder / ADDRESS, port, mongod.pid)
            _wait_for_users(folder / LOCK, mongod)
    finally:
        (folder / ADDRESS).unlink(missing_ok=True)
        if mongod.poll() is None:
            mongod.terminate()  # it writes everything to the disk and ends
        mongod.wait()
    return int(mongod.returncode or 0)


def _listens_on(process: psutil.Process) -> int | None:
    try:
        return next((c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN), None)
    except psutil.Error:
        return None


def _say(path: Path, port: int | None, pid: int) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps({"port": port, "pid": pid}))
    os.replace(partial, path)


def _wait_for_users(lock: Path, mongod: psutil.Popen) -> None:
    """Returns, with the lock held, when nobody holds it; a new user waits for the lock, and then finds no mongod."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT)
    while mongod.poll() is None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(EVERY)
        else:
            return


if __name__ == "__main__":
    sys.exit(keep(Path(sys.argv[1]), sys.argv[2]))
