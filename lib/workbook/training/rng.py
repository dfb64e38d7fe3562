"""Every random number generator that a training can touch: seeded at the start, saved in checkpoints, set again."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and torch; those of every GPU with torch's."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_rank(seed: int, rank: int) -> None:
    """Seed the generators of one of several processes, so that no two ranks and no two seeds share a stream.

    SeedSequence mixes seed and rank; with seed + rank, rank 1 of one run would have the stream of rank 0 of the next.
    """
    words = np.random.SeedSequence(seed, spawn_key=(rank,)).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    torch.manual_seed(int.from_bytes(words[:2].tobytes(), "little"))


def rng_state(device: torch.device) -> dict[str, Any]:
    """The state of all generators, as tensors and plain values that load without running code."""
    kind, keys, *rest = cast(tuple[str, Any, int, int, float], np.random.get_state(legacy=True))
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (kind, torch.tensor(keys.tolist()), *rest),
        "python": (version, torch.tensor(numbers), gauss),
    }


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Set all generators to what `rng_state` gave. A checkpoint from a CPU leaves that of a GPU as it is seeded."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy(), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
