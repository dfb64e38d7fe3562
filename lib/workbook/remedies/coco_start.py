"""The training starts from a detector that was trained on COCO, with anchors fitted to these objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies import fitted_anchors
from workbook.remedies.base import FAMILIES, FITTED, QUERY, Context, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config

ZOO = "https://download.openmmlab.com/mmdetection/v2.0/"
# mmdet's own weights with a ResNet-50, by the type of the detector (its metafile.yml)
WEIGHTS = {
    "FasterRCNN": "faster_rcnn/faster_rcnn_r50_fpn_1x_coco/faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth",
    "CascadeRCNN": "cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco/cascade_rcnn_r50_fpn_1x_coco_20200316-3dc56deb.pth",
    "RetinaNet": "retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth",
    "VFNet": "vfnet/vfnet_r50_fpn_1x_coco/vfnet_r50_fpn_1x_coco_20201027-38db6f58.pth",
    "DETR": "detr/detr_r50_8x2_150e_coco/detr_r50_8x2_150e_coco_20201130_194835-2c4b8974.pth",
    "DeformableDETR": "deformable_detr/deformable_detr_r50_16x2_50e_coco/"
                      "deformable_detr_r50_16x2_50e_coco_20210419_220030-a12b9512.pth",
}


def apply(config: Config, context: Context) -> None:
    """The weights are those of load_from; the anchors are fitted where the detector has any."""
    if context.family != QUERY and fitted_anchors.misfit(config) is None:
        fitted_anchors.apply(config, context)


def misfit(config: Config) -> str | None:
    """Weights cannot be fetched without being asked for: the person passes their path."""
    if config.load_from:
        return None
    kind = config.model.type
    where = f"{ZOO}{WEIGHTS[kind]}" if kind in WEIGHTS else f"mmdet's model zoo (a {kind})"
    return (f"it starts from a {kind} trained on COCO, and load_from is empty. Download {where} (backbone resnet50; for another "
            "backbone the weights of that detector and backbone), copy it to this machine, and give load_from=/path/to/it.pth")


COCO_START = Remedy(
    key="coco_start",
    title="Start from COCO",
    about="the training starts from the detector in load_from, trained on COCO, with anchors fitted to these objects",
    stages=("proposals", "candidates", "queries", "class", "box", "ranking"),
    families=FAMILIES,
    trains=True,
    cost="a download of 100 to 200 MB once; nothing in training",
    sources=(
        Source("ucas-vg/TinyBenchmark, tiny_benchmark/README.md", "TinyPerson AP50_tiny: ImageNet and fitted anchors 47.35, COCO with "
               "its own anchors 47.11, COCO with fitted anchors 49.76"),
        Source("github.com/facebookresearch/detr#495", "8,000 images: mAP 0 from scratch, .92 from COCO weights"),
    ),
    traps=("without fitted anchors it does not help", "classes that COCO has may be found by what it learnt there, on other photos"),
    apply=apply,
    misfit=misfit,
    excludes=("fitted_anchors",),
    order=FITTED,
)
