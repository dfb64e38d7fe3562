"""The learning rate of every iteration: mmcv's step policy with a linear warm-up, as one typed object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch.optim import Optimizer

Epoch = Annotated[int, Field(strict=True, ge=1)]
Ratio = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]

ALLOWED = {
    "policy": "step",
    "step": "a list of epochs, whole numbers from 1 in rising order, e.g. [8,11], or [] for none",
    "gamma": "a number above 0 and at most 1",
    "warmup": "linear, or None for no warm-up",
    "warmup_iters": "a whole number of steps from 1; without a warm-up: warmup=None",
    "warmup_ratio": "a number above 0 and at most 1, what the first step has of the full lr",
}


class StepSchedule(BaseModel):
    """mmcv's `lr_config` with policy=step. `step`: after so many epochs each the lr is multiplied with `gamma`.

    With `warmup` the lr rises for `warmup_iters` steps in a straight line that starts at `warmup_ratio`; without one these
    two are ignored, as mmcv does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["step"]
    step: tuple[Epoch, ...]
    gamma: Ratio = 0.1
    warmup: Literal["linear"] | None = None
    warmup_iters: Epoch | None = None
    warmup_ratio: Ratio | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.step) != sorted(set(self.step)):
            raise ValueError(f"step={list(self.step)}. Allowed: {ALLOWED['step']}")
        for key in ("warmup_iters", "warmup_ratio"):
            if self.warmup and getattr(self, key) is None:
                raise ValueError(f"{key} is missing, which warmup=linear needs. Allowed: {ALLOWED[key]}. "
                                 "Give both, e.g. lr_config.warmup_iters=500 lr_config.warmup_ratio=0.001")
        return self

    @property
    def warmup_steps(self) -> int:
        """Steps until the full learning rate; 0 without a warm-up."""
        return self.warmup_iters or 0 if self.warmup else 0

    def factor(self, epoch: int, iteration: int) -> float:
        """What the base lr is multiplied with at `iteration` (counted over the whole training) of `epoch`, both from 0.

        The same numbers as mmcv 1.7.2's StepLrUpdaterHook (mmcv/runner/hooks/lr_updater.py): gamma for each milestone that
        has been reached, and below `warmup_iters` a straight line that starts at `warmup_ratio`.
        """
        reached = sum(epoch >= milestone for milestone in self.step)
        factor = self.gamma**reached
        if self.warmup_ratio is not None and iteration < self.warmup_steps:
            factor *= 1 - (1 - iteration / self.warmup_steps) * (1 - self.warmup_ratio)
        return factor


def parse_schedule(lr_config: Mapping[str, Any]) -> StepSchedule:
    """The schedule in mmcv's `lr_config`. Raises ValueError that lists all that is wrong, with what is allowed."""
    try:
        return StepSchedule.model_validate(dict(lr_config))
    except ValidationError as error:
        problems = dict.fromkeys(_problem(problem, lr_config) for problem in error.errors())
        raise ValueError("; ".join(problems)) from None


def _problem(problem: Mapping[str, Any], lr_config: Mapping[str, Any]) -> str:
    if not problem["loc"]:
        return f"lr_config.{problem['ctx']['error']}"
    key = str(problem["loc"][0])
    if key not in ALLOWED:
        return f"lr_config.{key}: unknown key. Known: {', '.join(sorted(ALLOWED))}"
    if key not in lr_config:
        return f"lr_config.{key} is missing. Allowed: {ALLOWED[key]}"
    return f"lr_config.{key}={lr_config[key]!r}. Allowed: {ALLOWED[key]}"


def warmup_warning(schedule: StepSchedule, steps: int) -> str | None:
    """A sentence when a training of so many steps ends before half of it has the full learning rate."""
    if 2 * schedule.warmup_steps <= steps:
        return None
    return (f"the warm-up takes {schedule.warmup_steps} of the {steps} steps: most of this training has a far lower lr than "
            f"the recipe says. Train longer, or shorten it with overrides='lr_config.warmup_iters={max(1, steps // 10)}'")


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Set every group to its own base lr times `factor`; returns the first group's, which is the one that is logged."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
    return float(optimizer.param_groups[0]["lr"])


def merged_groups(optimizer: Optimizer) -> Optimizer:
    """The same optimizer, before its first step, with the parameters of equal settings in one group.

    With a rule for some of them (no decay for norms) mmcv makes a group of every parameter, and a GPU starts its kernels for
    each: 28 of the 264 ms of a step of Swin-T on an H100.
    """
    groups: dict[tuple, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        first = groups.setdefault(tuple((key, str(settings[key])) for key in sorted(settings)), {**settings, "params": []})
        first["params"].extend(group["params"])
    optimizer.param_groups[:] = groups.values()
    return optimizer
