"""The training images of an epoch, in an order and with augmentations that depend on the seed, the epoch and the image alone.

So a resumed run trains on the same batches as an undisturbed one, with any number of worker processes.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.parallel import collate
from mmdet.datasets import CustomDataset
from torch.utils.data import DataLoader, Dataset

from workbook.training.distributed import SINGLE, World
from workbook.training.signals import ignore_signals


class SeededItems(Dataset):
    """Item (epoch, index) of `dataset` through its pipeline, with the generators of numpy and Python seeded by both."""

    def __init__(self, dataset: CustomDataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        epoch, index = item
        seed = int(np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0])
        np.random.seed(seed)
        random.seed(seed)
        return self.dataset[index]


def epoch_order(
    images: int, batch_size: int, seed: int, epoch: int, arrange: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> list[list[tuple[int, int]]]:
    """Batches of (epoch, image index): every image once, shuffled by seed and epoch; the last batch may be smaller.

    arrange: what the dataset makes of the shuffled order, so that what is cut from one file is read together.
    """
    order = arrange(np.random.default_rng([seed, epoch]).permutation(images))
    return [[(epoch, int(index)) for index in order[start : start + batch_size]] for start in range(0, images, batch_size)]


def batches(
    dataset: CustomDataset, batch_size: int, seed: int, epoch: int, device: torch.device, start: int = 0, world: World = SINGLE
) -> Iterator[dict[str, Any]]:
    """Batches of an epoch from number `start` on, on `device`; of each batch, this rank's part.

    A GPU is fed by worker processes from pinned memory, some batches ahead; on a CPU they would steal its cores.
    """
    gpu = device.type == "cuda"
    arrange = getattr(dataset, "arrange", np.asarray)
    order = epoch_order(len(dataset), batch_size, seed, epoch, arrange)
    loader = DataLoader(
        SeededItems(dataset, seed),
        batch_sampler=[world.shard(batch) for batch in order[start:]],
        collate_fn=as_batch,
        num_workers=min(8, torch.get_num_threads()) if gpu else 0,  # several runs at once divide the cores
        prefetch_factor=4 if gpu else None,
        pin_memory=gpu,
        worker_init_fn=_start_worker,
        generator=torch.Generator().manual_seed(seed),  # else every start of an epoch draws from the generator of the model
    )
    for batch in loader:
        yield to_device(batch, device)


def _start_worker(number: int) -> None:
    """A forked process must not free what its parent has on the GPU, so what it was born with is never collected there."""
    gc.freeze()
    ignore_signals(number)


def as_batch(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Items of a pipeline as one batch: `img` [batch, 3, height, width], padded to the largest; lists of all else.

    mmcv's containers are removed here: pinned memory knows tensors only.
    """
    return {key: container.data[0] for key, container in collate(list(items), samples_per_gpu=len(items)).items()}


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The same batch with its tensors on `device`; from pinned memory the copy runs beside the computation."""
    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(item) for item in value]
        return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value

    return {key: moved(value) for key, value in batch.items()}
