"""The training loop: every step that is left of a job, with its validations and checkpoints.

What is around it, the lease on the run, signals and what is recorded of a failure, is train.py.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from mmcv.runner import build_optimizer
from mmdet.datasets import CustomDataset, build_dataset
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from workbook.errors import RunError
from workbook.evaluation.coco_metrics import Evaluation, evaluate
from workbook.files import write_json
from workbook.models.config import build_model
from workbook.models.precision import set_precision
from workbook.progress import progress_bar
from workbook.runs.checkpoints import read_checkpoint, save_checkpoint
from workbook.runs.folder import Run
from workbook.training.distributed import SINGLE, RankLostError, World
from workbook.training.job import Job
from workbook.training.loader import batches
from workbook.training.log import Log, Means
from workbook.training.record import record_end, record_start
from workbook.training.rng import rng_state, seed_everything, seed_rank, set_rng_state
from workbook.training.schedule import merged_groups, parse_schedule, set_lr
from workbook.training.signals import Stopped, StopSignals
from workbook.training.trackers import Tracker
from workbook.training.validation import validate

LOG_EVERY = 10  # steps; a line of the log holds the mean over them


class TrainingError(RunError):
    """The training cannot go on; the message says at which step, and what to do."""


class Training:
    """A job with its model, optimizer and progress. What `state()` returns is all that a resumed training needs.

    `check` is called before each write: it raises RunBusyError when the run is another process's now.
    """

    def __init__(self, job: Job, run: Run, tracker: Tracker, signals: StopSignals, check: Callable[[], None],
                 world: World = SINGLE) -> None:
        self.job, self.run, self.config, self.device = job, run, job.config, job.device
        self.tracker, self.signals, self.check, self.world = tracker, signals, check, world
        seed_everything(job.parameters.seed)  # the same weights on every rank
        self.model = set_precision(build_model(self.config), self.device, job.precision)
        self.forward_train = world.forward(self.model, self.device)
        self.optimizer: Optimizer = merged_groups(build_optimizer(self.model, self.config.optimizer))
        self.schedule = parse_schedule(self.config.lr_config)
        self.train_set: CustomDataset = build_dataset(self.config.data.train)
        self.val_set: Any = build_dataset(self.config.data.val)
        self.epoch = self.step = self.best_epoch = 0  # epoch: those that are trained and validated
        self.best: float | None = None
        self.seconds = {"train": 0.0, "val": 0.0}
        self.means = Means()  # since the last line of the log
        self.figures = dict[str, float]()  # of the last line of the log
        if world.size > 1:
            seed_rank(job.parameters.seed, world.rank)  # other draws on every rank: RoIs, dropout
        if run.last_checkpoint.exists():
            self._resume(read_checkpoint(run.last_checkpoint))
        else:
            self.log = Log(run.folder / "log.jsonl", 0, world.is_main)
        if world.is_main:
            check()
            record_start(run, job, self.model, self.step)
        self.saved = time.monotonic()

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.job.epochs * self.job.steps_an_epoch

    def go(self) -> None:
        """Every step that is left, then the record of the whole."""
        with progress_bar(self.steps, "training", "step", initial=self.step) as bar:
            while self.epoch < self.job.epochs:
                self._train_epoch(bar)
                self._validate()
        self._finish()

    def state(self) -> dict[str, Any]:
        """Everything a resumed training needs, as tensors and plain values; the tensors are the live ones.

        All ranks call it after the same step: `rng` are the states of their generators, in the order of the ranks.
        """
        return {
            "state_dict": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch,
            "step": self.step, "best": self.best, "best_epoch": self.best_epoch, "seconds": dict(self.seconds),
            "means": (dict(self.means.sums), self.means.count), "figures": self.figures, "log_bytes": self.log.size,
            "rng": self.world.gather(rng_state(self.device)),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        try:
            self._require_ranks(len(state["rng"]))
            self.model.load_state_dict(state["state_dict"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
            self.best, self.best_epoch = state["best"], state["best_epoch"]
            self.means, self.figures = Means(*state["means"]), state["figures"]
            self.log = Log(self.run.folder / "log.jsonl", state["log_bytes"], self.world.is_main)
            set_rng_state(state["rng"][self.world.rank], self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.run.last_checkpoint} is not a checkpoint of this run, or of another version of the workbook "
                           f"({type(error).__name__}: {str(error)[:200]}). Delete {self.run.folder} and train again") from error
        print(f"going on after step {self.step} of {self.steps}", flush=True)

    def _require_ranks(self, ranks: int) -> None:
        """Other processes would draw other random numbers and divide the batches in another way."""
        if ranks != self.world.size:
            raise RunError(f"{self.run.last_checkpoint} was saved by a training on devices={ranks}, and this one has "
                           f"devices={self.world.size}: go on with devices={ranks}, or delete {self.run.folder} and train "
                           "again")

    def _save(self, state: dict[str, Any]) -> None:
        finite = all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())  # if not, the next loss says so
        if finite and self.world.is_main:
            self.check()
            self.tracker.flush()
            save_checkpoint(self.run.last_checkpoint, state)
        self.saved = time.monotonic()

    def _train_epoch(self, bar: tqdm) -> None:
        """What is left of one pass over the training images."""
        self.model.train()
        first = self.epoch * self.job.steps_an_epoch
        size, seed = self.config.data.samples_per_gpu, self.job.parameters.seed
        started = time.monotonic()
        for batch in batches(self.train_set, size, seed, self.epoch, self.device, self.step - first, self.world):
            lr = set_lr(self.optimizer, self.schedule.factor(self.epoch, self.step))
            log_vars = self._train_step(batch, lr)
            self.step += 1
            self.means.add(log_vars)
            bar.set_postfix(epoch=self.epoch + 1, loss=f"{log_vars['loss']:.3f}", lr=f"{lr:.2g}", refresh=False)
            bar.update()
            self._log_means(lr)
            self.seconds["train"] += time.monotonic() - started
            self._save_when_due()
            started = time.monotonic()

    def _train_step(self, batch: dict[str, Any], lr: float) -> dict[str, float]:
        loss, log_vars = self.model._parse_losses(self.forward_train(**batch))
        self._require_finite(log_vars, f"the loss is not finite at step {self.step + 1}", lr)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip := self.config.optimizer_config.get("grad_clip"):
            nn.utils.clip_grad_norm_(self.model.parameters(), **clip)
        self.optimizer.step()
        return dict(log_vars)

    def _log_means(self, lr: float) -> None:
        """Every LOG_EVERY steps and after the last of an epoch, which goes to the tracker with the validation."""
        is_last = self.step == (self.epoch + 1) * self.job.steps_an_epoch
        if self.step % LOG_EVERY and not is_last:
            return
        self.figures = {"lr": lr, **self.means.take()}
        self._write_line({"mode": "train", "epoch": self.epoch + 1, "step": self.step, **self.figures})
        if not is_last:
            self.tracker.log(self.step, _named("train", self.figures))

    def _save_when_due(self) -> None:
        """The checkpoint between two epochs, and the one before leaving; on all ranks after the same step."""
        overdue = time.monotonic() - self.saved >= 60 * self.job.parameters.checkpoint_minutes
        signum, is_due = self.world.highest(self.signals.signum, int(overdue))
        if signum or is_due:
            self._save(self.state())
        if signum:
            raise Stopped(signum)

    def _require_finite(self, losses: Mapping[str, float], what: str, lr: float) -> None:
        if all(map(math.isfinite, losses.values())):
            return
        parts = ", ".join(f"{key} {value:.3g}" for key, value in losses.items())
        last_good = self.run.last_checkpoint if self.run.last_checkpoint.exists() else "none yet"
        raise TrainingError(
            f"{what} (epoch {self.epoch + 1}, lr {lr:.3g}): {parts}. Last good checkpoint: {last_good}. Lower the lr "
            f"(overrides='optimizer.lr={lr / 10:.2g}'), or clip gradients (overrides='optimizer_config.grad_clip={{\"max_norm\":10}}')"
        )

    def _validate(self) -> None:
        """Detections, metrics and losses of the val images, logged once at this epoch's step; then the checkpoints.

        A kill between two of these files does no harm: the last checkpoint is from before, so all of them are written again.
        """
        started = time.monotonic()
        detections, losses, evaluation = self._measure()
        seconds = time.monotonic() - started
        self.seconds["val"] += seconds
        self.epoch += 1
        figures = {**evaluation.metrics, **losses}
        line = {"mode": "val", "epoch": self.epoch, "step": self.step, **figures, "seconds": seconds}
        self._write_line(line)
        self.tracker.log(self.step, {**_named("train", self.figures), **_named("val", figures)})
        mean_ap = evaluation.metrics["bbox_mAP"]
        if self.best_epoch == 0 or (mean_ap is not None and (self.best is None or mean_ap > self.best)):
            self.best, self.best_epoch = mean_ap, self.epoch
            self._save_best(line, detections, evaluation)
        self._save(self.state())
        shown = "none" if mean_ap is None else f"{mean_ap:.3f}"
        words = f"epoch {self.epoch}/{self.job.epochs}: bbox_mAP {shown}, val loss {losses['loss']:.3f}"
        tqdm.write(words, file=sys.stdout)
        sys.stdout.flush()

    def _measure(self) -> tuple[list[dict[str, Any]], dict[str, float], Evaluation]:
        """Detections, losses and metrics of the val images. A signal ends it at once, with the checkpoint of before."""
        before = self.state()
        label = f"validating epoch {self.epoch + 1}"
        try:
            with self.signals.at_once():
                self.world.share_buffers(self.model)
                detections, losses = validate(self.model, self.val_set, self.device, self.job.parameters.seed, label, self.world)
                self._require_finite(losses, f"the val loss is not finite after step {self.step}", self.figures["lr"])
                return detections, losses, evaluate(dict(self.job.dataset.val), detections)
        except (Stopped, RankLostError):  # a rank that stops breaks the connections of the others, which get the signal too
            if self.signals.signum:
                self._save(before)
                self.signals.check()
            raise

    def _save_best(self, line: Mapping[str, Any], detections: list[dict[str, Any]], evaluation: Evaluation) -> None:
        """Weights, detections and figures of the best epoch so far."""
        if not self.world.is_main:
            return
        self.check()
        weights = {"state_dict": self.model.state_dict(), "epoch": self.epoch, "step": self.step}
        save_checkpoint(self.run.best_checkpoint, weights)
        write_json(self.run.folder / "predictions.json", detections)
        write_json(self.run.folder / "metrics.json", {
            **line, "best_epoch": self.epoch, "per_class": evaluation.per_class, "counts": evaluation.counts})

    def _write_line(self, row: Mapping[str, Any]) -> None:
        self.check()
        self.log.write(row)

    def _finish(self) -> None:
        if not self.world.is_main:
            return
        self.check()
        record_end(self.run, self.job, epochs=self.epoch, best_epoch=self.best_epoch, steps=self.step, seconds=self.seconds,
                   images={"train": len(self.train_set), "val": len(self.val_set)})


def _named(mode: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{mode}/{key}": value for key, value in figures.items()}
