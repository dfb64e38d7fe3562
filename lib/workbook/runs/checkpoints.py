"""Checkpoints: written whole or not at all, and read without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from workbook.errors import RunError
from workbook.files import replacing


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values: a kill or a full disk leaves the old file or the new one. Raises WriteError."""
    with replacing(path, _tensor_bytes(content)) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's writer hides why the file took no more
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    return sum(map(_tensor_bytes, value.values())) if isinstance(value, dict) else 0


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Raises RunError when it is missing or cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: this run has not finished an epoch, or its folder was changed by hand. "
                       "Restore it, or delete the run folder and train again") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        raise RunError(f"{path} cannot be read ({type(error).__name__}): delete the run folder and train again") from error
