"""Twice the steps, with the whole schedule stretched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import FAMILIES, LENGTH, Context, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config

TIMES = 2


def apply(config: Config, context: Context) -> None:
    """Twice the epochs; the drops of the learning rate and its warm-up come at the same share of the training."""
    schedule = config.lr_config
    config.runner.max_epochs = TIMES * config.runner.max_epochs
    schedule.step = [TIMES * epoch for epoch in schedule.step]
    if schedule.get("warmup"):
        schedule.warmup_iters = TIMES * schedule.warmup_iters


LONGER_TRAINING = Remedy(
    key="longer_training",
    title="Longer training",
    about="twice the steps, with warm-up and drops of the learning rate at the same share of the training",
    stages=("proposals", "candidates", "queries", "class", "box", "ranking"),
    families=FAMILIES,
    trains=True,
    cost="twice the training time; nothing at inference",
    sources=(
        Source("fundamentalvision/Deformable-DETR, README", "DETR on COCO: AP_s 20.5 after 500 epochs; Deformable DETR 27.1 after 50"),
        Source("github.com/facebookresearch/detr#495", "8,000 images: mAP 0 after 40 epochs from scratch, .92 after 300 from COCO weights"),
    ),
    traps=(
        "a few dozen images are learnt by heart: the loss on train falls on while AP on val does not rise",
        "the control of another remedy that costs more steps: compare with it, not with the shorter training",
    ),
    apply=apply,
    order=LENGTH,
)
