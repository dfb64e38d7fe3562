"""Every source of chance that a training can touch: seeded at its start, kept in its checkpoints, set again."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's dice; those of every GPU with torch's."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, Any]:
    """The state of all dice, as tensors and plain values that load without running code."""
    kind, keys, *place = cast(tuple[str, Any, int, int, float], np.random.get_state(legacy=True))
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (kind, torch.tensor(keys.tolist()), *place),
        "python": (version, torch.tensor(numbers), gauss),
    }


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on where `rng_state` was taken. A checkpoint from a CPU leaves the dice of a GPU as they are seeded."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    kind, keys, *place = state["numpy"]
    np.random.set_state((kind, keys.numpy(), *place))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
