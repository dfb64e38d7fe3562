"""The devices that train one model together, one process each: every one takes its share of each batch and of the val images.

Gradients are averaged by torch's DistributedDataParallel, so the models stay the same; the first process alone writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from mmdet.models.detectors import BaseDetector
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Place `rank` among `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes the run folder and shows the progress."""
        return self.rank == 0

    def shard(self, items: list[T]) -> list[T]:
        """This process's part of a batch. One that would get nothing of a last, smaller batch takes its first item once more."""
        return items[self.rank :: self.size] or items[:1]

    def forward(self, model: BaseDetector, device: torch.device) -> Callable[..., dict[str, Any]]:
        """What gives the losses of a batch, and lets `backward` average the gradients of all processes."""
        if self.size == 1:
            return model.forward_train
        places = [device.index] if device.type == "cuda" else None
        # mmdet's detectors leave parameters unused in some batches: those of a head without positives
        return DistributedDataParallel(model, device_ids=places, broadcast_buffers=False, find_unused_parameters=True)

    def highest(self, number: int) -> int:
        """The highest `number` of all processes: so that all stop after the same step."""
        if self.size == 1:
            return number
        highest = torch.tensor(number)
        distributed.all_reduce(highest, distributed.ReduceOp.MAX, group=_on_cpu())
        return int(highest)

    def gather(self, found: dict[int, T]) -> dict[int, T]:
        """What all processes have found, by number, in the order of the numbers."""
        parts: list[Any] = [found]
        if self.size > 1:
            parts = [None] * self.size
            distributed.all_gather_object(parts, found, group=_on_cpu())
        return dict(sorted((number, value) for part in parts for number, value in part.items()))

    @contextlib.contextmanager
    def without_collectives(self) -> Iterator[None]:
        """Inside, mmdet counts no other processes: its losses would average their normalizers over images that have nothing to do
        with each other, and wait for a process whose share is smaller."""
        with patch.object(distributed, "is_initialized", lambda: False) if self.size > 1 else contextlib.nullcontext():
            yield


SINGLE = World()


@cache
def _on_cpu() -> Any:
    """Small messages go by gloo: NCCL would take them over the GPU."""
    return distributed.group.WORLD if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo")
