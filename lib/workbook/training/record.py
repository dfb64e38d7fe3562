"""What a training says of itself in its run folder: `run.json` and `config.py` before the first step, the outcome at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcv import Config
from torch import nn

from workbook.data.catalog import summary
from workbook.files import WriteError
from workbook.runs.config import write_config
from workbook.runs.folder import Run, now
from workbook.runs.lease import LEASE_FILE
from workbook.training import environment
from workbook.training.job import Job


def record_start(run: Run, job: Job, model: nn.Module, step: int) -> None:
    """What is known before the first step; `step` is above 0 where a broken-off run goes on, and what is another since is a warning."""
    config = job.config
    roi_head = config.model.get("roi_head")
    made_with = _made_with(job)
    changed = environment.changes(run.record, made_with) if step else []
    warnings = run.record.get("warnings", []) if step else list(job.warnings)
    if changed:
        warnings.append(f"taken up at step {step} where something else was: {'; '.join(map(str, changed))}")
    run.update(
        status="running", error=None, finished=None, **made_with, data=summary(job.dataset),
        model={
            "type": config.model.type, "roi_head": roi_head.type if roi_head else None,
            "backbone": config.model.backbone.type, "weights": _weights(config),
            "parameters_m": sum(p.numel() for p in model.parameters()) / 1e6,
        },
        **_how_it_learns(config), epochs=job.epochs,
        remedies=[applied.to_json() for applied in job.remedies], warnings=warnings,
    )
    if not (run.folder / "config.py").exists():
        write_config(run.folder / "config.py", config)


def foreseen_record(job: Job) -> dict[str, Any]:
    """What `run.json` will say of a training that has not begun, without what is known in its process alone: torch's settings."""
    return {**_made_with(job), "settings": {"precision": job.precision}, "model": {"weights": _weights(job.config)},
            **_how_it_learns(job.config)}


def record_end(
    run: Run, job: Job, *, epochs: int, best_epoch: int, steps: int, seconds: Mapping[str, float], images: Mapping[str, int]
) -> None:
    """The outcome of a finished training. seconds, images: of `train` and `val`; images are those of one epoch."""
    run.update(
        status="done", finished=now(), epochs_done=epochs, best_epoch=best_epoch, iterations=steps, seconds=sum(seconds.values()),
        **{f"{part}_images_per_second": epochs * images[part] / seconds[part] for part in ("train", "val")},
        peak_memory_mb=environment.peak_memory_mb(job.device),
    )


def record_failure(run: Run, error: Exception) -> None:
    """Why a training cannot go on. When the disk is too full even for this, the error itself says so."""
    try:
        run.update(status="failed", error=f"{type(error).__name__}: {error}", finished=now())
    except WriteError as second:
        error.add_note(f"Nor could run.json say so: {second}")


def sweep_up(run: Run) -> None:
    """Remove the halves of files that a killed process left behind; a lease's may be those of one that asks now."""
    for folder in (run.folder, run.last_checkpoint.parent):
        for partial in folder.glob(".*.partial"):
            if not partial.name.startswith(LEASE_FILE):
                partial.unlink(missing_ok=True)


def _made_with(job: Job) -> dict[str, Any]:
    files = [_weights(job.config), job.config.load_from]
    return environment.made_with(job.device, job.precision, [Path(file) for file in files if file])


def _weights(config: Config) -> str | None:
    """The file that the backbone starts from."""
    found = config.model.backbone.get("init_cfg")
    return str(found.checkpoint) if found else None


def _how_it_learns(config: Config) -> dict[str, Any]:
    return {"optimizer": json.loads(json.dumps(config.optimizer)), "schedule": _schedule_words(config.lr_config)}


def _schedule_words(lr_config: Config | dict[str, Any]) -> str:
    warmup = f", warm-up {lr_config['warmup_iters']}" if lr_config.get("warmup") else ""
    return f"step {list(lr_config['step'])}{warmup}"
