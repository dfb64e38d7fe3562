"""Everything that listens to, or changes for a while, a live mmdet model: each a context that leaves the model as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn


@contextlib.contextmanager
def cached_features(model: BaseDetector, images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Inside, `model.extract_feat` gives the features of `images` [batch, 3, h, w], computed once, to whoever asks."""
    features = model.extract_feat(images)
    model.extract_feat = lambda _: features
    try:
        yield features
    finally:
        del model.extract_feat  # the method of the class shows again


@dataclass(frozen=True)
class Call:
    arguments: tuple[Any, ...]
    result: Any


@contextlib.contextmanager
def recorded_calls(module: nn.Module, method: str) -> Iterator[list[Call]]:
    """Inside, every call of `module.method` is kept with its arguments (the named ones last) and its result."""
    calls: list[Call] = []
    own = getattr(module, method)

    def keep(*arguments: Any, **named: Any) -> Any:
        result = own(*arguments, **named)
        calls.append(Call((*arguments, *named.values()), result))
        return result

    setattr(module, method, keep)
    try:
        yield calls
    finally:
        delattr(module, method)  # the method of the class shows again


@contextlib.contextmanager
def recorded_ious(assigner: Any) -> Iterator[list[Tensor]]:
    """Inside, the assigner's IoU tables are kept, so that they are computed once."""
    tables: list[Tensor] = []
    own = assigner.iou_calculator

    def keep(*arguments: Any, **named: Any) -> Tensor:
        tables.append(own(*arguments, **named))
        return tables[-1]

    assigner.iou_calculator = keep
    try:
        yield tables
    finally:
        assigner.iou_calculator = own
