"""Deformable DETR whose queries begin where its encoder sees objects, and whose boxes are refined layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workbook.remedies.base import MODEL, QUERY, Context, MisfitError, Remedy, Source
from workbook.remedies.config import nominal_size

if TYPE_CHECKING:
    from mmcv import Config


STRIDES = (8, 16, 32, 64)  # of Deformable DETR's feature maps
PADDED = 32  # pixels: images are padded to a multiple


def apply(config: Config, context: Context) -> None:
    """As mmdet ships it (2.28, configs/deformable_detr/deformable_detr_twostage_refine_r50_16x2_50e_coco.py)."""
    from workbook.data.objects import resized_to

    head = config.model.bbox_head
    size = nominal_size(config)
    fewest = min(cells(*resized_to(image["width"], image["height"], size)) for image in context.train["images"])
    if fewest < head.num_query:
        raise MisfitError(f"an image of train has {fewest} cells after its resize, and each of the {head.num_query} queries begins at "
                          "another one. Use a larger image_size")
    head.with_box_refine = True
    head.as_two_stage = True
    head.transformer.two_stage_num_proposals = head.num_query


def cells(width: int, height: int) -> int:
    """Of all feature maps of an image of so many pixels, padded as the pipeline pads it."""
    padded = [PADDED * math.ceil(side / PADDED) for side in (width, height)]
    return sum(math.ceil(padded[0] / stride) * math.ceil(padded[1] / stride) for stride in STRIDES)


def misfit(config: Config) -> str | None:
    head = config.model.bbox_head
    if head.type != "DeformableDETRHead":
        return f"{config.model.type} has no such variant: use detector=deformable_detr with it"
    return None


TWO_STAGE_QUERIES = Remedy(
    key="two_stage_queries",
    title="Queries from the encoder",
    about="the queries begin at the encoder's best boxes, and each layer of the decoder corrects them",
    stages=("queries", "box"),
    families=(QUERY,),
    trains=True,
    cost="about a twentieth more time",
    sources=(
        Source("fundamentalvision/Deformable-DETR, README", "COCO AP_s 27.1, 28.3 with refinement, 29.6 with both; 325 and 340 GPU hours"),
        Source("mmdet 2.28, configs/deformable_detr/metafile.yml", "COCO box AP 44.5, 46.1 and 46.8"),
    ),
    traps=("weights for load_from must be of this variant",),
    apply=apply,
    misfit=misfit,
    order=MODEL,
)
