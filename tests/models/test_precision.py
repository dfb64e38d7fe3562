"""bfloat16 in the layers, float32 in everything about boxes."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from mmcv.cnn import ConvWS2d
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack
from mmdet.datasets import build_dataset
from torch import nn

from bench.bf16_layers import ALLOWED, LAYOUTS, Map, Shape, as_in_a_detector, bare, errors, shape_of
from scenes import make_dataset
from workbook.data import mmdet_dataset  # noqa: F401  registers the dataset type that the config names
from workbook.errors import ParameterError
from workbook.models.backbones import find_backbone
from workbook.models.config import build_config, build_model
from workbook.models.detectors import find_detector
from workbook.models.device import has_bf16, pick_precision
from workbook.models.precision import set_precision
from workbook.models.recipes import Setting, find_recipe
from workbook.training.loader import as_batch

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
def test_set_to_fp32_a_detector_has_the_same_losses_and_gradients(dataset, detector):
    """Faster R-CNN: test_against_stock.py. A wrong layout is wrong by half and more."""
    torch.manual_seed(2)
    image, truth = torch.randn(1, 3, 128, 128), torch.tensor([[8.0, 8, 60, 70], [50, 40, 110, 100]])
    model, results = in_eval_mode(model_of(dataset, detector)), []
    for _ in range(2):
        model.zero_grad()
        loss, parts = model._parse_losses(losses_of(model, image, truth))
        loss.backward()
        results.append((dict(parts), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
        set_precision(model, CPU, "fp32")
    (before, gradient), (after, gradient_after) = results
    assert after == pytest.approx(before, rel=1e-4)
    assert (gradient_after - gradient).norm() < 1e-2 * gradient.norm()


@pytest.mark.parametrize("kind", [ModulatedDeformConv2dPack, DeformConv2dPack, ConvWS2d])
def test_layers_of_mmcv_set_to_fp32_compute_the_same(kind):
    """With offsets that are not 0; between layers whose maps are channels-last."""
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Conv2d(3, 8, 3), kind(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)), torch.randn(2, 3, 16, 16)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    results = []
    for _ in range(2):
        model.zero_grad()
        maps = model(images)
        maps.square().sum().backward()
        results.append([maps.detach(), *(p.grad.clone() for p in model.parameters())])
        set_precision(model, CPU, "fp32")
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-3)


def test_a_model_with_other_than_images_in_its_layers_is_accepted():
    set_precision(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv3d(1, 8, 3)), CPU, "fp32")


@pytest.mark.parametrize("detector", ["faster_rcnn", "vfnet", "deformable_detr"])
def test_bf16_trains_every_kind_of_detector_to_nearly_the_same_losses(dataset, detector):
    torch.manual_seed(2)
    image, truth = torch.randn(1, 3, 128, 128), torch.tensor([[8.0, 8, 60, 70], [50, 40, 110, 100]])
    model = model_of(dataset, detector)
    multiplied = []
    last = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)][-1]
    last.register_forward_hook(lambda module, inputs, output: multiplied.append(output.dtype))
    predicted = set[torch.dtype]()
    for name in PREDICTORS[detector].split():
        model.get_submodule(name).register_forward_hook(lambda module, inputs, output: predicted.add(output.dtype))
    in_eval_mode(model)
    exact, _ = model._parse_losses(losses_of(model, image, truth))
    set_precision(model, CPU, "bf16")
    rough, parts = model._parse_losses(losses_of(model, image, truth))
    rough.backward()
    assert multiplied == [torch.float32, torch.bfloat16] and predicted == {torch.float32}
    assert rough.dtype == torch.float32 and rough.item() == pytest.approx(exact.item(), rel=0.1)
    assert rough.item() != exact.item()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    assert sum(bool(p.grad.abs().sum() > 0) for p in model.parameters() if p.grad is not None) > 20


def test_boxes_stay_in_float32(dataset):
    model = model_of(dataset, "faster_rcnn").eval()
    set_precision(model, CPU, "bf16")
    with torch.no_grad():
        features = model.extract_feat(torch.randn(1, 3, 128, 128))
        answers = model.rpn_head(features)
    assert {f.dtype for f in features} | {a.dtype for kind in answers for a in kind} == {torch.float32}


def test_a_model_has_its_maps_channels_last_and_in_fp32_computes_the_same(dataset):
    torch.manual_seed(2)
    image, model = torch.randn(1, 3, 128, 128), model_of(dataset, "faster_rcnn").eval()
    with torch.no_grad():
        before = model.extract_feat(image)
        after = set_precision(model, CPU, "fp32").extract_feat(image)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert all(m.is_contiguous(memory_format=torch.channels_last) and m.dtype == torch.float32 for m in after)
    assert not before[0].is_contiguous(memory_format=torch.channels_last)


def test_a_depthwise_convolution_that_is_slow_in_bf16_computes_in_float32(dataset):
    model = set_precision(model_of(dataset, "faster_rcnn", "tf_efficientnet_lite0"), CPU, "bf16")
    depthwise = [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    slow = next(m for m in depthwise if m.kernel_size == (5, 5) and m.stride == (1, 1))
    fast = next(m for m in depthwise if m.kernel_size == (3, 3) and m.stride == (1, 1))
    for conv, exact in ((slow, True), (fast, False)):
        images = torch.randn(1, conv.in_channels, 12, 12).bfloat16()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = conv(images)
        expected = nn.functional.conv2d(images.float(), conv.weight, padding=conv.padding, groups=conv.groups)
        assert (found.dtype == torch.float32 and torch.equal(found, expected)) == exact


# ---- copies ----------------------------------------------------------------------------------------------------------


def features_of(model, seed=4):
    torch.manual_seed(seed)
    with torch.no_grad():
        return torch.cat([level.flatten() for level in model.extract_feat(torch.randn(1, 3, 64, 64))])


def by_deepcopy(model):
    return copy.deepcopy(model)


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.fixture(scope="module")
def detector(dataset):
    return model_of(dataset, "faster_rcnn").eval()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("copied", [by_deepcopy, by_pickle])
def test_a_copy_computes_with_its_own_weights(detector, precision, copied):
    model = set_precision(copy.deepcopy(detector), CPU, precision)
    before = features_of(model)
    twin = copied(model)
    assert torch.equal(features_of(twin), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert features_of(twin).abs().max() == 0
    assert torch.equal(features_of(model), before) and before.abs().max() > 0
    assert type(twin) is type(model)


def test_a_copy_of_an_operator_of_mmcv_computes_with_its_own_weights():
    model = set_precision(nn.Sequential(ModulatedDeformConv2dPack(4, 4, 3, padding=1)), CPU, "fp32")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        assert twin(torch.ones(1, 4, 8, 8)).abs().max() == 0 < model(torch.ones(1, 4, 8, 8)).abs().max()


def test_a_moving_average_is_a_model_in_the_same_precision(detector):
    """torch's own, which copies the model: it must give what a fresh model gives with the averaged weights."""
    model = set_precision(copy.deepcopy(detector), CPU, "bf16")
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    average.update_parameters(model)  # the first update copies
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    average.update_parameters(model)
    fresh = copy.deepcopy(detector)
    fresh.load_state_dict(average.module.state_dict())
    expected = features_of(set_precision(fresh, CPU, "bf16"))
    assert torch.equal(features_of(average.module), expected)
    assert not torch.equal(features_of(model), expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_state_has_the_same_keys_and_goes_through_a_file(detector, precision, tmp_path):
    model = set_precision(copy.deepcopy(detector), CPU, precision)
    assert list(model.state_dict()) == list(detector.state_dict())
    torch.save(model.state_dict(), tmp_path / "state.pth")
    other = set_precision(copy.deepcopy(detector), CPU, precision)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert torch.equal(features_of(other), features_of(model))


def test_twice_is_once_and_the_last_call_decides(detector, monkeypatch):
    entered = []
    enter = torch.autocast.__enter__
    monkeypatch.setattr(torch.autocast, "__enter__", lambda self: (entered.append(self), enter(self))[1])
    model, exact = copy.deepcopy(detector), features_of(set_precision(copy.deepcopy(detector), CPU, "fp32"))
    once = features_of(set_precision(model, CPU, "bf16"))
    count = len(entered)
    assert count > 0 and not torch.equal(once, exact)
    assert torch.equal(features_of(set_precision(model, CPU, "bf16")), once)
    assert len(entered) == 2 * count
    assert torch.equal(features_of(set_precision(model, CPU, "fp32")), exact)
    assert len(entered) == 2 * count


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


# ---- maps that are narrower than a stride ----------------------------------------------------------------------------

NARROW_MAPS = [Map(height, width, layout) for height in (1, 2, 5) for width in (1, 2, 3, 4) for layout in LAYOUTS]
FOUND = [  # by `python -m bench.bf16_layers`: channels, kernel, stride, padding, whose weight's gradient is wrong in bf16
    ((3, 32), 3, 2, 1), ((32, 64), 3, 2, 1), ((64, 64), 3, 2, 1), ((256, 256), 3, 2, 1), ((3, 64), 7, 2, 3), ((3, 32), 7, 4, 3),
    ((3, 64), 7, 4, 3),
]


@pytest.mark.parametrize(("channels", "kernel", "stride", "padding"), FOUND)
def test_a_layer_that_bf16_gets_wrong_on_narrow_maps_is_right(channels, kernel, stride, padding):
    shape = Shape(channels, (kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1), 1, True)
    for handed in NARROW_MAPS:
        found = errors(as_in_a_detector(shape, handed.layout), shape, handed)
        assert max(found.values()) <= ALLOWED, f"{handed}: {found}"


@pytest.mark.parametrize(("detector", "backbone", "at_least"), [
    ("retinanet", "resnet18", 6), ("vfnet", "pvtv2_b0", 6), ("deformable_detr", "tf_efficientnet_lite0", 1)])
def test_every_padded_strided_convolution_of_a_detector_is_right_on_narrow_maps(dataset, detector, backbone, at_least):
    model = set_precision(model_of(dataset, detector, backbone), CPU, "bf16")
    layers = [(shape_of(m), m) for m in model.modules() if isinstance(m, nn.Conv2d) and m.stride[1] > 1 and max(m.padding) > 0]
    assert len(layers) >= at_least
    for shape, layer in layers:
        layer.load_state_dict(shape.build().state_dict())
        for handed in (Map(1, 1, "channels_last"), Map(3, 1, "contiguous"), Map(3, shape.stride[1] - 1, "channels_last")):
            found = errors(layer.requires_grad_(), shape, handed)
            assert max(found.values()) <= ALLOWED, f"{shape}, {handed}: {found}"


def test_on_wider_maps_such_a_layer_computes_in_bf16():
    """In float32 it would take twice the time."""
    shape = Shape((8, 8), (3, 3), (2, 2), (1, 1), (1, 1), 1, True)
    layer = as_in_a_detector(shape, "contiguous").backbone[0]
    with torch.autocast("cpu", torch.bfloat16):
        dtypes = {width: layer(torch.zeros(1, 8, 4, width)).dtype for width in (1, 2, 9)}
    assert dtypes == {1: torch.float32, 2: torch.bfloat16, 9: torch.bfloat16}


def test_the_sweep_notices_what_is_not_written_and_what_is_summed_up_in_bf16():
    shape, handed = Shape((256, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1, False), Map(4, 4, "contiguous")

    class Rough(nn.Conv2d):
        def forward(self, images):
            parts = [nn.functional.conv2d(images[:, k : k + 1], self.weight[:, k : k + 1], padding=1) for k in range(256)]
            return sum(part.bfloat16() for part in parts)  # Python's sum: each step is rounded

    layer = Rough(256, 8, 3, padding=1, bias=False)
    layer.load_state_dict(shape.build().state_dict())
    found = errors(layer, shape, handed)
    assert found["result"] > ALLOWED > found["weight's gradient"]
    assert max(errors(bare(shape, "contiguous"), shape, handed).values()) <= ALLOWED
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = torch.nan
    assert errors(layer, shape, handed)["result"] == torch.inf


@pytest.mark.parametrize("detector", ["retinanet", "vfnet"])
def test_a_training_on_narrow_images_has_the_gradients_of_float32(tmp_path, detector):
    """Photos of 60x900 pixels: at 640 the map of the deepest level is one column wide."""
    strips = make_dataset(tmp_path, "strips", train_images=2, val_images=1, width=60, height=900, sizes=("small",), classes=("a", "b", "c"))
    setting = Setting(find_detector(detector), find_backbone("tf_efficientnet_lite0"), batch_size=2, epochs=1, iterations=1)
    config = build_config(
        dataset=strips, detector=setting.detector, backbone=setting.backbone, schedule=find_recipe("seed").schedule(setting),
        image_size=(640, 640), batch_size=2, epochs=1, seed=0, weights=None)
    batch = as_batch([build_dataset(config.data.train)[index] for index in range(2)])
    assert batch["img"].shape == (2, 3, 640, 64)
    gradients = {}
    for run, precision in (("exact", "fp32"), ("first", "bf16"), ("second", "bf16")):
        torch.manual_seed(0)
        model = set_precision(build_model(config), CPU, precision).train()
        dirt = [torch.full((256 * 256 * 9,), torch.nan) for _ in range(8)]
        del dirt
        model._parse_losses(model.forward_train(**copy.deepcopy(batch)))[0].backward()
        gradients[run] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert gradients["first"].norm() == pytest.approx(gradients["exact"].norm(), rel=0.1)
    assert torch.equal(gradients["first"], gradients["second"])
