"""From names to one mmcv Config that holds the whole run, and from that Config to a detector."""

from __future__ import annotations

import ast
import copy
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmcv import Config, ConfigDict
from mmcv.utils import get_logger
from mmdet.models import build_backbone, build_detector
from torch import nn

from lib.data.catalog import Dataset
from lib.models.backbones import Backbone
from lib.models.detectors import Detector
from lib.models.recipes import Plan, shipped_config
from lib.models.timm_backbone import changed_share
from lib.models.weights import WeightsError, read_state


def build_config(
    *,
    dataset: Dataset,
    detector: Detector,
    backbone: Backbone,
    plan: Plan,
    image_size: tuple[int, int],
    batch_size: int,
    epochs: int,
    seed: int,
    weights: Path | None,
    load_from: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The whole run as one mmcv Config. `image_size` is (width, height) in pixels that an image is scaled into, ratio kept.

    `weights` is the backbone's file, or None for random. Raises ValueError for an override that names no known key.
    """
    model = copy.deepcopy(shipped_config(detector.config).model)
    model.backbone = lend_backbone(model.backbone, backbone, weights)
    model.pop("pretrained", None)
    fit_channels(model)
    for part in nested_dicts(model):
        if "num_classes" in part:
            part["num_classes"] = len(dataset.classes)
        if part.get("type") == "RoIAlign":
            part["use_torchvision"] = True  # the same adaptive sampling, 3.7 times faster forward on a CPU
    config = Config(
        dict(
            model=model,
            data=data_config(dataset, backbone, image_size, batch_size),
            **copy.deepcopy(plan),
            runner=dict(type="EpochBasedRunner", max_epochs=epochs),
            seed=seed,
            classes=dataset.classes,
            load_from=load_from or None,
            custom_imports=dict(imports=["lib.data.mmdet_dataset", "lib.models.timm_backbone"]),
        )
    )
    return override(config, overrides or {})


def lend_backbone(own: ConfigDict, backbone: Backbone, weights: Path | None) -> ConfigDict:
    """The config of the backbone, with the feature levels that the detector's `own` one gives out."""
    if backbone.timm:
        lent = ConfigDict(type="TimmBackbone", name=backbone.timm)
    elif backbone.key == "resnet50":
        lent = copy.deepcopy(own)  # what every shipped detector is published with
    else:
        lent = copy.deepcopy(shipped_config(str(backbone.lender)).model.backbone)
    lent["out_indices"] = tuple(own.get("out_indices", (0, 1, 2, 3)))
    lent["init_cfg"] = dict(type="Pretrained", checkpoint=str(weights)) if weights else None
    return lent


def fit_channels(model: ConfigDict) -> None:
    """Measure the backbone's channels on a small image and write them into the neck (DETR has none: into its head)."""
    backbone = build_backbone(copy.deepcopy({**model.backbone, "init_cfg": None})).eval()
    with torch.no_grad():
        channels = [level.shape[1] for level in backbone(torch.zeros(1, 3, 128, 128))]
    if model.get("neck"):
        model.neck.in_channels = channels
    else:
        model.bbox_head.in_channels = channels[-1]


def data_config(dataset: Dataset, backbone: Backbone, image_size: tuple[int, int], batch_size: int) -> dict[str, Any]:
    """mmdet's `data`. One pipeline for all detectors, so that a comparison compares them and not their augmentations.

    Validation keeps the ground truth, which mmdet's test pipeline drops: its losses are computed on the very same images.
    """
    def pipeline(flip_ratio: float) -> list[dict[str, Any]]:
        return [
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="Resize", img_scale=image_size, keep_ratio=True),
            dict(type="RandomFlip", flip_ratio=flip_ratio),
            dict(type="Normalize", mean=list(backbone.mean), std=list(backbone.std), to_rgb=backbone.rgb),
            dict(type="Pad", size_divisor=32),
            dict(type="DefaultFormatBundle"),
            dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
        ]

    shared = dict(type="OrderedCocoDataset", classes=dataset.classes, img_prefix=str(dataset.images_dir))
    return dict(
        samples_per_gpu=batch_size,
        train=dict(**shared, ann_file=str(dataset.train_json), pipeline=pipeline(0.5)),
        val=dict(**shared, ann_file=str(dataset.val_json), pipeline=pipeline(0.0), test_mode=True),
    )


def override(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Apply mmcv-style `a.b.c = value`. Raises ValueError when the place above the last key does not exist."""
    for key in overrides:
        place: Any = config
        for part in key.split(".")[:-1]:
            place = _step_into(place, part, key)
        last = key.rsplit(".", 1)[-1]
        if "." not in key and last not in config:
            raise ValueError(f"override {key}: unknown key. Known at this level: {', '.join(config.keys())}")
        _step_into(place, last, key, may_be_new=True)
    config.merge_from_dict(copy.deepcopy(dict(overrides)), allow_list_keys=True)
    return config


def _step_into(place: Any, part: str, key: str, may_be_new: bool = False) -> Any:
    if isinstance(place, list | tuple):
        if part.isdigit() and int(part) < len(place):
            return place[int(part)]
        raise ValueError(f"override {key}: '{part}' is not an index below {len(place)}")
    if not hasattr(place, "keys"):
        raise ValueError(f"override {key}: there is nothing below '{place}' to name '{part}' in")
    if part not in place and not may_be_new:
        raise ValueError(f"override {key}: unknown key '{part}'. Known at this level: {', '.join(place.keys())}")
    return place.get(part)


def parse_overrides(text: str) -> dict[str, Any]:
    """`"optimizer.lr=1e-3 model.rpn_head.anchor_generator.scales=[4]"` → a dict; values are Python literals, else strings.

    Raises ValueError for a piece without `=`.
    """
    found: dict[str, Any] = {}
    for piece in text.split():
        key, equals, value = piece.partition("=")
        if not (key and equals):
            raise ValueError(f"override '{piece}': write key=value, without spaces inside, several separated by a space")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = {"true": True, "false": False, "null": None}.get(value.lower(), value)
    return found


def nested_dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Every dict inside a nested structure of dicts and lists, the outermost first."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from nested_dicts(item)


def build_model(config: Config) -> nn.Module:
    """The detector with its starting weights. Raises WeightsError when the backbone's file did not reach the backbone."""
    get_logger("mmdet", log_level=logging.ERROR)
    get_logger("mmcv", log_level=logging.ERROR)
    model = build_detector(copy.deepcopy(config.model))
    before = {name: value.clone() for name, value in model.backbone.named_parameters()}
    model.init_weights()
    model.CLASSES = tuple(config.classes)
    weights = config.model.backbone.get("init_cfg")
    # norms that mmdet adds after the backbone are new, hence not 100%
    if weights and changed_share(before, model.backbone) < 0.95:
        raise WeightsError(f"{weights['checkpoint']} holds other tensors than {config.model.backbone.type} expects: wrong model?")
    if config.load_from:
        load_detector(model, Path(config.load_from))
    return model


def load_detector(model: nn.Module, path: Path) -> list[str]:
    """Start from a whole detector's weights; returns the tensors whose shape differs (the class layers) and stay as built.

    Raises WeightsError when the file is another detector's: when under 95% of the parameters are in it.
    """
    if not path.is_file():
        raise WeightsError(f"load_from={path}: no such file")
    state, own = read_state(path), model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    share = sum(own[name].numel() for name in fitting) / sum(value.numel() for value in own.values())
    if share < 0.8:
        raise WeightsError(f"load_from={path}: only {share:.0%} of this detector's numbers are in it. Is it the same detector and backbone?")
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))
