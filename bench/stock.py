"""Stock mmdet beside the workbook: the same config, weights and images, in mmdet's own dataset, loader, operators and runner."""

from __future__ import annotations

import copy
import functools
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import mmcv.parallel._functions
import torch
from mmcv import Config
from mmcv.ops import get_compiling_cuda_version
from mmcv.runner import EpochBasedRunner, Fp16OptimizerHook, build_optimizer
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
from workbook.training.loop import Training
from workbook.training.parameters import Parameters
from workbook.training.signals import StopSignals
from workbook.training.trackers import Tracker
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
        self.training.model.train()
        return self.epoch_of(lambda batch: self.training._train_step(batch, 1e-4))

    def epoch_of(self, step: Callable[[dict[str, Any]], Any]) -> float:
        """Seconds a step of one pass over the same batches with a step of another's."""
        started, steps = time.perf_counter(), 0
        for batch in batches(self.training.train_set, self.job.config.data.samples_per_gpu, 0, 0, self.job.device):
            step(batch)
            steps += 1
        return (time.perf_counter() - started) / steps

    def validation(self) -> None:
        """Detections, losses and metrics of the val images."""
        detections, _ = validate(self.training.model, self.training.val_set, self.job.device)
        evaluate(self.job.dataset.val_json, detections)


class Stock:
    """mmdet's training of the same config and weights, as `mmdet.apis.train_detector` sets it up on one device.

    mixed: in float16, as with `fp16 = dict(loss_scale=512.)` of its configs/fp16; only a GPU can.
    """

    def __init__(self, job: Job, weights: dict[str, torch.Tensor], mixed: bool = False, workers: int = 2) -> None:
        config = stock_config(job.config)
        model = build_detector(copy.deepcopy(config.model))
        model.load_state_dict(weights)
        model.CLASSES = config.classes
        if job.device.type == "cuda":
            mend_scatter()
        self.model = build_dp(model, "cpu" if job.device.type == "cpu" else "cuda", device_ids=[0])
        self.train_loader, self.val_loader, self.test_loader = (
            build_dataloader(build_dataset(data), samples, workers_per_gpu=workers, dist=False, shuffle=shuffle)
            for data, samples, shuffle in (
                (config.data.train, config.data.samples_per_gpu, True), (config.data.val, config.data.samples_per_gpu, False),
                (config.data.test, 1, False))
        )
        logger = get_logger("stock", log_level=logging.ERROR)
        self.runner = EpochBasedRunner(self.model, optimizer=build_optimizer(model, config.optimizer), logger=logger,
                                       work_dir=str(outputs_root() / "stock"), meta={}, max_epochs=1_000_000)
        steps = Fp16OptimizerHook(**config.optimizer_config, loss_scale=512.0, distributed=False) if mixed else config.optimizer_config
        self.runner.register_training_hooks(config.lr_config, steps)
        self.runner._max_iters = 1_000_000
        self.runner.call_hook("before_run")

    def epoch(self) -> float:
        """Seconds a step of one pass over the training images."""
        started = time.perf_counter()
        with without_sleep():
            self.runner.train(self.train_loader)
        return (time.perf_counter() - started) / len(self.train_loader)

    def validation(self) -> None:
        """What `workflow=[('train', 1), ('val', 1)]` with an evaluation hook does after an epoch: losses, then detections and AP."""
        with without_sleep():
            self.runner.val(self.val_loader)
        results = single_gpu_test(self.model, self.test_loader)
        self.test_loader.dataset.evaluate(results, metric="bbox", logger="silent")


def mend_scatter() -> None:
    """mmcv 1.7.2 asks torch for the stream of a device by its number, which torch refuses since 2.1: stock cannot train on a GPU there."""
    mmcv.parallel._functions._get_stream = functools.cache(torch.cuda.Stream)


@contextmanager
def without_sleep() -> Iterator[None]:
    """mmcv's runner sleeps for two seconds before each epoch, which is next to nothing in a real one and much in one of four steps."""
    with patch("mmcv.runner.epoch_based_runner.time", SimpleNamespace(sleep=lambda seconds: None)):
        yield


def both(job: Job) -> tuple[Stock, Ours]:
    """The two sides with the same weights."""
    ours = Ours(job)
    return Stock(job, ours.training.model.state_dict()), ours


def stock_config(config: Config) -> Config:
    """The same config with what the workbook replaces put back: mmdet's RoI extractor, sampler, dataset and test pipeline."""
    stock = copy.deepcopy(config)
    for part in nested_dicts(stock.model):
        if part.get("type") == "SparseRoIExtractor":
            part["type"] = "SingleRoIExtractor"
            part["roi_layer"]["use_torchvision"] = torch.cuda.is_available() and get_compiling_cuda_version() == "not available"
        if part.get("type") == "DeviceRandomSampler":
            part["type"] = "RandomSampler"
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
