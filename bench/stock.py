"""Stock mmdet beside the workbook: the same config, weights and images, in mmdet's own dataset, loader, operators and runner."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import time
from typing import Any

import torch
from mmcv import Config
from mmcv.runner import EpochBasedRunner, build_optimizer
from mmcv.utils import get_logger
from mmdet.apis import single_gpu_test
from mmdet.datasets import build_dataloader, build_dataset
from mmdet.models import build_detector
from mmdet.utils import build_dp

from workbook.data.catalog import data_root, find_dataset
from workbook.evaluation.coco_metrics import evaluate
from workbook.files import outputs_root
from workbook.models.config import nested_dicts
from workbook.training.job import Job, prepare
from workbook.training.loader import batches
from workbook.training.parameters import Parameters
from workbook.training.signals import StopSignals
from workbook.training.trackers import Tracker
from workbook.training.train import Training
from workbook.training.validation import validate


def few_images(train: int, val: int, source: str = "tree_crowns") -> str:
    """The name of a dataset of the first images of `source`, written where the bench keeps its data."""
    whole, name = find_dataset(source), f"few_{train}_{val}"
    folder = data_root() / name
    if not folder.exists():
        (folder / "images").mkdir(parents=True)
        for path, count in ((whole.train_json, train), (whole.val_json, val)):
            content = json.loads(path.read_text())
            with_objects = {a["image_id"] for a in content["annotations"]}
            content["images"] = [image for image in content["images"] if image["id"] in with_objects][:count]
            kept = {image["id"] for image in content["images"]}
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
            (folder / path.name).write_text(json.dumps(content))
            for image in content["images"]:
                shutil.copy(whole.images_dir / image["file_name"], folder / "images")
    return name


def job_of(**asked: Any) -> Job:
    """A prepared job with random weights: those of R50, Swin and PVT need a network, and speed does not depend on them."""
    return prepare(Parameters(**{"recipe": "official", "pretrained": "none", "epochs": 1, "batch_size": 2, **asked}))


class Ours:
    """A training of the workbook in pieces: its own step, loader and validation."""

    def __init__(self, job: Job) -> None:
        self.job, self.training = job, Training(job, job.open_run(), Tracker(), StopSignals(), lambda: None)

    def epoch(self) -> float:
        """Seconds a step of one pass over the training images."""
        training, config = self.training, self.job.config
        training.model.train()
        started, steps = time.perf_counter(), 0
        for batch in batches(training.train_set, config.data.samples_per_gpu, 0, 0, self.job.device):
            training._train_step(batch, 1e-4)
            steps += 1
        return (time.perf_counter() - started) / steps

    def validation(self) -> None:
        """Detections, losses and metrics of the val images."""
        detections, _ = validate(self.training.model, self.training.val_set, self.job.device)
        evaluate(self.job.dataset.val_json, detections)


class Stock:
    """mmdet's training of the same config and weights, as `mmdet.apis.train_detector` sets it up on one device."""

    def __init__(self, job: Job, weights: dict[str, torch.Tensor]) -> None:
        config = stock_config(job.config)
        model = build_detector(copy.deepcopy(config.model))
        model.load_state_dict(weights)
        model.CLASSES = config.classes
        self.model = build_dp(model, "cpu" if job.device.type == "cpu" else "cuda", device_ids=[0])
        self.train_loader, self.val_loader, self.test_loader = (
            build_dataloader(build_dataset(data), samples, workers_per_gpu=2, dist=False, shuffle=shuffle)
            for data, samples, shuffle in (
                (config.data.train, config.data.samples_per_gpu, True), (config.data.val, config.data.samples_per_gpu, False),
                (config.data.test, 1, False))
        )
        logger = get_logger("stock", log_level=logging.ERROR)
        self.runner = EpochBasedRunner(self.model, optimizer=build_optimizer(model, config.optimizer), logger=logger,
                                       work_dir=str(outputs_root() / "stock"), max_epochs=1_000_000)
        self.runner.register_training_hooks(config.lr_config, config.optimizer_config)
        self.runner._max_iters = 1_000_000
        self.runner.call_hook("before_run")

    def epoch(self) -> float:
        """Seconds a step of one pass over the training images."""
        started = time.perf_counter()
        self.runner.train(self.train_loader)
        return (time.perf_counter() - started) / len(self.train_loader)

    def validation(self) -> None:
        """What `workflow=[('train', 1), ('val', 1)]` with an evaluation hook does after an epoch: losses, then detections and AP."""
        self.runner.val(self.val_loader)
        results = single_gpu_test(self.model, self.test_loader)
        self.test_loader.dataset.evaluate(results, metric="bbox", logger="silent")


def both(job: Job) -> tuple[Stock, Ours]:
    """The two sides with the same weights."""
    ours = Ours(job)
    return Stock(job, ours.training.model.state_dict()), ours


def stock_config(config: Config) -> Config:
    """The same config with what the workbook replaces put back: mmdet's RoI extractor, dataset and test pipeline."""
    stock = copy.deepcopy(config)
    for part in nested_dicts(stock.model):
        if part.get("type") == "SparseRoIExtractor":
            part["type"] = "SingleRoIExtractor"
    for split in (stock.data.train, stock.data.val):
        split["type"] = "CocoDataset"
    resize, flip, normalize, pad = stock.data.val.pipeline[2:6]
    size = resize["img_scale"]
    stock.data.test = dict(
        type="CocoDataset", classes=stock.classes, img_prefix=stock.data.val.img_prefix, ann_file=stock.data.val.ann_file,
        test_mode=True, pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="MultiScaleFlipAug", img_scale=size, flip=False, transforms=[
                dict(type="Resize", keep_ratio=True), dict(type="RandomFlip"), normalize, pad,
                dict(type="ImageToTensor", keys=["img"]), dict(type="Collect", keys=["img"]),
            ]),
        ])
    stock.data.val = {**stock.data.val, "test_mode": False, "pipeline": stock.data.train.pipeline}
    return stock
