"""bfloat16 in the layers, float32 in everything about boxes."""

from pathlib import Path

import pytest
import torch
from mmcv.cnn import ConvWS2d
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack
from torch import nn

from scenes import make_dataset
from workbook.errors import ParameterError
from workbook.models.backbones import find_backbone
from workbook.models.config import build_config, build_model
from workbook.models.detectors import find_detector
from workbook.models.device import has_bf16, pick_precision
from workbook.models.precision import place
from workbook.models.recipes import Setting, find_recipe

CPU = torch.device("cpu")
PREDICTORS = {
    "faster_rcnn": "rpn_head.rpn_cls rpn_head.rpn_reg roi_head.bbox_head.fc_cls roi_head.bbox_head.fc_reg",
    "vfnet": "bbox_head.vfnet_cls bbox_head.vfnet_reg bbox_head.vfnet_reg_refine",
    "deformable_detr": "bbox_head.cls_branches.0 bbox_head.reg_branches.5.4",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), train_images=1, val_images=1, classes=("a", "b", "c"))


def model_of(dataset, detector, backbone="resnet18"):
    setting = Setting(find_detector(detector), find_backbone(backbone), batch_size=1, epochs=1, iterations=1)
    torch.manual_seed(0)
    return build_model(build_config(
        dataset=dataset, detector=setting.detector, backbone=setting.backbone, schedule=find_recipe("seed").schedule(setting),
        image_size=(128, 128), batch_size=1, epochs=1, seed=0, weights=None,
        overrides={"model.roi_head.bbox_head.fc_out_channels": 64} if detector == "faster_rcnn" else {},  # emulated, bf16 takes long
    ))


def losses_of(model, image, gt_boxes_xyxy):
    torch.manual_seed(1)  # the sampler draws
    meta = dict(img_shape=(128, 128, 3), pad_shape=(128, 128, 3), batch_input_shape=(128, 128), scale_factor=1.0)
    return model.forward_train(image, [meta], gt_bboxes=[gt_boxes_xyxy], gt_labels=[torch.tensor([0, 2])])


def in_eval_mode(model):
    """Dropout off, and two passes see the same weights; the heads give what their losses need."""
    model.eval()
    for head in (getattr(model, name, None) for name in ("rpn_head", "bbox_head", "roi_head")):
        if head is not None:
            head.training = True
    return model


@pytest.mark.parametrize("detector", ["vfnet", "deformable_detr"])
def test_placed_in_fp32_a_detector_has_the_same_losses_and_gradients(dataset, detector):
    """Faster R-CNN: test_against_stock.py. A wrong layout is wrong by half and more."""
    torch.manual_seed(2)
    image, truth = torch.randn(1, 3, 128, 128), torch.tensor([[8.0, 8, 60, 70], [50, 40, 110, 100]])
    model, told = in_eval_mode(model_of(dataset, detector)), []
    for _ in range(2):
        model.zero_grad()
        loss, parts = model._parse_losses(losses_of(model, image, truth))
        loss.backward()
        told.append((dict(parts), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
        place(model, CPU, "fp32")
    (before, gradient), (after, its) = told
    assert after == pytest.approx(before, rel=1e-4)
    assert (its - gradient).norm() < 1e-2 * gradient.norm()


@pytest.mark.parametrize("kind", [ModulatedDeformConv2dPack, DeformConv2dPack, ConvWS2d])
def test_placed_layers_of_mmcv_compute_the_same(kind):
    """With offsets that are not 0; between layers whose maps are channels-last."""
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Conv2d(3, 8, 3), kind(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)), torch.randn(2, 3, 16, 16)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    told = []
    for _ in range(2):
        model.zero_grad()
        maps = model(images)
        maps.square().sum().backward()
        told.append([maps.detach(), *(p.grad.clone() for p in model.parameters())])
        place(model, CPU, "fp32")
    torch.testing.assert_close(told[1], told[0], rtol=1e-3, atol=1e-3)


def test_a_model_with_other_than_images_in_its_layers_is_placed():
    place(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv3d(1, 8, 3)), CPU, "fp32")


