"""More proposals reach the second stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import TEST, TWO_STAGE, Context, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config

PROPOSALS = 3000


def apply(config: Config, context: Context) -> None:
    """Raise both limits of the region proposal network; one that is higher already stays."""
    rpn = config.model.test_cfg.rpn
    rpn.nms_pre = max(PROPOSALS, rpn.nms_pre)
    rpn.max_per_img = max(PROPOSALS, rpn.max_per_img)


MORE_PROPOSALS = Remedy(
    key="more_proposals",
    title="More proposals",
    about=f"the region proposal network hands on {PROPOSALS} boxes of an image instead of 1000",
    stages=("proposals",),
    families=(TWO_STAGE,),
    trains=False,
    cost="evaluation alone; up to three times the time of the second stage",
    sources=(
        Source("ucas-vg/TinyBenchmark, tiny_benchmark/README.md", "its settings for TinyPerson: nms_pre 3000, max_per_img 3000"),
    ),
    traps=("it helps where limits cut proposals; where no anchor reaches an object there is nothing to hand on",),
    apply=apply,
    order=TEST,
)
