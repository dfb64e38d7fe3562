"""What a training costs before it has run: steps times the pixels that the network gets in each."""

from __future__ import annotations

from dataclasses import dataclass

from workbook.errors import WorkbookError
from workbook.training.parameters import Parameters

SAMPLED = 16  # training images that are loaded to learn their size: jitter and windows make them differ


@dataclass(frozen=True)
class Work:
    """A training that can start. `pixels`: of an image (or a window) as the network gets it, mean of some."""

    steps: int
    pixels: float
    batch_size: int
    epochs: int
    drops: tuple[int, ...]  # after so many epochs each the learning rate falls

    @property
    def total(self) -> float:
        """Pixels that go through the network in the whole training."""
        return self.steps * self.batch_size * self.pixels


def works_of(asked: list[Parameters]) -> list[Work | str]:
    """The work of each training, or why it cannot start. Loads a few images as the training does; needs torch and mmdet."""
    return [_work_of(parameters) for parameters in asked]


def _work_of(parameters: Parameters) -> Work | str:
    from mmdet.datasets import build_dataset

    from workbook.training.job import prepare
    from workbook.training.loader import SeededItems

    try:
        job = prepare(parameters)
    except (WorkbookError, ValueError) as error:
        return str(error)
    dataset = build_dataset(job.config.data.train)
    items = SeededItems(dataset, parameters.seed)
    chosen = range(0, len(dataset), max(1, len(dataset) // SAMPLED))[:SAMPLED]
    shapes = [items[0, index]["img"].data.shape[-2:] for index in chosen]
    areas = [float(height * width) for height, width in shapes]
    steps = job.steps_an_epoch * job.epochs
    drops = tuple(int(epoch) for epoch in job.config.lr_config.step)
    return Work(steps, sum(areas) / len(areas), parameters.batch_size, job.epochs, drops)


def stretched(parameters: Parameters, work: Work, times: float) -> Parameters:
    """The same training with so many times the epochs; the learning rate falls at the same shares of it."""
    epochs = max(1, round(parameters.epochs * times))
    drops = sorted({max(1, round(drop * epochs / work.epochs)) for drop in work.drops})
    others = [piece for piece in parameters.overrides.split() if not piece.startswith("lr_config.step=")]
    listed = ",".join(map(str, drops))
    overrides = " ".join(sorted([*others, f"lr_config.step=[{listed}]"]))
    return parameters.model_copy(update={"epochs": epochs, "overrides": overrides})
