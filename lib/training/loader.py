"""The training images of an epoch, in an order and with augmentations that depend on the seed, the epoch and the image alone.

So a run that was broken off sees the same batches as one that was not, with any number of worker processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from mmcv.parallel import collate
from mmdet.datasets import CustomDataset
from torch.utils.data import DataLoader, Dataset

from lib.training.stopping import ignore_signals


class SeededItems(Dataset):
    """Item (epoch, index) of `dataset` through its training pipeline, whose numpy and Python dice are seeded by both."""

    def __init__(self, dataset: CustomDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        dice = np.random.SeedSequence([self.seed, *place]).generate_state(1)[0]
        np.random.seed(dice)
        random.seed(int(dice))
        return self.dataset[place[1]]


def epoch_order(images: int, batch_size: int, seed: int, epoch: int) -> list[list[tuple[int, int]]]:
    """Batches of (epoch, image index): every image once, shuffled by seed and epoch; the last batch may be smaller."""
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return [[(epoch, int(index)) for index in order[start : start + batch_size]] for start in range(0, images, batch_size)]


def batches(
    dataset: CustomDataset, batch_size: int, seed: int, epoch: int, device: torch.device, start: int = 0
) -> Iterator[dict[str, Any]]:
    """Collated batches of an epoch from number `start` on, still in mmcv's containers.

    A GPU is fed by workers; on a CPU they would steal its cores.
    """
    yield from DataLoader(
        SeededItems(dataset, seed),
        batch_sampler=epoch_order(len(dataset), batch_size, seed, epoch)[start:],
        collate_fn=partial(collate, samples_per_gpu=batch_size),
        num_workers=0 if device.type == "cpu" else 4,
        worker_init_fn=ignore_signals,
        generator=torch.Generator().manual_seed(seed),  # else each start of an epoch, and each resume, draws from the model's dice
    )
