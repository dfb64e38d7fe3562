"""Random numbers go on where they were left, whoever drew in between; and every rank has a stream of its own."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from workbook.runs.checkpoints import read_checkpoint, save_checkpoint
from workbook.training.rng import rng_state, seed_everything, seed_rank, set_rng_state


def draws() -> list[float]:
    return [random.gauss(0, 1), random.random(), float(np.random.normal()), float(np.random.rand()), float(torch.rand(()))]


def test_generators_from_a_checkpoint_draw_as_they_would_have(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    seed_everything(5)
    draws()  # an odd number of normal ones: the second of each pair waits
    save_checkpoint(tmp_path / "rng.pth", {"rng": rng_state(cpu)})
    expected = draws()
    seed_everything(6)
    set_rng_state(read_checkpoint(tmp_path / "rng.pth")["rng"], cpu)
    assert draws() == expected


def test_a_seed_sets_them_all() -> None:
    seed_everything(1)
    first = draws()
    seed_everything(1)
    assert draws() == first


def test_no_two_ranks_of_any_seeds_draw_the_same() -> None:
    """Seed 0 on rank 1 and seed 1 on rank 0 too, which seed + rank would make one stream."""
    drawn = {}
    for seed in range(4):
        for rank in range(4):
            seed_rank(seed, rank)
            drawn[seed, rank] = draws()
    for generator in range(5):
        assert len({values[generator] for values in drawn.values()}) == len(drawn)
    seed_rank(2, 3)
    assert draws() == drawn[2, 3]
