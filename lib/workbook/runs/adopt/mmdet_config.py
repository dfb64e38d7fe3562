"""The config of an mmdet 2 training, rewritten for the dataset as it lies here: its model, and how it prepares a test image."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmcv import Config

from workbook.data.catalog import Dataset
from workbook.models.config import lent_parts, nested_dicts
from workbook.runs.adopt.errors import AdoptError
from workbook.runs.adopt.work_dir import WorkDir

PREPARED = ("LoadImageFromFile", "Resize", "RandomFlip", "Normalize", "Pad", "ImageToTensor", "DefaultFormatBundle", "Collect")


def own_config(found: WorkDir, data: Dataset) -> Config:
    """Their model and their preparation of a test image, on the dataset as it lies here. Raises AdoptError for what does not fit."""
    model = copy.deepcopy(found.config["model"])
    for key in ("train_cfg", "test_cfg"):  # until mmdet 2.6 they stood beside the model
        model.setdefault(key, copy.deepcopy(found.config.get(key)))
    _require_classes(found, model, data)
    model.pop("pretrained", None)
    lent_parts(model)
    if isinstance(model.get("backbone"), dict):
        model["backbone"]["init_cfg"] = None
    prepared = _preparation(found)
    shared = dict(type="OrderedCocoDataset", classes=found.classes, img_prefix=str(data.images_dir))
    return Config(dict(
        model=model, classes=found.classes, data=dict(
            samples_per_gpu=1,
            train=dict(**shared, ann_file=str(data.train_json), pipeline=_pipeline(prepared, 0.5)),
            val=dict(**shared, ann_file=str(data.val_json), pipeline=_pipeline(prepared, 0.0), test_mode=True)),
        custom_imports=dict(imports=[f"workbook.{name}" for name in ("data.mmdet_dataset", "models.roi_align", "models.samplers")]),
    ))


def _require_classes(found: WorkDir, model: Mapping[str, Any], data: Dataset) -> None:
    theirs, ours = found.classes, tuple(data.classes)
    if sorted(theirs) != sorted(ours):
        raise AdoptError(f"the detector has {len(theirs)} classes ({', '.join(theirs)}), and {data.name} has {len(ours)} "
                         f"({', '.join(ours)}): give the dataset that it was trained on, or rename the "
                         "categories of its json files to the names of the training")
    counts = {part["num_classes"] for part in nested_dicts(model) if "num_classes" in part}
    if counts != {len(ours)}:
        raise AdoptError(f"the config in {found.folder} has num_classes {sorted(counts)}, and {len(ours)} classes: it is not the config of "
                         "this checkpoint")


def _preparation(found: WorkDir) -> dict[str, dict[str, Any]]:
    """How a test image is loaded, resized, normalized and padded, by the name of the transform. Raises AdoptError for several sizes or
    flips, whose detections mmdet merges, and for transforms that are not known here."""
    sides = found.config["data"]
    pipeline = (sides.get("test") or sides.get("val") or {}).get("pipeline") or found.config.get("test_pipeline") or []
    wrapped = [step for step in pipeline if step.get("type") == "MultiScaleFlipAug"]
    if len(wrapped) != 1:
        raise AdoptError(f"the config in {found.folder} does not say how a test image is prepared (data.test.pipeline with "
                         "MultiScaleFlipAug): copy the whole config of the training beside the checkpoint")
    outer, = wrapped
    scales = outer.get("img_scale")
    scales = scales if isinstance(scales, list) else [scales]
    if outer.get("flip") or len(scales) != 1 or not isinstance(scales[0], tuple | list):
        more = "flipped too" if outer.get("flip") else f"in the sizes {scales}"
        raise AdoptError(f"the config in {found.folder} tests each image {more}: a run here has one size and no "
                         "flips. Set img_scale to one size and flip=False there, for all that is compared")
    steps = [step for step in pipeline if step is not outer] + list(outer.get("transforms", []))
    if unknown := [step.get("type") for step in steps if step.get("type") not in PREPARED]:
        raise AdoptError(f"the config in {found.folder} prepares test images with {', '.join(map(str, unknown))}, which is not known here. "
                         f"Known: {', '.join(PREPARED)}")
    by_type = {step["type"]: {key: value for key, value in step.items()} for step in steps}
    by_type.setdefault("LoadImageFromFile", dict(type="LoadImageFromFile"))
    by_type["Resize"] = {"keep_ratio": True, **by_type.get("Resize", {}), "type": "Resize", "img_scale": tuple(scales[0])}
    return by_type


def _pipeline(prepared: Mapping[str, dict[str, Any]], flip_ratio: float) -> list[dict[str, Any]]:
    return [
        prepared["LoadImageFromFile"], dict(type="LoadAnnotations", with_bbox=True), prepared["Resize"],
        dict(type="RandomFlip", flip_ratio=flip_ratio), *(prepared[name] for name in ("Normalize", "Pad") if name in prepared),
        dict(type="DefaultFormatBundle"), dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
    ]
