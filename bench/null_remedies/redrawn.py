"""Remedies that change nothing but the draw: one anchor less, or two, of the 256 that each image teaches the RPN.

What such a training scores differs from the baseline's by chance alone, as that of another seed does. A gain that is claimed for
one of them is a wrong claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import TWO_STAGE, Context, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config


def _fewer(number: int) -> Remedy:
    def apply(config: Config, _: Context) -> None:
        config.model.train_cfg.rpn.sampler.num -= number

    return Remedy(
        key=f"redrawn_{number}", title=f"Redrawn {number}", about=f"{number} anchors fewer are drawn of an image",
        stages=("proposals", "class"), families=(TWO_STAGE,), trains=True, cost="none",
        sources=(Source("made for this bench", "no effect but chance"),), traps=("a gain of it is chance",), apply=apply,
    )


ONE, TWO, THREE, FOUR = (_fewer(number) for number in (1, 2, 3, 4))
