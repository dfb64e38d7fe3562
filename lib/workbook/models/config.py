"""From names to one mmcv Config that holds the whole run, and from that Config to a detector."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmcv import Config, ConfigDict
from mmcv.utils import get_logger
from mmdet.models import build_backbone, build_detector
from mmdet.models.detectors import BaseDetector
from torch import nn

from workbook.data.catalog import Dataset
from workbook.data.learnable import LEFT_OUT
from workbook.models.backbones import Backbone
from workbook.models.detectors import Detector
from workbook.models.gpu_ops import use_wheel_kernels
from workbook.models.hooks import loaded_shapes, reading
from workbook.models.merge_overrides import merge_overrides, require_as_asked
from workbook.models.recipes import Schedule, shipped_config
from workbook.models.roi_align import SparseRoIExtractor
from workbook.models.samplers import DeviceRandomSampler
from workbook.models.state import EXTRA, backbone_state, count_numbers, read_state
from workbook.models.timm_backbone import TimmBackbone
from workbook.models.weights import WeightsError

OUTPUT_NORM = re.compile(r"norm\d\.")  # the norm that mmdet adds behind each stage of Swin; no weight file holds it


def build_config(
    *,
    dataset: Dataset,
    detector: Detector,
    backbone: Backbone,
    schedule: Schedule,
    image_size: tuple[int, int],
    batch_size: int,
    epochs: int,
    seed: int,
    weights: Path | None,
    load_from: str = "",
    overrides: Mapping[str, Any] | None = None,
    empty_images: str = LEFT_OUT,
) -> Config:
    """The whole run as one mmcv Config. `image_size` is (width, height) in pixels that an image is scaled into, ratio kept.

    `weights` is the backbone's file, or None for random. `empty_images` says whether training uses the images without objects.
    Raises ValueError for an override that names no known key, is of another kind than what stands there, or changes what a parameter
    decides.
    """
    model = copy.deepcopy(shipped_config(detector.config).model)
    model.backbone = copy_backbone(model.backbone, backbone, weights)
    model.pop("pretrained", None)
    fit_channels(model)
    for part in nested_dicts(model):
        if "num_classes" in part:
            part["num_classes"] = len(dataset.classes)
    lent_parts(model)
    config = Config(
        dict(
            model=model,
            data=data_config(dataset, backbone, image_size, batch_size, empty_images),
            **copy.deepcopy(schedule),
            runner=dict(type="EpochBasedRunner", max_epochs=epochs),
            seed=seed,
            classes=dataset.classes,
            load_from=load_from or None,
            custom_imports=dict(imports=[f"workbook.{name}" for name in (
                "data.mmdet_dataset", "models.roi_align", "models.samplers", "models.timm_backbone")]),
        )
    )
    merge_overrides(config, overrides or {})
    require_as_asked(config, image_size, len(dataset.classes))
    return config


def lent_parts(model: dict[str, Any]) -> None:
    """Put the workbook's own parts in the place of mmdet's: the same results, faster."""
    for part in nested_dicts(model):
        if part.get("type") == "SingleRoIExtractor":
            part["type"] = SparseRoIExtractor.__name__  # many times faster on a CPU
        if part.get("type") == "RandomSampler":
            part["type"] = DeviceRandomSampler.__name__  # on a GPU without waiting for the CPU


def copy_backbone(own: ConfigDict, backbone: Backbone, weights: Path | None) -> ConfigDict:
    """The config of the backbone, with the feature levels that the detector's `own` one gives out."""
    if backbone.timm:
        made = ConfigDict(type="TimmBackbone", name=backbone.timm)
    elif backbone.published:
        made = copy.deepcopy(own)
    else:
        made = copy.deepcopy(shipped_config(str(backbone.mmdet_config)).model.backbone)
    made["out_indices"] = tuple(own.get("out_indices", (0, 1, 2, 3)))
    made["init_cfg"] = dict(type="Pretrained", checkpoint=str(weights)) if weights else None
    return made


def fit_channels(model: ConfigDict) -> None:
    """Measure the backbone's channels on a small image and write them into the neck (DETR has none: into its head)."""
    backbone = build_backbone(copy.deepcopy({**model.backbone, "init_cfg": None}))
    backbone.eval()  # mmdet's backbones return nothing here
    try:
        with torch.no_grad():
            channels = [level.shape[1] for level in backbone(torch.zeros(1, 3, 128, 128))]
    except Exception as error:
        if not isinstance(backbone, TimmBackbone):
            raise
        raise ValueError(
            f"backbone timm/{backbone.name} does not take images of every size ({type(error).__name__}: {error}). Choose a convolutional "
            "one, or a transformer of mmdet (swin_t, pvtv2_b0)"
        ) from error
    if model.get("neck"):
        model.neck.in_channels = channels
    else:
        model.bbox_head.in_channels = channels[-1]


