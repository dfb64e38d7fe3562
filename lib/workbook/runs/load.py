"""A finished run as a live model: its best checkpoint in the model of its own config."""

from __future__ import annotations

import torch
from mmcv import Config
from torch import nn

from workbook.errors import RunError
from workbook.models.config import build_untrained
from workbook.models.device import has_bf16
from workbook.models.precision import set_precision
from workbook.runs.checkpoints import read_checkpoint
from workbook.runs.config import read_config
from workbook.runs.folder import Run, require_model


def load_trained(run: Run, device: torch.device | str = "cpu", config: Config | None = None) -> tuple[nn.Module, Config]:
    """The detector of a run at its best epoch, in eval mode on `device`, and its config: the run's, or the given one, which
    has other settings for the same weights.

    Raises RunError when the run has no checkpoint yet, or its files do not belong together.
    """
    require_model(run, "running the detector")
    content = read_checkpoint(run.best_checkpoint)
    config = config or read_config(run.folder / "config.py")
    model = build_untrained(config)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise RunError(f"{run.best_checkpoint} is no checkpoint of a training: restore it, or delete the run folder and train again")
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{run.best_checkpoint} is not of the model in {run.folder / 'config.py'}: {reason}. Restore it, or delete "
                       "the run folder and train again") from error
    device = torch.device(device)
    as_trained = run.record["settings"]["precision"]
    return set_precision(model, device, as_trained if has_bf16(device) else "fp32").eval(), config
