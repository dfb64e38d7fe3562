"""From checked parameters to a job: everything that can be refused is refused here, before anything trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmcv import Config
from mmdet.datasets import build_dataset

import workbook.data.mmdet_dataset  # noqa: F401  registers the dataset type that the config names
from workbook.data.catalog import Dataset, find_dataset
from workbook.data.checks import require_sound
from workbook.data.learnable import LEFT_OUT, left_out_words, trainable_images
from workbook.errors import ParameterError
from workbook.models.backbones import find_backbone
from workbook.models.config import build_config, build_model
from workbook.models.detectors import find_detector, step_budget_warning
from workbook.models.device import pick_device, pick_precision
from workbook.models.overrides import parse_overrides
from workbook.models.recipes import Setting, find_recipe
from workbook.models.weights import find_weights
from workbook.remedies.apply import Applied, apply_remedies, overridden
from workbook.remedies.base import Context
from workbook.remedies.registry import parse_remedies
from workbook.runs.folder import Run, create_run, run_name, runs_root
from workbook.training.identity import resolve
from workbook.training.parameters import Parameters
from workbook.training.schedule import parse_schedule, warmup_warning
from workbook.training.trial import require_trainable


@dataclass(frozen=True)
class Job:
    """One training that can start: its data are sound, its weights are on this machine, its config is whole.

    Nothing of it writes but `open_run`, which is called where the training starts.
    """

    parameters: Parameters
    dataset: Dataset
    config: Config
    device: torch.device
    precision: str  # fp32 or bf16
    steps_an_epoch: int
    warnings: tuple[str, ...]
    resolved: Mapping[str, str]  # what weights and precision became, see training/identity.py
    root: Path = field(default_factory=runs_root)  # the folder that holds its run folder
    remedies: tuple[Applied, ...] = ()  # what each changed in the config

    @property
    def run_folder(self) -> Path:
        """Where the run of this job is or will be."""
        return self.root / run_name(self.parameters.model_dump(mode="json"), self.dataset.hash, self.resolved)

    def find_run(self) -> Run | None:
        """The run of this job, None while it was never started."""
        return Run(self.run_folder) if (self.run_folder / "run.json").exists() else None

    def open_run(self) -> Run:
        """The run of this job; its folder is made when it is not there yet. Raises RunError when it cannot be
        written."""
        return create_run(self.parameters.model_dump(mode="json"), self.dataset.hash, self.root, self.resolved)

    @property
    def epochs(self) -> int:
        return int(self.config.runner.max_epochs)

    @property
    def left_out(self) -> str:
        """How many train images training does not use, and why; empty where it uses all."""
        return left_out_words(self.dataset.train, self.parameters.empty_images)


def prepare(parameters: Parameters, root: Path | None = None) -> Job:
    """Check all that parameters lead to: data, weights, recipe, overrides, device. `root` is where its run folder will be,
    the folder of all runs when not given.

    Raises DataError, WeightsError or ParameterError, each saying what to do.
    """
    device = pick_device(parameters.device, parameters.devices)
    precision = pick_precision(parameters.precision, device)
    dataset = find_dataset(parameters.dataset)
    require_sound(dataset)
    resolved = resolve(parameters)
    images = len(trainable_images(dataset.train, parameters.empty_images))
    _require_batches(parameters, dataset, images)
    config = _config(parameters, dataset, images)
    remedies = _apply_remedies(parameters, dataset, config)
    steps = _steps(len(build_dataset(config.data.train)) if remedies else images, parameters)
    if parameters.load_from or parameters.pretrained not in ("imagenet", "none"):
        build_model(config)  # the user's own files: are they this model's?
    warnings = _warnings(parameters, config, steps * int(config.runner.max_epochs), remedies)
    return Job(parameters, dataset, config, device, precision, steps, warnings, resolved, root or runs_root(), remedies)


def _steps(images: int, parameters: Parameters) -> int:
    """Steps an epoch of so many training images."""
    return -(-images // parameters.batch_size)


def _require_batches(parameters: Parameters, dataset: Dataset, images: int) -> None:
    size = parameters.batch_size
    count = parameters.devices
    if size > images:
        which = " with objects" if parameters.empty_images == LEFT_OUT else ""
        left_out = left_out_words(dataset.train, parameters.empty_images)
        raise ParameterError(f"batch_size={size}: {dataset.name} has {images} training images{which}. Allowed: 1 to {images}"
                             + (f" ({left_out})" if left_out else ""))
    if size % count:
        raise ParameterError(f"batch_size={size}, devices={count}: the devices share each batch evenly. "
                             f"Allowed: batch sizes {count}, {2 * count}, {3 * count} ...")


def _config(parameters: Parameters, dataset: Dataset, images: int) -> Config:
    """The whole run as a Config; it trains on so many images. Raises ParameterError for a recipe or an override that does not fit."""
    detector = find_detector(parameters.detector)
    backbone = find_backbone(parameters.backbone)
    steps = _steps(images, parameters)
    weights = find_weights(parameters.pretrained, backbone.weights)
    setting = Setting(detector, backbone, parameters.batch_size, parameters.epochs, steps * parameters.epochs)
    try:
        config = build_config(
            dataset=dataset, detector=detector, backbone=backbone, weights=weights,
            schedule=find_recipe(parameters.recipe).schedule(setting),
            image_size=parameters.image_size, batch_size=parameters.batch_size, epochs=parameters.epochs,
            seed=parameters.seed, load_from=parameters.load_from, overrides=parse_overrides(parameters.overrides),
            empty_images=parameters.empty_images,
        )
        parse_schedule(config.lr_config)
        if parameters.overrides:
            require_trainable(config, "overrides", images)
    except ValueError as error:
        raise ParameterError(str(error)) from error
    return config


def _apply_remedies(parameters: Parameters, dataset: Dataset, config: Config) -> tuple[Applied, ...]:
    """The remedies that were asked for into the config. Raises ParameterError for those that do not fit, all at once."""
    if not parameters.remedies:
        return ()
    context = Context(
        train=dataset.train, image_size=parameters.image_size, family=find_detector(parameters.detector).family,
        classes=dataset.classes, batch_size=parameters.batch_size, epochs=parameters.epochs,
    )
    applied = apply_remedies(config, parse_remedies(parameters.remedies), context)
    if problems := overridden(parse_overrides(parameters.overrides), applied):
        raise ParameterError("; ".join(problems))
    try:
        parse_schedule(config.lr_config)
        require_trainable(config, f"remedies={parameters.remedies}")
    except ValueError as error:
        raise ParameterError(str(error)) from error
    return applied


def _warnings(parameters: Parameters, config: Config, total_steps: int, remedies: tuple[Applied, ...]) -> tuple[str, ...]:
    detector = find_detector(parameters.detector)
    warnings = (
        *(f"the remedy {applied.key} changes nothing in the config here" for applied in remedies if not applied.changes),
        step_budget_warning(detector, total_steps, parameters.batch_size, parameters.load_from),
        warmup_warning(parse_schedule(config.lr_config), total_steps),
    )
    return tuple(warning for warning in warnings if warning)
