"""The devices that train one model together, a process each: every rank has a part of each batch and of the val images.

Gradients are averaged by torch's DistributedDataParallel, so the models stay the same; rank 0 alone writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from mmdet.models.detectors import BaseDetector
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from workbook.errors import RunError

T = TypeVar("T")


class RankLostError(RunError):
    """Another process of this training has left, so that nothing can be exchanged with it any more."""


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes the run folder and shows the progress."""
        return self.rank == 0

    def shard(self, items: list[T]) -> list[T]:
        """This rank's part of a batch. A rank that would get nothing of a smaller last batch repeats the first item."""
        return items[self.rank :: self.size] or items[:1]

    def forward(self, model: BaseDetector, device: torch.device) -> Callable[..., dict[str, Any]]:
        """What gives the losses of a batch, and lets `backward` average the gradients of all ranks."""
        if self.size == 1:
            return model.forward_train
        device_ids = [device.index] if device.type == "cuda" else None
        # mmdet's detectors leave parameters unused in some batches: those of a head without positives
        return DistributedDataParallel(
            model, device_ids=device_ids, broadcast_buffers=False, find_unused_parameters=True)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the buffers of rank 0, those of the checkpoints: the statistics of batch norms that train."""
        if self.size > 1:
            with _exchange():
                for buffer in model.buffers():
                    distributed.broadcast(buffer, 0)

    def highest(self, *numbers: int) -> list[int]:
        """The highest of each number over all ranks, so that all do the same thing after the same step."""
        if self.size == 1:
            return list(numbers)
        highest = torch.tensor(numbers)
        with _exchange():
            distributed.all_reduce(highest, distributed.ReduceOp.MAX, group=_on_cpu())
        return highest.tolist()

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in the order of the ranks, on every rank."""
        values: list[Any] = [value]
        if self.size > 1:
            values = [None] * self.size
            with _exchange():
                distributed.all_gather_object(values, value, group=_on_cpu())
        return values

    @contextlib.contextmanager
    def without_collectives(self) -> Iterator[None]:
        """Inside, mmdet sees no other ranks: its losses would average their normalizers over unrelated images, and wait for
        a rank that has fewer of them."""
        if self.size == 1:
            yield
            return
        initialized = distributed.is_initialized
        _set_initialized(lambda: False)
        try:
            yield
        finally:
            _set_initialized(initialized)


SINGLE = World()


def _set_initialized(answer: Callable[[], bool]) -> None:
    """torch cannot leave a process group for a while; mmdet calls `torch.distributed.is_initialized()` each time."""
    setattr(distributed, "is_initialized", answer)  # noqa: B010  mypy refuses the plain assignment to a function


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch raises when a connection breaks
        raise RankLostError(f"another process of this training has left ({error}): its output is in the device-*.log files of "
                            "the run folder. The same call goes on from the last checkpoint") from error


@cache
def _on_cpu() -> Any:
    """Small messages go by gloo: NCCL would take them over the GPU."""
    return distributed.group.WORLD if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo")
