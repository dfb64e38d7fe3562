"""Images scaled, mirrored and coloured at random: for scenes that have an up and a down, and for those seen from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import FAMILIES, PIXELS, Context, Remedy, Source
from workbook.remedies.config import import_module, insert_transform, transforms

if TYPE_CHECKING:
    from mmcv import Config

SCALES = (0.5, 1.5)  # of the image size
STAGES = ("proposals", "candidates", "queries", "class", "box", "ranking")
SOURCES = (
    Source("mmdet 2.28, configs/vfnet/metafile.yml", "VFNet R50 on COCO: 41.6 box AP in 12 epochs at one size, 44.8 in 24 epochs at "
           "several"),
    Source("Ge et al. 2021, arXiv:2107.08430, and mmdet's YOLOXHSVRandomAug", "the strength of the colour jitter"),
)
COST = "steps of another size each, of 1.08 times the pixels on average; it needs a longer training to pay"


def apply_upright(config: Config, context: Context) -> None:
    """Left and right are mirrored already in every run."""
    _scale_and_color(config)


def apply_from_above(config: Config, context: Context) -> None:
    """All eight ways in which a square can lie, each as often."""
    _scale_and_color(config)
    [flip] = transforms(config, "train", "RandomFlip")
    flip.flip_ratio = [0.25, 0.25, 0.25]
    flip.direction = ["horizontal", "vertical", "diagonal"]
    import_module(config, "workbook.data.quarter_turn")
    insert_transform(config, "RandomFlip", dict(type="RandomQuarterTurn"))


def _scale_and_color(config: Config) -> None:
    [resize] = transforms(config, "train", "Resize")
    resize.ratio_range = SCALES
    insert_transform(config, "Resize", dict(type="YOLOXHSVRandomAug"))


AUGMENTATION = Remedy(
    key="augmentation",
    title="Augmentation of upright scenes",
    about="each training image at .5 to 1.5 times the image size, with another hue, saturation and brightness",
    stages=STAGES,
    families=FAMILIES,
    trains=True,
    cost=COST,
    sources=SOURCES,
    traps=("at half the size small objects may fall below what an anchor reaches", "colour that tells the classes apart is blurred"),
    apply=apply_upright,
    excludes=("augmentation_from_above",),
    order=PIXELS,
)
AUGMENTATION_FROM_ABOVE = Remedy(
    key="augmentation_from_above",
    title="Augmentation of scenes from above",
    about="as augmentation, and the image mirrored and turned in all eight ways: for aerial, microscope and table-top photos",
    stages=STAGES,
    families=FAMILIES,
    trains=True,
    cost=COST,
    sources=SOURCES,
    traps=("not for scenes with an up and a down: a car on its roof is no car that anybody asks for",
           "classes that differ in direction alone, such as letters or arrows, become one"),
    apply=apply_from_above,
    order=PIXELS,
)
