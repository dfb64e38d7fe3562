"""The training loop: one job in, one finished run folder out.

A run that was broken off goes on after its last finished epoch; a finished one is returned as it is.
"""

from __future__ import annotations

import json
import math
import os
import pprint
import random
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmcv.runner import build_optimizer
from mmdet.datasets import CustomDataset, build_dataset
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from lib.data.catalog import summary
from lib.evaluation.coco_metrics import evaluate
from lib.models.config import build_model
from lib.progress import progress_bar
from lib.runs import Run, RunError, now, outputs_root, read_log, write_json, write_text
from lib.training import environment
from lib.training.checkpoints import read_checkpoint, save_checkpoint
from lib.training.job import Job
from lib.training.loader import batches
from lib.training.schedule import lr_factor, set_lr
from lib.training.trackers import Tracker, open_tracker
from lib.training.validation import to_device, validate

LOG_EVERY = 10  # steps; a line of the log holds the mean over them


class TrainingError(RunError):
    """The training cannot go on; the message says at which step, and what to do."""


def train(job: Job) -> Run:
    """Train until the last epoch and return the run, `done`. Prints where it is; shows a bar with loss, lr and time left.

    Raises TrainingError for a loss that is not finite (the last good checkpoint is kept), RunError when another process
    trains the same run. Ctrl-C leaves a run that the same call takes up again.
    """
    run = job.run
    with run.claim():
        if run.status == "done":
            print(f"already done: {run.folder}")
            return run
        print(f"run folder: {run.folder}", flush=True)
        for warning in job.warnings:
            print(f"warning: {warning}", flush=True)
        try:
            with _tracker(job, run) as tracker:
                _Training(job, run, tracker).go()
        except KeyboardInterrupt:
            print(f"\nstopped. The same call goes on after the last finished epoch of {run.folder}", flush=True)
            raise
        except Exception as error:
            run.update(status="failed", error=f"{type(error).__name__}: {error}", finished=now())
            raise
    return run


def _tracker(job: Job, run: Run) -> Tracker:
    asked = job.parameters.model_dump(mode="json")
    return open_tracker(job.parameters.tracker, run.name, run.folder, asked, outputs_root() / "trackers")


