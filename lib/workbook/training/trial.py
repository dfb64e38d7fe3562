"""A detector with overrides or remedies is tried before it trains: what mmdet and torch would refuse in the first step is refused here."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping
from typing import Any

import torch
from mmcv import Config
from mmcv.runner import build_optimizer
from mmdet.datasets import build_dataset
from torch import nn

from workbook.models.config import build_model
from workbook.training.loader import as_batch

SIDE = 128  # pixels of the image that is tried: its deepest map is 4x4


def require_trainable(config: Config, asked: str, images: int | None = None) -> None:
    """Load an image of each split, build the detector and its optimizer, and send a small image through training and detection.

    asked: what changed the config, the first words of the message. images: how many a training uses, where that may not change.
    Raises ValueError when any of it fails.
    """
    try:
        batch = _first_batch(config, images)
        _try_detector(config, _shrunk(batch))
    except Exception as error:  # mmdet and torch raise many kinds; each means the same for the user
        raise ValueError(f"{asked}: no detector can be built and trained with them ({_reason(error)})") from error


def _first_batch(config: Config, images: int | None) -> dict[str, Any]:
    """The first train image as it is trained on."""
    train_set = build_dataset(copy.deepcopy(config.data.train))
    if images is not None and len(train_set) != images:
        raise ValueError(f"they leave {len(train_set)} train images of {images}")
    val_set: Any = build_dataset(copy.deepcopy(config.data.val))
    as_batch([val_set.with_truth(0)])
    return as_batch([train_set[0]])


def _shrunk(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with a black image of SIDE pixels and one object in it."""
    sizes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), (SIDE, SIDE, 3))
    small = {
        "img": torch.zeros(1, 3, SIDE, SIDE),
        "img_metas": [{**batch["img_metas"][0], **sizes, "batch_input_shape": (SIDE, SIDE)}],
        "gt_bboxes": [torch.tensor([[8.0, 8.0, 72.0, 72.0]])],
        "gt_labels": [torch.tensor([0])],
    }
    return {key: small.get(key, value) for key, value in batch.items()}


@torch.no_grad()
def _try_detector(config: Config, batch: Mapping[str, Any]) -> None:
    fresh = copy.deepcopy(config)
    fresh.model.backbone.init_cfg = None  # weights have no influence on what is refused
    fresh.load_from = None
    model = build_model(fresh)
    build_optimizer(model, config.optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), **(config.optimizer_config.get("grad_clip") or {"max_norm": 1}))
    model.train()
    model._parse_losses(model.forward_train(**batch))
    model.eval()
    model.simple_test(batch["img"], batch["img_metas"], rescale=True)


def _reason(error: BaseException) -> str:
    """Kind and words of an error; where it has none, as many of mmdet's assertions, the line that raised it."""
    first = error
    while first.__context__ is not None:  # mmcv raises it again, with the name of the class before it
        first = first.__context__
    frame = traceback.extract_tb(first.__traceback__)[-1]
    line = "" if str(first) else f"`{frame.line}` does not hold"
    return f"{type(error).__name__}: {error}{line}"
