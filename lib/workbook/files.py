"""Files that are whole or not there: atomic writes of text, JSON and tables, and where everything that is made goes."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbook.errors import RunError

if TYPE_CHECKING:  # the command line loads this module, and most commands need neither tables nor locks
    import pandas as pd
    from filelock import FileLock

PROJECT = Path(__file__).resolve().parents[2]  # holds notebooks/, lib/, data/ and outputs/
WRITABLE = "Free space, make it writable, or set WORKBOOK_OUTPUTS to another folder"


class WriteError(RunError, OSError):
    """A file could not be written; what stood there before is whole. The message says which file and how much room there is."""

    __str__ = Exception.__str__  # OSError's own would show errno and strerror alone

    @classmethod
    def of(cls, path: Path, size: int, error: OSError) -> WriteError:
        """size: the bytes that the file, or the line, needs."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        needed = f"It needs {size:,} bytes and {free_bytes(path.parent):,} are free. Make room" if full else "Make the folder writable"
        made = cls(f"cannot write {path}: {error.strerror}. {needed}, or set WORKBOOK_OUTPUTS to another folder. What was there before is "
                   "kept, and the same call goes on")
        made.errno, made.strerror = error.errno, error.strerror
        return made


def outputs_root() -> Path:
    """The folder of everything that is made: `$WORKBOOK_OUTPUTS`, or `outputs/` beside `lib/`. Raises RunError for an address."""
    asked = os.environ.get("WORKBOOK_OUTPUTS", "")
    if "://" in asked:
        raise RunError(f"WORKBOOK_OUTPUTS={asked}: runs are written to a folder, not to an address. Give a folder of this machine, or one "
                       "that every machine sees (NFS, Lustre)")
    return Path(asked or PROJECT / "outputs").absolute()


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises RunError that names the file when it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path} is missing: the run is not finished, or its folder was changed by hand. Finish the run, restore the "
                       "file, or delete the folder and train again") from None
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({error}): restore it, or delete the run folder and train again") from None


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; readers see the old file or the new one, never half of it. NaN becomes null."""
    write_text(path, json.dumps(finite(value), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`; readers see the old file or the new one. Raises WriteError."""
    content = text.encode()
    with replacing(path, len(content)) as file:
        file.write(content)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write the table; readers see the old file or the new one, never half of it. Raises WriteError."""
    with replacing(path, int(table.memory_usage(deep=False).sum())) as file:
        table.to_parquet(file, index=False)


@contextmanager
def replacing(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file under a temporary name in the same folder, that is flushed to the disk and takes the place of `path` at the end.

    size: about how many bytes it needs, for the message of WriteError.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)  # before the free room is counted
        raise WriteError.of(path, size, error) from error
    finally:
        partial.unlink(missing_ok=True)


def shared_lock(path: Path) -> FileLock:
    """A lock between processes, whose file those who share the folder as a group may open too."""
    from filelock import FileLock

    return FileLock(path, mode=0o664)


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of a folder; 0 when the folder is not there."""
    return shutil.disk_usage(folder).free if folder.exists() else 0


def finite(value: Any) -> Any:
    """The same value with every NaN and infinity as None: JSON has neither, and a blank says "no figure" honestly."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
