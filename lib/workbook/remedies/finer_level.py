"""A feature level of stride 4 below the finest one of a dense detector."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from workbook.remedies.base import DENSE, MODEL, Context, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config

STRIDES = [4, 8, 16, 32, 64, 128]
# VFNet's ranges of regressed distances in pixels, one more below: half of mmdet's first (2.28, dense_heads/vfnet_head.py)
REGRESS_RANGES = [[-1, 32], [32, 64], [64, 128], [128, 256], [256, 512], [512, 1e8]]
# VFNet's anchors for its assigner, as its head has them by default, from stride 4
VFNET_ANCHORS = dict(type="AnchorGenerator", ratios=[1.0], octave_base_scale=8, scales_per_octave=1, center_offset=0.0, strides=STRIDES)


def apply(config: Config, context: Context) -> None:
    """The pyramid begins one level lower, and the head predicts from it as from the others."""
    model = config.model
    model.neck.start_level = 0
    model.neck.num_outs = len(STRIDES)
    head = model.bbox_head
    if "anchor_generator" in head:
        head.anchor_generator.strides = STRIDES
        return
    head.strides = STRIDES
    head.regress_ranges = REGRESS_RANGES
    head.anchor_generator = copy.deepcopy(VFNET_ANCHORS)


def misfit(config: Config) -> str | None:
    if config.model.neck.start_level == 0:
        return "its pyramid begins at the finest level of the backbone already"
    if config.load_from:
        return "the pyramid of the weights in load_from begins one level higher, so they would land on other levels. Leave one of them out"
    return None


FINER_LEVEL = Remedy(
    key="finer_level",
    title="A finer feature level",
    about="the detector also predicts from the feature map of stride 4, where a small object covers four times the cells",
    stages=("candidates", "class", "box"),
    families=(DENSE,),
    trains=True,
    cost="the head runs on a map four times as large: three to four times its time and memory",
    sources=(
        Source("ucas-vg/TinyBenchmark, tiny_benchmark/README.md", "RetinaNet with finer levels and smaller anchors on TinyPerson: "
               "AP50_tiny 33.53 to 46.56"),
        Source("PaddleDetection, configs/smalldet/README.md", "a finer level on VisDrone: +.9 mAP at 640 px, -.6 at 1920 px"),
    ),
    traps=("where pixels are missing larger images do more", "most cells of the new level are background: more false alarms"),
    apply=apply,
    misfit=misfit,
    order=MODEL,
)
