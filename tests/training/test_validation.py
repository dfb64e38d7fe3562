"""One pass for detections and losses, against mmdet's own two passes over the same images."""

import copy
import warnings

import numpy as np
import pytest
import torch
from mmdet.datasets import build_dataset
from torch import nn

from scenes import make_dataset
from workbook.errors import RunError
from workbook.models.backbones import find_backbone
from workbook.models.config import build_config, build_model
from workbook.models.detectors import find_detector
from workbook.models.recipes import Setting, find_recipe
from workbook.training.loader import as_batch, to_device
from workbook.training.validation import losses, mean_losses, validate

CPU = torch.device("cpu")
DETECTORS = ["faster_rcnn", "vfnet", "detr", "cascade_rcnn", "retinanet"]
# Few candidates, for speed; and thresholds that a detector with random weights passes.
TWO_STAGE = {"model.test_cfg.rcnn.score_thr": 0.3, "model.test_cfg.rpn.max_per_img": 100,
             "model.train_cfg.rpn_proposal.max_per_img": 100}
OVERRIDES = {
    "faster_rcnn": TWO_STAGE,
    "cascade_rcnn": TWO_STAGE,
    "vfnet": {"model.test_cfg.score_thr": 0.001},
    "retinanet": {"model.test_cfg.score_thr": 0.001},
    "detr": {"model.bbox_head.num_query": 20, "model.test_cfg.max_per_img": 20},
}
LOSSES = {
    "faster_rcnn": {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss"},
    "vfnet": {"loss_cls", "loss_bbox", "loss_bbox_rf", "loss"},
    "retinanet": {"loss_cls", "loss_bbox", "loss"},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    # 96 px wide pictures are padded to 96x64: the padding and the scaling to 80 px must not show in the results
    return make_dataset(tmp_path_factory.mktemp("data"), val_images=2, empty_val_images=1, width=120, height=80)


@pytest.fixture(scope="module")
def detectors(dataset):
    """Each detector with a small backbone and its validation images; made once, copied for each test."""
    made = {}

    def make(key, backbone="resnet18"):
        if key not in made:
            setting = Setting(find_detector(key), find_backbone(backbone), batch_size=1, epochs=1, iterations=1)
            config = build_config(
                dataset=dataset, detector=setting.detector, backbone=setting.backbone, schedule=find_recipe("seed").schedule(setting),
                image_size=(96, 96), batch_size=1, epochs=1, seed=0, weights=None, overrides=OVERRIDES[key],
            )
            torch.manual_seed(0)
            made[key] = build_model(config), build_dataset(config.data.val)
        return copy.deepcopy(made[key][0]), made[key][1]

    return make


def image_of(val, index):
    return to_device(as_batch([val.with_truth(index)]), CPU)


def as_arrays(detections, val, index):
    """What `validate` gave for one image, as mmdet's list of [n, 5] arrays (x1, y1, x2, y2, score), one a class."""
    own = [d for d in detections if d["image_id"] == val.img_ids[index]]
    by_class = [[d for d in own if d["category_id"] == category] for category in val.cat_ids]
    return [
        np.array([[x, y, x + w, y + h, d["score"]] for d in chosen for x, y, w, h in [d["bbox"]]]).reshape(-1, 5)
        for chosen in by_class
    ]


@pytest.mark.parametrize("key", DETECTORS)
def test_detections_are_those_of_mmdets_own_test(detectors, key):
    model, val = detectors(key)
    detections, _ = validate(model, val, CPU)
    assert detections
    for index in range(len(val)):
        batch = image_of(val, index)
        with torch.no_grad():
            own = model.eval()(return_loss=False, rescale=True, img=[batch["img"]], img_metas=[batch["img_metas"]])[0]
        for ours, mmdets in zip(as_arrays(detections, val, index), own, strict=True):
            np.testing.assert_allclose(ours, mmdets, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("key", DETECTORS)
def test_losses_are_those_of_a_separate_pass(detectors, key):
    model, val = detectors(key)
    _, found = validate(model, val, CPU, seed=3)
    totals = []
    for index in range(len(val)):
        torch.manual_seed(3 * 1_000_003 + index)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm | nn.Dropout):
                module.eval()
            if isinstance(module, nn.MultiheadAttention):
                module.eval()  # its dropout is a number, not a layer
        with torch.no_grad():
            totals.append(dict(model._parse_losses(model.forward_train(**image_of(val, index)))[1]))
    assert set(found) == set(totals[0])
    for name, value in found.items():
        assert value == pytest.approx(np.mean([total[name] for total in totals]), rel=1e-4, abs=1e-6), name
    assert all(np.isfinite(value) for value in found.values())
    assert set(found) == LOSSES.get(key, set(found))


def test_vfnet_has_a_validation_loss_where_mmdet_fails(detectors):
    model, val = detectors("vfnet")
    with pytest.raises(TypeError, match=r"loss\(\) missing 1 required positional argument"), torch.no_grad():
        model.eval().forward_train(**image_of(val, 0))
    found = losses(model, image_of(val, 0))
    assert found["loss"] == pytest.approx(found["loss_cls"] + found["loss_bbox"] + found["loss_bbox_rf"], rel=1e-5)
    assert found["loss_bbox_rf"] > 0


@pytest.mark.parametrize("key", ["faster_rcnn", "vfnet", "detr"])
def test_each_image_goes_through_the_backbone_once(detectors, key):
    model, val = detectors(key)
    seen, extracted = [], []
    model.backbone.register_forward_hook(lambda module, images, maps: seen.append(images[0].shape[0]))
    original = model.extract_feat
    type_of = type(model)
    model.__class__ = type("Counted", (type_of,), {"extract_feat": lambda self, img: (extracted.append(1), original(img))[1]})
    original = type_of.extract_feat.__get__(model)
    validate(model, val, CPU)
    assert seen == [1] * len(val)
    assert len(extracted) == len(val)


@pytest.mark.parametrize("key", ["faster_rcnn", "vfnet", "detr"])
def test_validation_leaves_no_trace_in_the_model(detectors, key):
    model, val = detectors(key)
    for module in model.modules():  # norms that would move if they were let
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(11)
    expected_next = torch.rand(3)
    torch.manual_seed(11)
    validate(model, val, CPU)
    assert torch.equal(torch.rand(3), expected_next)  # the training that goes on draws what it would have drawn
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert "extract_feat" not in vars(model)
    assert all(value.grad is None for value in model.parameters())


def test_a_failure_inside_leaves_no_trace_either(detectors, monkeypatch):
    model, val = detectors("faster_rcnn")
    monkeypatch.setattr(model.roi_head, "forward_train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        validate(model, val, CPU)
    assert "extract_feat" not in vars(model) and not any(module.training for module in model.modules())


def test_the_same_weights_give_the_same_figures_and_the_seed_is_used(detectors):
    model, val = detectors("faster_rcnn")
    first, again = validate(model, val, CPU, seed=1), validate(model, val, CPU, seed=1)
    other = validate(model, val, CPU, seed=2)
    assert first == again
    assert other[0] == first[0] and other[1] != first[1]  # the sampled RoIs move the losses, never the detections


def test_an_image_without_objects_is_validated_too(detectors):
    model, val = detectors("faster_rcnn")
    assert [len(val.get_ann_info(index)["bboxes"]) for index in range(len(val))] == [2, 2, 0]
    found = losses(model.eval(), image_of(val, 2))
    assert found["loss_bbox"] == 0 and found["loss_rpn_cls"] > 0


def test_detections_lie_in_the_original_image(detectors):
    model, val = detectors("retinanet")
    detections, _ = validate(model, val, CPU)
    x, y, w, h = np.array([d["bbox"] for d in detections]).T
    assert x.min() >= 0 and y.min() >= 0 and w.min() >= 0 and h.min() >= 0
    assert 96 < (x + w).max() <= 120.001 and 64 < (y + h).max() <= 80.001  # not those of the scaled image, 96x64
    assert {d["category_id"] for d in detections} <= {1, 2}


def test_losses_that_some_images_lack_are_refused_and_not_diluted(detectors, monkeypatch):
    model, val = detectors("retinanet")
    whole = model.bbox_head.loss

    def without_boxes_where_nothing_is(*arguments, **named):
        found = whole(*arguments, **named)
        has_objects = any(len(boxes) for boxes in arguments[2])
        return found if has_objects else {"loss_cls": found["loss_cls"]}

    monkeypatch.setattr(model.bbox_head, "loss", without_boxes_where_nothing_is)
    with_objects, without = val.img_ids[0], val.img_ids[2]
    with pytest.raises(RunError, match=rf"val images {with_objects} and {without} different losses \(loss_bbox\).*return a 0"):
        validate(model, val, CPU)


def test_the_mean_is_over_all_images():
    assert mean_losses({7: {"loss": 1.0, "acc": 50.0}, 9: {"loss": 4.0, "acc": 100.0}}) == {"loss": 2.5, "acc": 75.0}


def test_it_does_not_warn_of_a_second_gpu(detectors, monkeypatch):
    model, val = detectors("retinanet")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.random, "_fork_rng_warned_already", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validate(model, val, CPU)