def data_config(
    dataset: Dataset, backbone: Backbone, image_size: tuple[int, int], batch_size: int, empty_images: str = LEFT_OUT
) -> dict[str, Any]:
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
        train=dict(**shared, ann_file=str(dataset.train_json), pipeline=pipeline(0.5), filter_empty_gt=empty_images == LEFT_OUT),
        val=dict(**shared, ann_file=str(dataset.val_json), pipeline=pipeline(0.0), test_mode=True),
    )


def nested_dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Every dict inside a nested structure of dicts and lists, the outermost first."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from nested_dicts(item)


def build_untrained(config: Config) -> BaseDetector:
    """The detector as its config describes it, before any weights: for a checkpoint to be loaded into."""
    for name in ("mmdet", "mmcv"):  # they would list every tensor's initialization
        get_logger(name).setLevel(logging.ERROR)
    use_wheel_kernels()
    model = build_detector(copy.deepcopy(config.model))
    model.CLASSES = tuple(config.classes)
    return model


def build_model(config: Config) -> BaseDetector:
    """The detector with its starting weights. Raises WeightsError when the backbone's file is not the backbone's."""
    model = build_untrained(config)
    weights = config.model.backbone.get("init_cfg")
    if weights:
        load_backbone(model, Path(weights["checkpoint"]))
    else:
        model.init_weights()
    if config.load_from:
        load_detector(model, Path(config.load_from))
    return model


def load_backbone(model: BaseDetector, path: Path) -> None:
    """Initialize the model, and make sure that all of the file has reached all of its backbone: mmcv itself only logs.

    The file holds a backbone as it was published, or as a detector has it. Raises WeightsError for another model's file, naming
    a tensor.
    """
    backbone = model.backbone
    if isinstance(backbone, TimmBackbone):
        model.init_weights()  # which checks every tensor itself
        return
    given = backbone_state(read_state(path))
    kind = type(backbone).__name__
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path}: mmdet's {kind} reads .pth files only. Convert it with torch.save")
    with reading(given), loaded_shapes(backbone) as loaded:
        try:
            model.init_weights()
            if _missing_tensors(backbone, loaded) and not _missing_tensors(backbone, _shapes(given)):
                backbone.load_state_dict(given, strict=False)  # mmdet's own names, some of which its converter of published ones breaks
        except (KeyError, IndexError, ValueError, RuntimeError) as error:  # of mmdet's converters, for names that they do not expect
            raise WeightsError(f"{path} is not a weight file of this {kind}: {type(error).__name__}: {error}") from error
    if missing := _missing_tensors(backbone, loaded):
        raise WeightsError(f"{path} is not a weight file of this {kind}: {len(missing)} of its {len(_shapes(backbone.named_parameters()))} "
                           f"tensors are missing or of another shape, first {missing[0]}. The file's first is {next(iter(given))}")
    # a deeper sibling (pvtv2_b2 for pvtv2_b1) has every tensor that is needed, and more
    numbers, own = count_numbers(given, without=("fc", "head")), count_numbers(backbone.state_dict())
    if numbers > EXTRA * own:
        raise WeightsError(f"{path} holds a larger model than this {kind} ({numbers:,} numbers for {own:,})")


def _shapes(tensors: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in dict(tensors).items()}


def _missing_tensors(backbone: nn.Module, loaded: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The parameters that are not among these names and shapes."""
    own = _shapes(backbone.named_parameters())
    return [name for name, shape in own.items() if loaded.get(name) != shape and not OUTPUT_NORM.match(name)]


def load_detector(model: BaseDetector, path: Path) -> list[str]:
    """Start from a whole detector's weights; returns the tensors whose shape differs (the class layers) and stay as built.

    Raises WeightsError when the file is another detector's: when it lacks more than 5% of the parameters, the layers that
    grow with the number of classes not counted, or when its backbone is a larger one.
    """
    if not path.is_file():
        raise WeightsError(f"load_from={path}: no such file")
    state, own = read_state(path), model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    by_class = {name for name in state.keys() & own.keys() - fitting.keys() if state[name].shape[1:] == own[name].shape[1:]}
    share = count_numbers(fitting) / count_numbers({name: own[name] for name in own.keys() - by_class})
    if share < 0.95:
        raise WeightsError(
            f"load_from={path}: only {share:.0%} of this detector's numbers are in it. Is it the same detector and backbone? "
            f"The file's first tensor is {next(iter(state))}, the detector's {next(iter(own))}"
        )
    given, needed = (count_numbers({n: v for n, v in s.items() if n.startswith("backbone.")}) for s in (state, own))
    if given > EXTRA * needed:
        raise WeightsError(f"load_from={path}: its backbone is a larger one ({given:,} numbers for {needed:,})")
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))
