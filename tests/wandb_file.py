"""Reads the file that W&B writes offline (`run-<id>.wandb`), to compare what was logged with what is there.

The format is LevelDB's log: blocks of 32 KiB, in them pieces of records, each after a header of checksum, length and
kind. The file starts with 7 bytes of W&B's own, part of the first block. wandb 0.31 has no reader in Python.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_history(path: Path) -> list[dict[str, Any]]:
    """Each logged row in order, as {key: value}, with `_step`, `_runtime` and `_timestamp` that W&B adds."""
    rows = [record.history for record in read_records(path) if record.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item} for row in rows]


def read_config(path: Path) -> dict[str, Any]:
    """The config of the run: the parameters, and `_wandb` that W&B adds."""
    run = next(record.run for record in read_records(path) if record.WhichOneof("record_type") == "run")
    return {item.key: json.loads(item.value_json) for item in run.config.update}


def read_records(path: Path) -> Iterator[Record]:
    """All records of the file, of any kind. Raises ValueError when it is not one of W&B's."""
    data = path.read_bytes()
    if data[:4] != b":W&B":
        raise ValueError(f"{path} does not start with ':W&B'")
    place, record = 7, b""
    while place + HEADER.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:  # too little for a header: the rest of the block is padding
            place += left
            continue
        _, length, kind = HEADER.unpack_from(data, place)
        piece = data[place + HEADER.size : place + HEADER.size + length]
        record = piece if kind in (FULL, FIRST) else record + piece
        if kind in (FULL, LAST):
            yield Record.FromString(record)
        place += HEADER.size + length
