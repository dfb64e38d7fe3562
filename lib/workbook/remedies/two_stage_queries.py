"""Deformable DETR whose queries begin where its encoder sees objects, and whose boxes are refined layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import MODEL, QUERY, Context, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config


def apply(config: Config, context: Context) -> None:
    """As mmdet ships it (2.28, configs/deformable_detr/deformable_detr_twostage_refine_r50_16x2_50e_coco.py)."""
    config.model.bbox_head.with_box_refine = True
    config.model.bbox_head.as_two_stage = True


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
