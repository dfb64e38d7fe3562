"""The learning rate of every iteration: mmcv's step policy with its linear warm-up, as one function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

KNOWN = {"policy", "step", "gamma", "warmup", "warmup_iters", "warmup_ratio"}


def lr_factor(lr_config: Mapping[str, Any], epoch: int, iteration: int) -> float:
    """What the base lr is multiplied with at `iteration` (counted over the whole training) of `epoch`, both from 0.

    The same numbers as mmcv 1.7.2's StepLrUpdaterHook (mmcv/runner/hooks/lr_updater.py): gamma for each milestone that has
    been reached, and below `warmup_iters` a straight line that starts at `warmup_ratio`.
    """
    reached = sum(epoch >= milestone for milestone in lr_config["step"])
    factor = lr_config.get("gamma", 0.1) ** reached
    if lr_config.get("warmup") and iteration < lr_config["warmup_iters"]:
        factor *= 1 - (1 - iteration / lr_config["warmup_iters"]) * (1 - lr_config["warmup_ratio"])
    return factor


def check_schedule(lr_config: Mapping[str, Any]) -> None:
    """Raise ValueError for a schedule other than mmcv's step policy with a linear warm-up (or none)."""
    unknown = sorted(set(lr_config) - KNOWN)
    if unknown:
        raise ValueError(f"lr_config.{unknown[0]}: unknown key. Known: {', '.join(sorted(KNOWN))}")
    if lr_config.get("policy") != "step" or lr_config.get("warmup") not in (None, "linear"):
        raise ValueError("lr_config: only policy=step with warmup=linear (or none) is known here")
    step = lr_config["step"]
    if not isinstance(step, list | tuple) or not all(isinstance(milestone, int) for milestone in step):
        raise ValueError(f"lr_config.step={step}: a list of epochs, e.g. [8,11]")


def warmup_warning(lr_config: Mapping[str, Any], steps: int) -> str | None:
    """A sentence when a training of so many steps ends before half of it has the full learning rate."""
    warmup = lr_config["warmup_iters"] if lr_config.get("warmup") else 0
    if 2 * warmup <= steps:
        return None
    return (f"the warm-up takes {warmup} of the {steps} steps: most of this training has a far lower lr than the recipe says. "
            f"Train longer, or shorten it with overrides='lr_config.warmup_iters={max(1, steps // 10)}'")


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Set every group to its own base lr times `factor`; returns the first group's, which is the one that is logged."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
    return float(optimizer.param_groups[0]["lr"])