class _Training:
    """A job with its model, optimizer and place in time. What `state()` returns is all that a resumed training needs."""

    def __init__(self, job: Job, run: Run, tracker: Tracker) -> None:
        self.job, self.run, self.config, self.tracker, self.device = job, run, job.config, tracker, job.device
        _seed_everything(job.parameters.seed)
        self.model = build_model(self.config).to(self.device)
        self.optimizer: Optimizer = build_optimizer(self.model, self.config.optimizer)
        self.train_set: CustomDataset = build_dataset(self.config.data.train)
        self.val_set: Any = build_dataset(self.config.data.val)
        self.epoch = self.step = self.best_epoch = 0
        self.best: float | None = None
        self.seconds = {"train": 0.0, "val": 0.0}
        if run.last_checkpoint.exists():
            self._take_up(read_checkpoint(run.last_checkpoint))
        self.log = _Log(run.folder / "log.jsonl", self.step)
        self._record()

    def go(self) -> None:
        """Every epoch that is left, then the record of the whole."""
        total = self.job.epochs * self.job.steps_an_epoch
        with progress_bar(total, "training", "step", initial=self.step) as bar:
            while self.epoch < self.job.epochs:
                figures = self._train_epoch(bar)
                self._validate(figures)
        self._finish()

    def state(self) -> dict[str, Any]:
        """Everything a resumed training needs, as tensors and plain values."""
        return {
            "state_dict": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch,
            "step": self.step, "best": self.best, "best_epoch": self.best_epoch, "seconds": self.seconds,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def _take_up(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        torch.set_rng_state(state["torch_rng"])
        if self.device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        print(f"going on after epoch {self.epoch} of {self.job.epochs}", flush=True)

    def _record(self) -> None:
        """What is known before the first step, into run.json and config.py."""
        config, weights = self.config, self.config.model.backbone.get("init_cfg")
        roi_head = config.model.get("roi_head")
        self.run.update(
            status="running", error=None, finished=None, git_commit=environment.git_commit(),
            versions=environment.versions(), hardware=environment.hardware(self.device), data=summary(self.job.dataset),
            model={
                "type": config.model.type, "roi_head": roi_head.type if roi_head else None,
                "backbone": config.model.backbone.type, "weights": weights.checkpoint if weights else None,
                "parameters_m": sum(p.numel() for p in self.model.parameters()) / 1e6,
            },
            optimizer=json.loads(json.dumps(config.optimizer)), schedule=_schedule_words(config.lr_config),
            warnings=list(self.job.warnings),
        )
        if not (self.run.folder / "config.py").exists():
            write_text(self.run.folder / "config.py", _as_python(config))

    def _train_epoch(self, bar: tqdm) -> dict[str, float]:
        """One pass over the training images; returns the figures of its last log line, which go out with the validation's."""
        self.model.train()
        started, means, last = time.monotonic(), _Means(), self.job.steps_an_epoch * (self.epoch + 1)
        for batch in batches(self.train_set, self.config.data.samples_per_gpu, self.job.parameters.seed, self.epoch, self.device):
            lr = set_lr(self.optimizer, lr_factor(self.config.lr_config, self.epoch, self.step))
            log_vars = self._train_step(to_device(batch, self.device), lr)
            self.step += 1
            means.add(log_vars)
            bar.set_postfix(epoch=self.epoch + 1, loss=f"{log_vars['loss']:.3f}", lr=f"{lr:.2g}", refresh=False)
            bar.update()
            if self.step % LOG_EVERY == 0 or self.step == last:
                figures = {"lr": lr, **means.take()}
                self.log.write({"mode": "train", "epoch": self.epoch + 1, "step": self.step, **figures})
                if self.step < last:
                    self.tracker.log(self.step, {f"train/{key}": value for key, value in figures.items()})
        self.epoch += 1
        self.seconds["train"] += time.monotonic() - started
        return figures

    def _train_step(self, batch: dict[str, Any], lr: float) -> dict[str, float]:
        loss, log_vars = self.model._parse_losses(self.model.forward_train(**batch))
        if not math.isfinite(log_vars["loss"]):
            parts = ", ".join(f"{key} {value:.3g}" for key, value in log_vars.items())
            kept = self.run.last_checkpoint if self.run.last_checkpoint.exists() else "none yet"
            raise TrainingError(
                f"the loss is not finite at step {self.step + 1} (epoch {self.epoch + 1}, lr {lr:.3g}): {parts}. Last good "
                f"checkpoint: {kept}. Lower the lr (overrides='optimizer.lr={lr / 10:.2g}'), or clip gradients "
                "(overrides='optimizer_config.grad_clip={\"max_norm\":10}')"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip := self.config.optimizer_config.get("grad_clip"):
            nn.utils.clip_grad_norm_(self.model.parameters(), **clip)
        self.optimizer.step()
        return dict(log_vars)

    def _validate(self, train_figures: Mapping[str, float]) -> None:
        """Detections, metrics and losses of the val images, logged once at this epoch's step; then the checkpoints."""
        started = time.monotonic()
        label = f"validating epoch {self.epoch}"
        detections, losses = validate(self.model, self.val_set, self.device, self.job.parameters.seed, label)
        found = evaluate(self.job.dataset.val_json, detections)
        seconds = time.monotonic() - started
        self.seconds["val"] += seconds
        line = {"mode": "val", "epoch": self.epoch, "step": self.step, **found.metrics, **losses, "seconds": seconds}
        self.log.write(line)
        values = {f"val/{key}": value for key, value in {**found.metrics, **losses}.items()}
        self.tracker.log(self.step, {**{f"train/{key}": value for key, value in train_figures.items()}, **values})
        score = found.metrics["bbox_mAP"]
        if self.best_epoch == 0 or (score is not None and (self.best is None or score > self.best)):
            self.best, self.best_epoch = score, self.epoch
            save_checkpoint(self.run.best_checkpoint, {"state_dict": self.model.state_dict(), "epoch": self.epoch, "step": self.step})
            write_json(self.run.folder / "predictions.json", detections)
            write_json(self.run.folder / "metrics.json", {
                **line, "best_epoch": self.epoch, "per_class": found.per_class, "counts": found.counts})
        save_checkpoint(self.run.last_checkpoint, self.state())
        shown = "none" if score is None else f"{score:.3f}"
        tqdm.write(f"epoch {self.epoch}/{self.job.epochs}: bbox_mAP {shown}, val loss {losses['loss']:.3f}", file=sys.stdout)
        sys.stdout.flush()

    def _finish(self) -> None:
        seen = self.epoch * len(self.train_set), self.epoch * len(self.val_set)
        self.run.update(
            status="done", finished=now(), epochs_done=self.epoch, best_epoch=self.best_epoch, iterations=self.step,
            seconds=sum(self.seconds.values()), train_images_per_second=seen[0] / self.seconds["train"],
            val_images_per_second=seen[1] / self.seconds["val"], peak_memory_mb=environment.peak_memory_mb(self.device),
        )


class _Log:
    """`log.jsonl`, opened to go on after `step`: lines that a broken-off run wrote later than its checkpoint are taken back."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            kept = [row for row in read_log(path) if row["step"] <= step]
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def write(self, row: Mapping[str, Any]) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


class _Means:
    """The mean of each figure since the last `take`."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.count = 0

    def add(self, values: Mapping[str, float]) -> None:
        self.count += 1
        for key, value in values.items():
            self.sums[key] += value

    def take(self) -> dict[str, float]:
        means = {key: value / self.count for key, value in self.sums.items()}
        self.sums, self.count = defaultdict(float), 0
        return means


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _as_python(config: Config) -> str:
    """The config as a file that `Config.fromfile` reads back. mmcv's own writer takes seconds (yapf) for the same content."""
    values = config._cfg_dict.to_dict()
    return "\n".join(f"{key} = {pprint.pformat(value, width=120, sort_dicts=False)}" for key, value in values.items()) + "\n"


def _schedule_words(lr_config: Config) -> str:
    warmup = f", warm-up {lr_config['warmup_iters']}" if lr_config.get("warmup") else ""
    return f"step {list(lr_config['step'])}{warmup}"
