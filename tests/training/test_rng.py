"""Chance goes on where it was left, whoever threw the dice in between."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from workbook.runs.checkpoints import read_checkpoint, save_checkpoint
from workbook.training.rng import rng_state, seed_everything, set_rng_state


def throws() -> list[float]:
    return [random.gauss(0, 1), random.random(), float(np.random.normal()), float(np.random.rand()), float(torch.rand(()))]


def test_dice_from_a_checkpoint_fall_as_they_would_have(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    seed_everything(5)
    throws()  # an odd number of normal ones: the second of each pair waits
    save_checkpoint(tmp_path / "dice.pth", {"dice": rng_state(cpu)})
    expected = throws()
    seed_everything(6)
    set_rng_state(read_checkpoint(tmp_path / "dice.pth")["dice"], cpu)
    assert throws() == expected


def test_a_seed_sets_them_all() -> None:
    seed_everything(1)
    first = throws()
    seed_everything(1)
    assert throws() == first
