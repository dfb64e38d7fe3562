"""A config of mmdet 3 in the words of mmdet 2.28, as far as validation and a diagnosis need it: model and preparation of an image.

mmdet 3 normalizes and pads inside the model (`data_preprocessor`: mmdet/models/data_preprocessors/data_preprocessor.py), mmdet 2 in the
pipeline. Its `batch_augments` are for training alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from workbook.models.config import nested_dicts
from workbook.runs.adopt.errors import DETECTIONS, AdoptError
from workbook.runs.adopt.literals import WHOLE
from workbook.runs.adopt.mmdet3_detr import DETRS, as_mmdet_2_model

DETECTORS = ("FasterRCNN", "CascadeRCNN", "RetinaNet", "VFNet", *DETRS)
SCOPES = ("mmdet.", "mmcv.", "mmengine.")  # before a type: where mmdet 3 looks for it, or its whole address
PREPARED = ("LoadImageFromFile", "Resize", "LoadAnnotations", "PackDetInputs")


def inherits(text: str) -> int | None:
    """The line that names other configs; None where there is none."""
    return next((number for number, line in enumerate(text.splitlines(), start=1) if line.startswith("_base_")), None)


def is_mmdet_3(config: Mapping[str, Any]) -> bool:
    return "train_dataloader" in config or "val_dataloader" in config or config.get("default_scope") == "mmdet"


def as_mmdet_2(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`model`, `data` and `runner` as mmdet 2.28 has them. where: the config, for messages.

    Raises AdoptError for what is missing, and for what mmdet 2.28 would do in another way.
    """
    if lacking := [key for key in ("model", "val_dataloader") if not isinstance(config.get(key), dict)]:
        raise AdoptError(f"{where} has no {' and no '.join(lacking)}: {WHOLE}")
    _require_epochs(config, where)
    model = _without_scopes(copy.deepcopy(config["model"]))
    if model.get("type") not in DETECTORS:
        raise AdoptError(f"{where} has a {model.get('type')}, whose weights of mmdet 3 are not known to fit mmdet 2.28's. Known are "
                         f"{', '.join(DETECTORS)}: {DETECTIONS}")
    if foreign := sorted({part["type"] for part in nested_dicts(model) if "." in str(part.get("type"))}):
        raise AdoptError(f"{where} has parts of other packages ({', '.join(foreign)}), which mmdet 2.28 has not: {DETECTIONS}")
    _require_heads(model, where)
    colours = model.pop("data_preprocessor", None)
    model.pop("init_cfg", None)
    model.get("rpn_head", {}).pop("num_classes", None)  # always 1, and in mmdet 2 not asked
    if model["type"] in DETRS:
        model = as_mmdet_2_model(model, where)
    loader, dataset = config.get("train_dataloader") or {}, config["val_dataloader"].get("dataset") or {}
    pipeline = _pipeline(_without_scopes(list(dataset.get("pipeline") or config.get("test_pipeline") or [])), colours, where)
    return {
        "model": model, "data": {"samples_per_gpu": loader.get("batch_size"), "val": {"pipeline": pipeline}},
        "runner": {"max_epochs": (config.get("train_cfg") or {}).get("max_epochs")}, "load_from": config.get("load_from")}


def classes_of(config: Mapping[str, Any]) -> Any:
    """As the config says them; None where it does not."""
    dataset = (config.get("val_dataloader") or {}).get("dataset") or {}
    given = [place.get("metainfo") or {} for place in (dataset, config)]
    return next((names for place in given for key in ("classes", "CLASSES") if (names := place.get(key))), None)


def _require_epochs(config: Mapping[str, Any], where: str) -> None:
    loop = config.get("train_cfg") or {}
    if "IterBased" in str(loop.get("type")) or loop.get("by_epoch") is False or "max_iters" in loop:
        raise AdoptError(f"{where} trains by iterations (train_cfg), and a run here counts epochs: {DETECTIONS}")


