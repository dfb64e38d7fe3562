"""Checkpoints: written whole or not at all, and read without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from torch import nn

from workbook.errors import RunError
from workbook.files import replacing
from workbook.models.config import build_untrained
from workbook.models.device import has_bf16
from workbook.models.precision import place
from workbook.runs.config import read_config
from workbook.runs.folder import Run


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
        raise RunError(f"{path} is missing: this run has not finished an epoch, or its folder was changed by hand") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        raise RunError(f"{path} cannot be read ({type(error).__name__}): delete the run folder and train again") from error


def load_trained(run: Run, device: torch.device | str = "cpu") -> tuple[nn.Module, Config]:
    """The detector of a run at its best epoch, in eval mode on `device`, and the run's config.

    Raises RunError when the run has no checkpoint yet, or its files do not belong together.
    """
    content = read_checkpoint(run.best_checkpoint)
    config = read_config(run.folder / "config.py")
    model = build_untrained(config)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise RunError(f"{run.best_checkpoint} is no checkpoint of a training: restore it, or delete the run folder and train again")
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{run.best_checkpoint} is not of the model in {run.folder / 'config.py'}: {reason}") from error
    device = torch.device(device)
    as_trained = run.record["settings"]["precision"]
    return place(model, device, as_trained if has_bf16(device) else "fp32").eval(), config
