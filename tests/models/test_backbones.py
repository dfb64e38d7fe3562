"""The table of backbones: every entry builds, lends what mmdet ships, and carries its own preprocessing and weights."""

import copy

import pytest
import timm
import torch
from mmdet.models import build_backbone

from workbook.models.backbones import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, find_backbone
from workbook.models.config import copy_backbone
from workbook.models.recipes import shipped_config
from workbook.models.weights import Hub, Package, Url

OWN = shipped_config("faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py").model.backbone
# Published feature channels at strides 4 to 32, and millions of parameters without classifier.
# ResNet: arXiv:1512.03385; Swin: arXiv:2103.14030; PVTv2: arXiv:2106.13797, table 1; lite: the TPU repository's block table.
PUBLISHED = {
    "resnet50": ((256, 512, 1024, 2048), 23.5),
    "resnet18": ((64, 128, 256, 512), 11.2),
    "swin_t": ((96, 192, 384, 768), 27.5),
    "pvtv2_b0": ((32, 64, 160, 256), 3.4),
    "pvtv2_b1": ((64, 128, 320, 512), 13.5),
    "pvtv2_b2": ((64, 128, 320, 512), 24.8),
    "pvtv2_b3": ((64, 128, 320, 512), 44.7),
    "pvtv2_b4": ((64, 128, 320, 512), 62.0),
    "pvtv2_b5": ((64, 128, 320, 512), 81.4),
    "tf_efficientnet_lite0": ((24, 40, 112, 320), 3.0),
    "tf_efficientnet_lite1": ((24, 40, 112, 320), 3.7),
    "tf_efficientnet_lite2": ((24, 48, 120, 352), 4.3),
}


def test_the_table_holds_the_backbones_of_the_experiments():
    assert set(BACKBONES) == set(PUBLISHED)
    assert all(entry.key == key for key, entry in BACKBONES.items())


@pytest.mark.parametrize("key", BACKBONES)
def test_every_backbone_gives_its_published_feature_maps(key):
    channels, millions = PUBLISHED[key]
    config = copy_backbone(OWN, BACKBONES[key], weights=None)
    backbone = build_backbone(config)
    backbone.eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (width, 64 // stride, 96 // stride) for width, stride in zip(channels, (4, 8, 16, 32), strict=True)
    ]
    assert sum(value.numel() for value in backbone.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("key", [key for key, entry in BACKBONES.items() if entry.mmdet_config])
def test_a_lent_backbone_is_the_shipped_one(key):
    shipped = copy.deepcopy(dict(shipped_config(BACKBONES[key].mmdet_config).model.backbone))
    lent = dict(copy_backbone(OWN, BACKBONES[key], weights=None))
    for config in (shipped, lent):
        config.pop("init_cfg", None)  # the weights come from the entry, checked before anything is built
        config.pop("out_indices", None)
    assert lent == shipped


@pytest.mark.parametrize("key", [key for key, entry in BACKBONES.items() if isinstance(entry.weights, Url)])
def test_the_addresses_are_the_official_ones(key):
    address = BACKBONES[key].weights.address
    shipped = shipped_config(BACKBONES[key].mmdet_config).model.backbone.init_cfg.checkpoint
    if shipped.startswith("torchvision://"):
        from torchvision.models import get_model_weights

        official = [weights.url for weights in get_model_weights(shipped.removeprefix("torchvision://"))]
        assert address in official
        assert BACKBONES[key].weights.sha256 == address.removesuffix(".pth").rpartition("-")[2]
    else:
        assert address == shipped


def test_preprocessing_belongs_to_the_entry():
    for key, entry in BACKBONES.items():
        lite = key.startswith("tf_efficientnet_lite")
        assert (entry.mean, entry.std) == (((127.0,) * 3, (128.0,) * 3) if lite else (IMAGENET_MEAN, IMAGENET_STD))
        assert entry.rgb  # every one was trained on RGB
        if entry.mmdet_config:
            normalize = next(s for s in shipped_config(entry.mmdet_config).train_pipeline if s.type == "Normalize")
            assert (tuple(normalize.mean), tuple(normalize.std), normalize.to_rgb) == (entry.mean, entry.std, entry.rgb)


def test_the_lite_weights_come_from_packages():
    assert {key for key, entry in BACKBONES.items() if isinstance(entry.weights, Package)} == {
        "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"}


def test_any_timm_name_is_an_entry_with_timms_preprocessing():
    entry = find_backbone("timm/mobilenetv3_large_100")
    assert entry.timm == "mobilenetv3_large_100" and entry.weights == Hub("mobilenetv3_large_100")
    assert entry.mean == pytest.approx(IMAGENET_MEAN) and entry.std == pytest.approx(IMAGENET_STD)
    # inception-like normalization is kept as it is published
    assert find_backbone("timm/tf_efficientnetv2_s").mean == pytest.approx((127.5,) * 3)


def test_every_name_of_timm_can_be_looked_up():
    for name in timm.list_models():
        entry = find_backbone(f"timm/{name}")
        assert len(entry.mean) == len(entry.std) == 3 and all(value > 0 for value in entry.std)


@pytest.mark.parametrize(("key", "said"), [("resnet_50", "resnet50, resnet18, swin_t"), ("timm/resnet5O", "timm/resnet50"),
                                             ("timm/resnet18.none", "timm/resnet18.a1_in1k")])
def test_an_unknown_backbone_lists_what_there_is(key, said):
    with pytest.raises(ValueError, match=f"unknown backbone '{key}'.*{said}"):
        find_backbone(key)
