"""Everything that listens to, or changes for a while, a live mmdet model: each a context that leaves the model as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmcv.runner.checkpoint import CheckpointLoader, load_from_local
from mmdet.models.detectors import BaseDetector
from torch import Tensor, nn


@contextlib.contextmanager
def cached_features(model: BaseDetector, images: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Inside, `model.extract_feat` gives the features of `images` [batch, 3, h, w], computed once, to every caller."""
    features = model.extract_feat(images)
    with _replaced(model, "extract_feat", lambda _: features):
        yield features


@dataclass(frozen=True)
class Call:
    arguments: tuple[Any, ...]
    result: Any


@contextlib.contextmanager
def recorded_calls(module: nn.Module, method: str) -> Iterator[list[Call]]:
    """Inside, every call of `module.method` is recorded with its arguments (the named ones last) and its result."""
    calls: list[Call] = []
    own = getattr(module, method)

    def record(*arguments: Any, **named: Any) -> Any:
        result = own(*arguments, **named)
        calls.append(Call((*arguments, *named.values()), result))
        return result

    with _replaced(module, method, record):
        yield calls


@contextlib.contextmanager
def recorded_ious(assigner: Any) -> Iterator[list[Tensor]]:
    """Inside, the assigner's IoU tables are recorded, so that they are computed once."""
    tables: list[Tensor] = []
    own = assigner.iou_calculator

    def record(*arguments: Any, **named: Any) -> Tensor:
        tables.append(own(*arguments, **named))
        return tables[-1]

    with _replaced(assigner, "iou_calculator", record):
        yield tables


@contextlib.contextmanager
def loaded_shapes(module: nn.Module) -> Iterator[dict[str, tuple[int, ...]]]:
    """Inside, names and shapes of all tensors that are loaded into `module` are recorded, unknown names too."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        shapes.update((name, tuple(value.shape)) for name, value in state.items() if isinstance(value, Tensor))

    handle = module.register_load_state_dict_pre_hook(record)
    try:
        yield shapes
    finally:
        handle.remove()


@contextlib.contextmanager
def reading(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, whatever file mmcv is told to load holds this state_dict: read by us, and nothing else of the file."""
    def load_given(filename: str, map_location: Any) -> dict[str, Any]:
        return {"state_dict": dict(state)}

    CheckpointLoader.register_scheme(prefixes="", loader=load_given, force=True)
    try:
        yield
    finally:
        CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, `owner.name` is `value`; then what the instance had before, or the method of the class again."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
