"""The recipes: how a detector is trained. One line adds one.

A recipe turns (detector, backbone, batch size, epochs, iterations) into mmcv's three dictionaries: `optimizer`,
`optimizer_config` and `lr_config`. The schedule is always mmcv's step policy with a linear warm-up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbook.models.backbones import Backbone
from workbook.models.detectors import Detector

if TYPE_CHECKING:  # the command reads the recipes' names, and mmdet takes seconds to load
    from mmcv import Config

Schedule = dict[str, dict[str, Any]]  # optimizer, optimizer_config, lr_config
MMDETECTION = "the configs of MMDetection 2.28, Chen et al. 2019, https://arxiv.org/abs/1906.07155"


@dataclass(frozen=True)
class Setting:
    """What a recipe may look at. `iterations` are those of the whole training."""

    detector: Detector
    backbone: Backbone
    batch_size: int
    epochs: int
    iterations: int


@dataclass(frozen=True)
class Recipe:
    key: str
    about: str
    source: str  # where it was published or measured
    schedule: Callable[[Setting], Schedule]


def shipped_config(path: str) -> Config:
    """A config of mmdet's wheel, e.g. `faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py`, with all it inherits."""
    import mmdet
    from mmcv import Config

    return Config.fromfile(str(Path(mmdet.__file__).parent / ".mim" / "configs" / path))


def _official(setting: Setting) -> Schedule:
    """The published optimizer, its lr scaled linearly from the published batch to this one, its milestones to these epochs."""
    if setting.detector.own_optimizer or setting.backbone.published:
        source = setting.detector.config
    elif setting.backbone.mmdet_config:
        source = setting.backbone.mmdet_config
    else:
        raise ValueError(
            f"recipe=official: no detector with {setting.backbone.key} is published in mmdet 2.28, so there is no official "
            "optimizer. Use recipe=finetune (AdamW, for small data) or recipe=seed (SGD)"
        )
    config = shipped_config(source)
    optimizer = copy.deepcopy(dict(config.optimizer))
    optimizer["lr"] *= setting.batch_size / config.auto_scale_lr.base_batch_size
    lr_config = copy.deepcopy(dict(config.lr_config))
    lr_config["step"] = sorted({max(1, round(s * setting.epochs / config.runner.max_epochs)) for s in lr_config["step"]})
    return _schedule(optimizer, lr_config, config.optimizer_config.grad_clip)


def _seed(setting: Setting) -> Schedule:
    """The first experiments: mmdet's 1x schedule at a tenth of its lr, whatever the backbone, the batch or the epochs."""
    optimizer = {"type": "SGD", "lr": 0.002, "momentum": 0.9, "weight_decay": 0.0001}
    return _schedule(optimizer, {"warmup_iters": 500, "warmup_ratio": 0.001, "step": [8, 11], "warmup": "linear"}, None)


def _finetune(setting: Setting) -> Schedule:
    """AdamW for small data on any backbone: lr 3e-4 reaches its height within a tenth of the training.

    The lr is measured on the embedded tree crowns (35 tiles, 12 epochs, batch 2); weight decay and the rule of no decay on
    norms are Swin's (mmdet, swin/mask_rcnn_swin-t-p4-w7_fpn_1x_coco.py).
    """
    optimizer = {"type": "AdamW", "lr": 3e-4, "weight_decay": 0.05, "paramwise_cfg": {"norm_decay_mult": 0.0}}
    warmup = min(500, max(1, setting.iterations // 10))
    steps = sorted({max(1, round(share * setting.epochs / 12)) for share in (8, 11)})
    return _schedule(
        optimizer,
        {"warmup_iters": warmup, "warmup_ratio": 0.001, "step": steps, "warmup": "linear"},
        {"max_norm": 35, "norm_type": 2},
    )


def _schedule(optimizer: dict[str, Any], lr_config: dict[str, Any], grad_clip: dict[str, Any] | None) -> Schedule:
    return {
        "optimizer": optimizer,
        "optimizer_config": {"grad_clip": grad_clip},
        "lr_config": {**lr_config, "policy": "step"},
    }


RECIPES: dict[str, Recipe] = {
    entry.key: entry
    for entry in (
        Recipe("official", "each backbone's published optimizer, the lr scaled to the batch",
               f"{MMDETECTION}; lr by the batch: Goyal et al. 2017, https://arxiv.org/abs/1706.02677", _official),
        Recipe("seed", "the first experiments: SGD lr .002, warm-up 500, steps 8 and 11", f"{MMDETECTION}, at a tenth of its lr", _seed),
        Recipe("finetune", "AdamW 3e-4 with a short warm-up: for a few hundred images or less",
               "Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization, https://arxiv.org/abs/1711.05101", _finetune),
    )
}


def find_recipe(key: str) -> Recipe:
    """The entry of `key`. Raises ValueError listing the known ones."""
    if key not in RECIPES:
        raise ValueError(f"unknown recipe '{key}'. Known: " + "; ".join(f"{r.key} ({r.about})" for r in RECIPES.values()))
    return RECIPES[key]