@pytest.mark.parametrize("detector", ["faster_rcnn", "vfnet", "deformable_detr"])
def test_bf16_trains_every_kind_of_detector_to_nearly_the_same_losses(dataset, detector):
    torch.manual_seed(2)
    image, truth = torch.randn(1, 3, 128, 128), torch.tensor([[8.0, 8, 60, 70], [50, 40, 110, 100]])
    model = model_of(dataset, detector)
    multiplied = []
    last = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)][-1]
    last.register_forward_hook(lambda module, inputs, output: multiplied.append(output.dtype))
    said = set[torch.dtype]()
    for name in PREDICTORS[detector].split():
        model.get_submodule(name).register_forward_hook(lambda module, inputs, output: said.add(output.dtype))
    in_eval_mode(model)
    exact, _ = model._parse_losses(losses_of(model, image, truth))
    place(model, CPU, "bf16")
    rough, parts = model._parse_losses(losses_of(model, image, truth))
    rough.backward()
    assert multiplied == [torch.float32, torch.bfloat16] and said == {torch.float32}
    assert rough.dtype == torch.float32 and rough.item() == pytest.approx(exact.item(), rel=0.1)
    assert rough.item() != exact.item()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    assert sum(bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.grad is not None) > 20


def test_boxes_stay_in_float32(dataset):
    model = model_of(dataset, "faster_rcnn").eval()
    place(model, CPU, "bf16")
    with torch.no_grad():
        features = model.extract_feat(torch.randn(1, 3, 128, 128))
        answers = model.rpn_head(features)
    assert {f.dtype for f in features} | {a.dtype for kind in answers for a in kind} == {torch.float32}


def test_a_placed_model_keeps_its_maps_channels_last_and_in_fp32_computes_the_same(dataset):
    torch.manual_seed(2)
    image, model = torch.randn(1, 3, 128, 128), model_of(dataset, "faster_rcnn").eval()
    with torch.no_grad():
        before = model.extract_feat(image)
        after = place(model, CPU, "fp32").extract_feat(image)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert all(m.is_contiguous(memory_format=torch.channels_last) and m.dtype == torch.float32 for m in after)
    assert not before[0].is_contiguous(memory_format=torch.channels_last)


def test_a_depthwise_convolution_that_is_slow_in_bf16_computes_in_float32(dataset):
    model = place(model_of(dataset, "faster_rcnn", "tf_efficientnet_lite0"), CPU, "bf16")
    depthwise = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    slow = next(m for m in depthwise if m.kernel_size == (5, 5) and m.stride == (1, 1))
    fast = next(m for m in depthwise if m.kernel_size == (3, 3) and m.stride == (1, 1))
    for conv, exact in ((slow, True), (fast, False)):
        images = torch.randn(1, conv.in_channels, 12, 12).bfloat16()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = conv(images)
        expected = nn.functional.conv2d(images.float(), conv.weight, padding=conv.padding, groups=conv.groups)
        assert (found.dtype == torch.float32 and torch.equal(found, expected)) == exact


@pytest.mark.parametrize(("able", "asked", "picked"), [
    (True, "auto", "bf16"), (True, "bf16", "bf16"), (True, "fp32", "fp32"), (False, "auto", "fp32"), (False, "fp32", "fp32")])
def test_auto_takes_bf16_where_the_hardware_has_it(able, asked, picked, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able, "avx2": True})
    assert pick_precision(asked, CPU) == picked


def test_bf16_is_refused_where_it_would_be_emulated(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(ParameterError, match="precision=bf16: cpu has no bfloat16.*Use precision=fp32, or auto"):
        pick_precision("bf16", CPU)


def test_a_cpu_without_the_instructions_says_so():
    flags = Path("/proc/cpuinfo").read_text().split()
    assert has_bf16(CPU) == bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))
