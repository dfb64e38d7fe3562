"""Configs of every shipped detector on a tiny dataset, for remedies to change."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmcv.runner import build_optimizer
from mmdet.datasets import build_dataset

import workbook.data.mmdet_dataset  # noqa: F401  registers the dataset type that the config names
from scenes import write_split
from workbook.data.catalog import Dataset
from workbook.models.backbones import find_backbone
from workbook.models.config import build_config, build_untrained
from workbook.models.detectors import find_detector
from workbook.models.precision import set_precision
from workbook.models.recipes import Setting, find_recipe
from workbook.remedies.apply import Applied, apply_remedies
from workbook.remedies.base import Context
from workbook.remedies.registry import parse_remedies
from workbook.training.loader import as_batch

IMAGE_SIZE = (128, 128)
# queries in the hundreds and 2000 proposals take most of the time of a step, and nothing here depends on them
FEW = {
    "faster_rcnn": {"model.train_cfg.rpn_proposal.max_per_img": 50, "model.train_cfg.rcnn.sampler.num": 16},
    "cascade_rcnn": {"model.train_cfg.rpn_proposal.max_per_img": 50},
    "detr": {"model.bbox_head.num_query": 20, "model.test_cfg.max_per_img": 20},
    "deformable_detr": {"model.bbox_head.num_query": 20, "model.test_cfg.max_per_img": 20},
}


def write_dataset(root: Path) -> Dataset:
    """Train: an image with a small and a medium object, one with a medium object, and one without any."""
    folder = root / "mixed"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, images in {"train": [("small", "medium"), ("medium",), ()], "val": [("small", "medium")]}.items():
        write_split(folder, split, images, (128, 96), ("square", "bar"), rng)
    return Dataset("mixed", folder, ("square", "bar"), "0" * 64)


@cache
def _config(dataset: Dataset, detector: str, load_from: str) -> Config:
    setting = Setting(find_detector(detector), find_backbone("resnet18"), batch_size=2, epochs=12, iterations=12)
    return build_config(
        dataset=dataset, detector=setting.detector, backbone=setting.backbone, schedule=find_recipe("seed").schedule(setting),
        image_size=IMAGE_SIZE, batch_size=2, epochs=12, seed=0, weights=None, load_from=load_from, overrides=FEW.get(detector, {}),
    )


def config_of(dataset: Dataset, detector: str, load_from: str = "") -> Config:
    """The config of a run without remedies."""
    return copy.deepcopy(_config(dataset, detector, load_from))


def context_of(dataset: Dataset, detector: str) -> Context:
    family = find_detector(detector).family
    return Context(dataset.train, IMAGE_SIZE, family, dataset.classes, batch_size=2, epochs=12)


def remedied(dataset: Dataset, detector: str, text: str, load_from: str = "") -> tuple[Config, tuple[Applied, ...]]:
    """The config with these remedies, and what each changed."""
    config = config_of(dataset, detector, load_from)
    return config, apply_remedies(config, parse_remedies(text), context_of(dataset, detector))


def train_step(config: Config) -> dict[str, float]:
    """One step as a training takes it, on the first batch of an epoch; gives the losses. Raises AssertionError where nothing was learnt."""
    torch.manual_seed(0)
    np.random.seed(0)
    model = set_precision(build_untrained(config), torch.device("cpu"), "fp32").train()
    model.init_weights()
    dataset = build_dataset(config.data.train)
    optimizer = build_optimizer(model, config.optimizer)
    before = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    losses: Any = model.forward_train(**as_batch([dataset[0], dataset[1]]))
    loss, log_vars = model._parse_losses(losses)
    loss.backward()
    optimizer.step()
    moved = [name for name, value in model.named_parameters() if name in before and not torch.equal(value, before[name])]
    assert len(moved) > len(before) / 2
    return dict(log_vars)