def _require_heads(model: Mapping[str, Any], where: str) -> None:
    """An RPN with anchors, and boxes alone: what a run here is measured and diagnosed by."""
    if "rpn_head" in model and model["rpn_head"].get("type") != "RPNHead":
        raise AdoptError(f"{where} has a {model['rpn_head'].get('type')} as model.rpn_head, and RPNHead alone is known here: {DETECTIONS}")
    if (model.get("roi_head") or {}).get("mask_head"):
        raise AdoptError(f"{where} has a model.roi_head.mask_head, and a run here is of boxes alone: {DETECTIONS}")


def _without_scopes(value: Any) -> Any:
    """`mmdet.ResNet` and `mmdet.models.backbones.resnet.ResNet` are `ResNet`."""
    for part in nested_dicts(value):
        if str(part.get("type")).startswith(SCOPES):
            part["type"] = part["type"].rpartition(".")[2]
    return value


# ---- how a test image is prepared ------------------------------------------------------------------------------------


def _pipeline(steps: list[dict[str, Any]], colours: Any, where: str) -> list[dict[str, Any]]:
    """As mmdet 2's `test_pipeline`."""
    if unknown := [step.get("type") for step in steps if step.get("type") not in PREPARED]:
        raise AdoptError(f"{where} prepares val images with {', '.join(map(str, unknown))} (val_dataloader.dataset.pipeline), which is not "
                         f"known here. Known: {', '.join(PREPARED)}. Without it the detector may see other images, so {DETECTIONS}")
    by_type = {step["type"]: step for step in steps}
    resize = by_type.get("Resize", {})
    scale = resize.get("scale")
    size = (scale, scale) if isinstance(scale, int) else tuple(scale) if isinstance(scale, tuple | list) else ()
    if len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise AdoptError(f"{where} does not resize val images to one size (val_dataloader.dataset.pipeline, Resize with scale=(width, "
                         f"height)), which a run here has: {DETECTIONS}")
    resized = {key: resize[key] for key in ("interpolation", "backend") if key in resize}
    return [_loaded(by_type.get("LoadImageFromFile", {}), where), dict(type="MultiScaleFlipAug", img_scale=size, flip=False, transforms=[
        dict(type="Resize", keep_ratio=resize.get("keep_ratio", False), **resized), dict(type="RandomFlip"), *_colours(colours, where),
        dict(type="ImageToTensor", keys=["img"]), dict(type="Collect", keys=["img"])])]


def _loaded(step: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Where images lie is the dataset's to say here, so `backend_args` are left out."""
    if step.get("imdecode_backend", "cv2") != "cv2":
        raise AdoptError(f"{where} decodes images with {step['imdecode_backend']} (LoadImageFromFile), which gives other pixels than cv2, "
                         f"which is used here: {DETECTIONS}")
    return {"type": "LoadImageFromFile", **{key: step[key] for key in ("to_float32", "color_type") if key in step}}


def _colours(given: Any, where: str) -> list[dict[str, Any]]:
    """`model.data_preprocessor` as steps of a pipeline."""
    if not isinstance(given, dict) or given.get("type") != "DetDataPreprocessor":
        kind = given.get("type") if isinstance(given, dict) else given
        raise AdoptError(f"{where} has {kind} as model.data_preprocessor, and DetDataPreprocessor alone is known here: {DETECTIONS}")
    to_rgb = bool(given.get("bgr_to_rgb") or given.get("rgb_to_bgr"))
    mean, std = given.get("mean"), given.get("std")
    normalize = dict(type="Normalize", mean=mean or [0.0, 0.0, 0.0], std=std or [1.0, 1.0, 1.0], to_rgb=to_rgb)
    divisor = given.get("pad_size_divisor", 1)
    value = (given.get("pad_value", 0),) * 3  # a number alone would fill the first channel alone
    pad = dict(type="Pad", size_divisor=divisor, pad_val=dict(img=value))
    return [normalize, *([pad] if divisor > 1 else [])]
