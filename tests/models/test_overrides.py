"""What an override may put in the place of what: beside mmdet's own docstrings, its own classes, and by following each advice."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mmdet.core import build_assigner
from mmdet.core.bbox.assigners import MaxIoUAssigner
from mmdet.datasets.pipelines import RandomFlip
from mmdet.models.backbones import SwinTransformer
from torch import tensor

from scenes import make_dataset
from workbook.models.backbones import BACKBONES, find_backbone
from workbook.models.config import build_config, build_untrained, nested_dicts
from workbook.models.detectors import DETECTORS, find_detector
from workbook.models.kinds import EITHER, REGISTRIES, Kind, fitted, kind_of
from workbook.models.overrides import FIXED, OWN, parse_overrides
from workbook.models.recipes import Setting, find_recipe, shipped_config

FLIP = "data.train.pipeline.3"
ANCHORS = "model.rpn_head.anchor_generator"
SIZE = (128, 96)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), train_images=1, val_images=1, classes=("a", "b", "c"))


@pytest.fixture
def config_with(dataset):
    def make(text: str, detector: str = "faster_rcnn", recipe: str = "seed"):
        setting = Setting(find_detector(detector), find_backbone("resnet18"), batch_size=2, epochs=1, iterations=1)
        return build_config(
            dataset=dataset, detector=setting.detector, backbone=setting.backbone, weights=None, epochs=1, seed=0, batch_size=2,
            schedule=find_recipe(recipe).schedule(setting), image_size=SIZE, overrides=parse_overrides(text))

    return make


def at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[int(part) if part.isdigit() else part]
    return config


# ---- another kind ----------------------------------------------------------------------------------------------------

NUMBER, WORD, LIST, YES, GROUP = "a number", "a word", "a list", "a yes or no (True or False)", "a group of keys"
REFUSED = [  # override, what it is, what stands there
    (f"{ANCHORS}.scales=4", NUMBER, LIST), (f"{ANCHORS}.ratios=1.0", NUMBER, LIST), (f"{ANCHORS}.scales=[4", WORD, LIST),
    (f"{ANCHORS}.scales=False", YES, LIST), (f"{ANCHORS}.scales={{'a':4}}", GROUP, LIST), ("lr_config.step=8", NUMBER, LIST),
    ("data.train.pipeline.4.mean=127.0", NUMBER, LIST), ("data.train.pipeline=[]=", WORD, LIST),
    ("optimizer.lr=[1e-3]", LIST, NUMBER), ("optimizer.lr=fast", WORD, NUMBER), ("optimizer.lr=True", YES, NUMBER),
    ("model.test_cfg.rcnn.nms.iou_threshold=(0.5,)", LIST, NUMBER), ("model.train_cfg.rcnn.sampler.num=[64]", LIST, NUMBER),
    ("optimizer.type=5", NUMBER, WORD), ("optimizer.type=['SGD']", LIST, WORD), ("model.backbone.style=False", YES, WORD),
    ("model.rpn_head.loss_cls.use_sigmoid=maybe", WORD, YES), ("model.rpn_head.loss_cls.use_sigmoid=1", NUMBER, YES),
    ("model.rpn_head.loss_cls.use_sigmoid=None", "None", YES), ("model.rpn_head.loss_cls=5", NUMBER, GROUP),
    ("model.train_cfg.rcnn.assigner=MaxIoUAssigner", WORD, GROUP),
    (f"{FLIP}.flip_ratio=often", WORD, NUMBER), (f"{FLIP}.flip_ratio=True", YES, NUMBER),
    # a default is replaced, too
    ("optimizer.nesterov=maybe", WORD, YES), (f"{FLIP}.direction=5", NUMBER, WORD), (f"{ANCHORS}.center_offset=[0.5]", LIST, NUMBER),
    # within a group
    ("optimizer={'lr':'fast'}", WORD, NUMBER), (f"{ANCHORS}={{'scales':4,'ratios':[1.0]}}", NUMBER, LIST),
    ("data.train.pipeline={'3':{'flip_ratio':'often'}}", WORD, NUMBER),
]


@pytest.mark.parametrize(("text", "given", "wanted"), REFUSED)
def test_another_kind_is_refused_naming_both_and_the_example_is_accepted(config_with, text, given, wanted):
    with pytest.raises(ValueError, match="override ") as caught:
        config_with(text)
    words = str(caught.value)
    assert f" is {given}, where {wanted} stands, " in words
    example = re.search(r"For example (\S+)=(\S+)$", words)
    if wanted == GROUP:
        assert "Give its keys one by one, such as " in words
    elif "..." not in words:
        assert example, words
        config_with(example[0].removeprefix("For example "))


def test_the_example_is_what_was_meant(config_with):
    for text, example in ((f"{ANCHORS}.scales=4", f"{ANCHORS}.scales=[4]"), ("optimizer.lr=[1e-3]", "optimizer.lr=0.001")):
        with pytest.raises(ValueError, match=re.escape(f"For example {example}")):
            config_with(text)


@pytest.mark.parametrize(("text", "words"), [
    (f"{ANCHORS}.scales=['big']", "'big' in ['big'] is a word, where a number stands, [8]"),
    (f"{ANCHORS}.ratios=[0.5,[1.0,2.0]]", "[1.0, 2.0] in [0.5, [1.0, 2.0]] is a list, where a number stands"),
    (f"{ANCHORS}.scales=[True]", "True in [True] is a yes or no"),
    ("data.train.pipeline=[1]", "1 in [1] is a number, where a group of keys stands"),
    (f"{FLIP}.flip_ratio=['a','b']", "'a' in ['a', 'b'] is a word, where a number stands, 0.5"),
])
def test_an_element_of_another_kind_is_refused(config_with, text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        config_with(text)


# ---- what mmdet itself allows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "key", "becomes"), [
    (f"{FLIP}.flip_ratio=.25", f"{FLIP}.flip_ratio", 0.25), (f"{FLIP}.flip_ratio=1", f"{FLIP}.flip_ratio", 1.0),
    (f"{FLIP}.flip_ratio=[.25,.25] {FLIP}.direction=['horizontal','vertical']", f"{FLIP}.flip_ratio", [0.25, 0.25]),
    (f"{FLIP}.flip_ratio=(0,1) {FLIP}.direction=['horizontal','vertical']", f"{FLIP}.flip_ratio", [0.0, 1.0]),
    (f"{FLIP}.flip_ratio=None", f"{FLIP}.flip_ratio", None), (f"{FLIP}.direction=vertical", f"{FLIP}.direction", "vertical"),
    (f"{ANCHORS}.scales=[2,4,8]", f"{ANCHORS}.scales", [2, 4, 8]), (f"{ANCHORS}.scales=(4,)", f"{ANCHORS}.scales", [4]),
    (f"{ANCHORS}.scales=[4.5]", f"{ANCHORS}.scales", [4.5]), (f"{ANCHORS}.ratios=[1,2]", f"{ANCHORS}.ratios", [1.0, 2.0]),
    (f"{ANCHORS}.strides=[(4,4),(8,8),(16,16),(32,32),(64,64)]", f"{ANCHORS}.strides.4", (64, 64)),
    (f"{ANCHORS}.centers=[(0.,0.)]", f"{ANCHORS}.centers", [(0.0, 0.0)]),
    ("optimizer.lr=1", "optimizer.lr", 1.0), ("model.train_cfg.rcnn.sampler.num=1e2", "model.train_cfg.rcnn.sampler.num", 100),
    ("optimizer_config.grad_clip.max_norm=.1", "optimizer_config.grad_clip.max_norm", 0.1),
    ("optimizer_config.grad_clip=None", "optimizer_config.grad_clip", None),
    ("model.train_cfg.rcnn.assigner.neg_iou_thr=[.1,.5]", "model.train_cfg.rcnn.assigner.neg_iou_thr", (0.1, 0.5)),
    ("model.neck.add_extra_convs=on_input", "model.neck.add_extra_convs", "on_input"),
    ("model.neck.add_extra_convs=True", "model.neck.add_extra_convs", True),
    ("data.train.pipeline.2.img_scale=[(640,640),(800,800)]", "data.train.pipeline.2.img_scale", [(640, 640), (800, 800)]),
    ("data.train.pipeline.2.img_scale=[[640,640],[800,800]]", "data.train.pipeline.2.img_scale", [(640, 640), (800, 800)]),
    ("optimizer={'lr':1,'momentum':0}", "optimizer.lr", 1.0),
    ("lr_config={'step':[],'warmup':None}", "lr_config.warmup", None),
])
def test_what_mmdet_takes_passes_in_the_form_that_it_takes(config_with, text, key, becomes):
    found = at(config_with(text, recipe="finetune" if "max_norm" in text else "seed"), key)
    assert found == becomes and type(found) is type(becomes)


KINDS = {"bool": Kind.YES_OR_NO, "str": Kind.WORD, "int": Kind.NUMBER, "float": Kind.NUMBER, "list": Kind.LIST, "tuple": Kind.LIST,
         "sequence": Kind.LIST, "dict": Kind.GROUP}


def documented() -> Iterator[tuple[str, str, set[Kind]]]:
    """Class, key and kinds of each argument for which mmdet's and mmcv's docstrings name several, of all that shipped configs build."""
    configs = [shipped_config(entry.config).model for entry in DETECTORS.values()]
    configs += [shipped_config(entry.mmdet_config).model.backbone for entry in BACKBONES.values() if entry.mmdet_config]
    names = {part["type"] for config in configs for part in nested_dicts(config) if "type" in part}
    names |= {"Resize", "RandomFlip", "Normalize", "Pad", "LoadImageFromFile", "LoadAnnotations", "Collect"}
    for name in sorted(names):
        for owner in (registry.module_dict[name] for registry in REGISTRIES if name in registry.module_dict):
            for base in inspect.getmro(owner)[:-1]:
                text = f"{base.__doc__}\n{base.__init__.__doc__}"
                for key, types in re.findall(r"^\s+(\w+)\s*\(([^)]*)\)\s*:", text, re.MULTILINE):
                    words = [re.match(r"\W*(\w*)", part)[1].lower() for part in re.split(r"\||\bor\b", types)]
                    kinds = {KINDS[word] for word in words if word in KINDS}
                    if len(kinds) > 1:
                        yield name, key, kinds


def test_every_second_kind_that_mmdet_documents_is_known():
    found = [*documented()]
    assert {key for _, key, _ in found} >= {"flip_ratio", "direction", "neg_iou_thr", "conv_bias", "add_extra_convs", "init_cfg"}
    for name, key, kinds in found:
        known = {kind_of(one()) for one in EITHER.get(key, ())}
        assert key in ("classes",) or kinds <= known, f"{name}.{key} may be {kinds}"


def test_a_list_of_flips_flips_either_way(config_with):
    config = config_with(f"{FLIP}.flip_ratio=[.5,.5] {FLIP}.direction=['horizontal','vertical']")
    step = {key: value for key, value in config.data.train.pipeline[3].items() if key != "type"}
    np.random.seed(0)
    picture = np.zeros((4, 4, 3), np.uint8)
    given = {"img": picture, "img_fields": ["img"], "img_shape": picture.shape}
    assert {RandomFlip(**step)(dict(given))["flip_direction"] for _ in range(40)} == {"horizontal", "vertical"}


@pytest.mark.parametrize("written", ["[.1,.5]", "(.1,.5)"])
def test_a_range_of_negatives_assigns_negatives(config_with, written):
    """mmdet passes over a list here: nothing would be background."""
    config = config_with(f"model.train_cfg.rcnn.assigner.neg_iou_thr={written}")
    assigner = build_assigner(config.model.train_cfg.rcnn.assigner)
    assert isinstance(assigner, MaxIoUAssigner)
    boxes = tensor([[0.0, 0, 10, 10], [0, 0, 10, 30], [50, 50, 60, 60]])
    assert assigner.assign(boxes, boxes[:1]).gt_inds.tolist() == [1, 0, -1]


def test_the_default_of_a_class_is_found_in_the_class_above_it(config_with):
    with pytest.raises(ValueError, match="'no' is a word, where a yes or no .* stands, False"):
        config_with("model.roi_head.bbox_head.reg_decoded_bbox=no")
    assert "reg_decoded_bbox" not in inspect.signature(type(build_untrained(config_with("")).roi_head.bbox_head).__init__).parameters


def test_a_tuple_stays_a_tuple():
    assert fitted("model.backbone.strides", (1, 2, 2, 2), [1, 2, 2, 1]) == (1, 2, 2, 1)
    assert inspect.signature(SwinTransformer.__init__).parameters["strides"].default == (4, 2, 2, 2)


# ---- what parameters decide ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "words"), [
    ("data.train.filter_empty_gt=False", "use the parameter empty_images instead"),
    ("data.samples_per_gpu=4", "use the parameter batch_size instead"), ("data.train.classes=['a']", "use the parameter dataset"),
    ("model.backbone.depth=50", "use the parameter backbone"), ("model.backbone.init_cfg=None", "use the parameter pretrained"),
    ("data.train.test_mode=True", "data.train.test_mode cannot be changed, a training needs"),
    ("data.val.test_mode=False", "data.val.test_mode cannot be changed, every val image is measured"),
    ("data.train.type=CocoDataset", "data.train.type cannot be changed"),
    ("data.val={'filter_empty_gt':True}", "data.val.ann_file in it is the parameter dataset. Give the other keys one by one"),
    ("model.roi_head.bbox_head.num_classes=5", "5 classes, but the dataset has 3"),
    ("model.roi_head={'bbox_head':{'num_classes':2}}", "2 classes, but the dataset has 3"),
    ("data.train.pipeline.2.img_scale=(64,64)", "(64, 64), but images are scaled to (128, 96): use the parameter image_size; several"),
    ("data.val.pipeline.2.img_scale=(64,64)", "images are scaled to (128, 96): use the parameter image_size"),
    ("data.val.pipeline.2.img_scale=[(64,64),(96,96)]", "use the parameter image_size"),
    ("data.val.pipeline.3.flip_ratio=0.5", "val images are never flipped"),
    ("data.train.pipeline=[{'type':'LoadImageFromFile'}]", "it has no Resize"),
])
def test_what_a_parameter_decides_is_refused_with_its_name(config_with, text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        config_with(text)


def test_every_place_that_a_parameter_decides_names_one_that_there_is():
    from workbook.training.parameters import Parameters

    assert set(OWN.values()) <= set(Parameters.model_fields) and not set(OWN) & set(FIXED)


def test_the_place_of_a_missing_resize_may_be_filled_as_it_says(config_with):
    with pytest.raises(ValueError, match="it has no Resize") as caught:
        config_with("data.train.pipeline=[{'type':'LoadImageFromFile'}]")
    step = re.search(r"Add (\S+)$", str(caught.value))[1]
    assert config_with(f"data.train.pipeline=[{step}]").data.train.pipeline[0]["img_scale"] == SIZE
