"""What a remedy is: one object that carries everything about itself. Each is a file of `remedies/`, or of the user's own folder.

Light: the command reads the names of the remedies, so a remedy imports mmcv, mmdet and torch where it changes a config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbook.data.reading import Coco
from workbook.errors import ParameterError

if TYPE_CHECKING:
    from mmcv import Config

TWO_STAGE, DENSE, QUERY = "two_stage", "dense", "query"
FAMILIES = (TWO_STAGE, DENSE, QUERY)  # of detectors, as `models.detectors.Detector.family` and the diagnosis name them

# Remedies change a config one after the other, the lowest order first: a later one reads what the earlier ones made of it.
PIXELS, MODEL, FITTED, TEST, LENGTH = 10, 20, 30, 40, 50


@dataclass(frozen=True)
class Context:
    """What a remedy may read beside the config: of the data, train alone."""

    train: Coco  # images and ground truths; never to be changed
    image_size: tuple[int, int]  # width and height in pixels that an image is scaled into, ratio kept, without any remedy
    family: str  # of the detector, one of FAMILIES
    classes: tuple[str, ...]
    batch_size: int
    epochs: int  # without any remedy


@dataclass(frozen=True)
class Source:
    """Where the effect was published, and what was measured there."""

    where: str  # paper or repository
    figures: str


def fits(_: Config) -> str | None:
    """The `misfit` of a remedy that fits every detector of its families."""
    return None


@dataclass(frozen=True)
class Remedy:
    """One remedy: its words, what it addresses, and what it does to a run.

    `apply(config, context)` changes the config in place; it may raise MisfitError where the data leave it nothing to do.
    `misfit(config)` gives the reason, in words that follow "it does not fit: ", where it cannot work with this config, else None.
    """

    key: str  # as the parameter `remedies` names it
    title: str
    about: str  # one line: what it does
    stages: tuple[str, ...]  # names of the diagnosis' stages whose losses it addresses
    families: tuple[str, ...]  # of detectors, from FAMILIES
    trains: bool  # False: it changes the evaluation alone, so a finished run can be measured with it
    cost: str  # in time and memory, in words
    sources: tuple[Source, ...]
    traps: tuple[str, ...]
    apply: Callable[[Config, Context], None]
    misfit: Callable[[Config], str | None] = fits
    excludes: tuple[str, ...] = ()  # keys of remedies that it cannot be combined with; one side says it
    order: int = MODEL
    file: Path | None = None  # of the user's own, else None


class MisfitError(ParameterError):
    """A remedy does not fit this detector, config or dataset; the message says why."""
