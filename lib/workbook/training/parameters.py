"""The parameters of a run, the same for papermill, the notebook and the command; checked all at once, before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from workbook.data.learnable import EMPTY_IMAGES, LEFT_OUT, USED
from workbook.data.parameters import DatasetName, ImageSize
from workbook.models.backbones import find_backbone
from workbook.models.detectors import find_detector
from workbook.models.overrides import parse_overrides
from workbook.models.recipes import find_recipe
from workbook.parameters import Asked, Number, WholeNumber, check
from workbook.training.trackers import TRACKERS

PRECISIONS = ("auto", "fp32", "bf16")


class Parameters(Asked):
    """What may be asked of a run. The defaults are those of `2_train.ipynb` (a test compares them)."""

    dataset: DatasetName = Field("tree_crowns", description="a folder of data/, or the embedded tree_crowns")
    detector: str = Field("faster_rcnn", description="faster_rcnn, vfnet, detr, retinanet, cascade_rcnn, deformable_detr")
    backbone: str = Field("resnet50", description="resnet50, swin_t, pvtv2_b0 ... pvtv2_b5, tf_efficientnet_lite0, timm/<name>")
    recipe: str = Field("official", description="official, seed or finetune")
    pretrained: str = Field("imagenet", description="imagenet, none, or the path of a weight file for the backbone", min_length=1)
    load_from: str = Field("", description="a whole detector's checkpoint to start from, e.g. COCO weights")
    epochs: WholeNumber = Field(12, ge=1, le=10_000, description="passes over the training images")
    image_size: ImageSize = Field(
        (1024, 1024), description="pixels an image is scaled into, ratio kept: 1024, or 1333x800"
    )
    batch_size: WholeNumber = Field(2, ge=1, le=1024, description="images a step")
    empty_images: str = Field(LEFT_OUT, description=f"train images without objects: {LEFT_OUT}, or {USED} to learn what is background")
    seed: WholeNumber = Field(0, ge=0, lt=2**31, description="for weights, order, flips and sampling")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<number>")
    devices: WholeNumber = Field(1, ge=1, le=64, description="how many GPUs (or processes of a CPU) share each batch")
    precision: str = Field("auto", description="auto (bf16 where the device has it), fp32 or bf16")
    tracker: str = Field("none", description=", ".join(TRACKERS))
    checkpoint_minutes: Number = Field(10, ge=0, description="a kill loses at most these minutes; 0 = a checkpoint after each step")
    overrides: str = Field("", description="mmcv-style changes: 'key.key=value key=value'")
    remedies: str = Field("", description="what may find more small objects, joined with + or commas: fitted_anchors+soft_nms")

    @field_validator("detector")
    @classmethod
    def _detector(cls, value: str) -> str:
        return find_detector(value).key

    @field_validator("backbone")
    @classmethod
    def _backbone(cls, value: str) -> str:
        return find_backbone(value).key

    @field_validator("recipe")
    @classmethod
    def _recipe(cls, value: str) -> str:
        return find_recipe(value).key

    @field_validator("tracker", "precision", "empty_images")
    @classmethod
    def _one_of(cls, value: str, info: ValidationInfo) -> str:
        known = {"tracker": TRACKERS, "precision": PRECISIONS, "empty_images": EMPTY_IMAGES}[str(info.field_name)]
        if value not in known:
            raise ValueError(f"unknown {info.field_name} '{value}'. Known: {', '.join(known)}")
        return value

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", value):
            raise ValueError(f"unknown device '{value}'. Known: auto, cpu, cuda, cuda:<number>")
        return value

    @field_validator("overrides")
    @classmethod
    def _overrides(cls, value: str) -> str:
        parse_overrides(value)
        return " ".join(sorted(value.split()))  # the same changes in another order are the same run


    @field_validator("remedies")
    @classmethod
    def _remedies(cls, value: str) -> str:
        if value.strip() in ("", "none"):
            return ""
        from workbook.remedies.registry import canonical  # only who asks for remedies loads them

        return canonical(value)  # the same remedies in another order are the same run


def check_parameters(values: Mapping[str, Any]) -> Parameters:
    """The checked parameters. Raises ParameterError naming every unknown name and impossible value at once."""
    return check(Parameters, values)
