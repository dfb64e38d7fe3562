"""The next larger image size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import FAMILIES, PIXELS, Context, Remedy, Source
from workbook.remedies.config import transforms

if TYPE_CHECKING:
    from mmcv import Config

TIMES = 1.5
STEP = 32  # pixels: the coarsest stride that images are padded to


def next_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Width and height times 1.5, to the nearest multiple of 32 that is larger than before."""
    width, height = (max(STEP * round(TIMES * side / STEP), side + STEP) for side in image_size)
    return width, height


def apply(config: Config, context: Context) -> None:
    """In training and in validation."""
    for split in ("train", "val"):
        for resize in transforms(config, split, "Resize"):
            resize.img_scale = next_size(resize.img_scale)


LARGER_IMAGES = Remedy(
    key="larger_images",
    title="Larger images",
    about="images scaled 1.5 times as large in training and in validation, so that an object covers more cells",
    stages=("proposals", "candidates", "queries", "class", "box"),
    families=FAMILIES,
    trains=True,
    cost="2.25 times the pixels, so about twice the time and memory, in training and at inference",
    sources=(
        Source("PaddleDetection, configs/smalldet/README.md", "VisDrone val, PP-YOLOE-l: 29.2 mAP at 640 px, 41.9 trained at about "
               "1600 and tested at 1920 px"),
    ),
    traps=(
        "images with fewer pixels than this are scaled up: that helps too, but adds no detail",
        "large objects may outgrow the largest anchors: look at AP_l",
    ),
    apply=apply,
    order=PIXELS,
)
