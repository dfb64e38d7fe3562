"""What each stage of the detector costs, for every size: its Shapley value, from the AP of all subsets of perfect stages.

What making a stage perfect brings depends on which others are perfect already: an object of the wrong class and in a poor
box is found when both are mended, whichever comes second. So the cost of a stage is the mean, over all orders in which the
stages can be made perfect, of what it brings when its turn comes (Shapley 1953, "A value for n-person games"):

    cost(i) = sum over subsets S without i of  |S|! (n - |S| - 1)! / n!  *  (AP(S and i) - AP(S))

The costs add up to AP(all stages perfect) - AP(now). What is left to 1 is what COCO cannot count (over 100 objects of a
class in an image, or three of a class on top of each other on both sides of a size's border); it is a part like the
others, `not counted`. A cost may be negative: there the perfect stage lets through errors of another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import factorial
from typing import Any

import numpy as np
import pandas as pd

from workbook.diagnosis.oracle import Replay
from workbook.diagnosis.stage import Stage
from workbook.evaluation.bootstrap import ABOUT, FEWEST_IMAGES, RESAMPLES, Figure, figures_by_size
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.evaluation.matching import match
from workbook.evaluation.sizes import AREA_RANGES, SIZES
from workbook.progress import progress_bar

Subset = frozenset[str]  # the names of the stages that are perfect
REAL: Subset = frozenset()
METRICS = ("AP", "AP50")
NOT_COUNTED = "not counted"
EXACT = 1e-9  # an AP this near to another is the same


@dataclass(frozen=True)
class Cost:
    """What one stage costs: AP that is missing because of it, 0 to 1.

    low, high: of `shapley`, 95%, from drawing the images again for all subsets alike. alone: what making this stage
    perfect brings to the real detector (None where no oracle can). last: what it brings when all others are perfect.
    """

    stage: str
    shapley: float | None
    low: float | None
    high: float | None
    alone: float | None
    last: float | None


@dataclass(frozen=True)
class SizeWaterfall:
    """The way from the AP of one size to 1. `ap` and the costs are None where there is no such object.

    costliest: the stage that costs most, and those that may cost as much: the interval of its lead over them holds 0; empty
    when nothing costs anything. See `leader`. undetermined: the AP's interval is too wide to be used. holds: the
    share of such intervals of an AP that held the truth on made data (see bootstrap.Interval).
    """

    ap: float | None
    low: float | None
    high: float | None
    objects: int
    images: int
    undetermined: bool
    holds: float
    costliest: tuple[str, ...]
    stages: tuple[Cost, ...]

    @property
    def confidence(self) -> str:
        """How far the interval of the AP is to be trusted: 95%, or what was measured where classes or images are few."""
        return "95%" if self.holds >= ABOUT else f"on simulated data such intervals held the truth in {self.holds:.0%}"

    @property
    def leader(self) -> str | None:
        """The stage that costs most: the interval of its lead over every other one, also over those without a cost, excludes 0."""
        if self.is_few or len(self.costliest) != 1:
            return None
        low = self.cost(self.costliest[0]).low
        return self.costliest[0] if low is not None and low > 0 else None

    @property
    def is_few(self) -> bool:
        """Whether so few images hold such objects that no interval is to be trusted."""
        return self.images < FEWEST_IMAGES

    def cost(self, stage: str) -> Cost:
        """The cost of this stage."""
        return next(cost for cost in self.stages if cost.stage == stage)


@dataclass(frozen=True)
class Waterfall:
    """`metrics`: AP (IoU .50 to .95) and AP50 → size → its way to 1.

    draws: the costs of the data set itself (first row) and of every resample of its images, a column each (`cost_column`). The same
    images give the same draws, so that the costs of two detectors can be paired.
    """

    metrics: Mapping[str, Mapping[str, SizeWaterfall]]
    draws: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)

    def to_json(self) -> dict[str, Any]:
        """metrics → size → plain values."""
        return {name: {size: asdict(one) for size, one in sizes.items()} for name, sizes in self.metrics.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], draws: pd.DataFrame) -> Waterfall:
        """The waterfall that `to_json` gave, which leaves the draws out."""
        return cls({name: {size: _size_from_json(one) for size, one in sizes.items()} for name, sizes in content.items()}, draws)


def cost_column(metric: str, size: str, stage: str) -> str:
    """The column of `Waterfall.draws` that holds the cost of a stage."""
    return f"{metric} {size} {stage}"


def _size_from_json(content: Mapping[str, Any]) -> SizeWaterfall:
    costs = tuple(Cost(**cost) for cost in content["stages"])
    return SizeWaterfall(**{**content, "stages": costs, "costliest": tuple(content["costliest"])})


def replays(real: Replay, stages: Sequence[Stage]) -> dict[Subset, Replay]:
    """One image under every subset of oracles. Those of a subset are applied in the stages' order."""
    reached = {REAL: real}
    for stage in stages:
        oracle = stage.oracle
        assert oracle is not None
        reached |= {subset | {stage.name}: oracle(replay) for subset, replay in reached.items()}
    return reached


def detections_of(image_id: int, replay: Replay, category_ids: np.ndarray) -> Detections:
    """What is reported of an image, the best first. category_ids: by label."""
    rows, scores = replay.reported()
    candidates = replay.candidates
    ids = np.full(len(rows), image_id, np.int64)
    return Detections(ids, category_ids[candidates.label[rows]], candidates.boxes_xywh[rows], scores.astype(float))


def waterfall(
    gt: GroundTruth, detections: Mapping[Subset, Detections], parts: Sequence[Stage], resamples: int = RESAMPLES
) -> Waterfall:
    """The costs of every stage for AP and AP50 and every size, with paired bootstrap intervals.

    detections: of every subset of the stages that have an oracle. parts: all stages of the family, in their order.
    """
    areas = {size: AREA_RANGES[size] for size in SIZES}
    figures: dict[Subset, dict[str, dict[str, Figure]]] = {}
    with progress_bar(len(detections), "weighing the stages", "subset") as bar:
        for subset in sorted(detections, key=len):
            same = _same_as(subset, detections, figures)
            known = figures[same] if same is not None else figures_by_size(match(gt, detections[subset], areas), resamples)
            figures[subset] = known
            bar.update()
    metrics: dict[str, dict[str, SizeWaterfall]] = {metric: {} for metric in METRICS}
    draws: dict[str, np.ndarray] = {}
    for metric in METRICS:
        for size in AREA_RANGES:
            of_size = {subset: known[metric][size] for subset, known in figures.items()}
            costs = {part.name: _cost_figure(part, of_size) for part in parts}
            metrics[metric][size] = _of_size(of_size, costs, parts)
            draws |= {cost_column(metric, size, name): figure.values.astype(np.float32) for name, figure in costs.items()}
    return Waterfall(metrics, pd.DataFrame(draws))


def _same_as(subset: Subset, detections: Mapping[Subset, Detections], done: Iterable[Subset]) -> Subset | None:
    """A smaller subset with the very same detections: there the added oracle changed nothing."""
    mine = detections[subset]
    for stage in subset:
        smaller = subset - {stage}
        other = detections[smaller]
        if smaller in done and len(other) == len(mine) and all(
            np.array_equal(getattr(other, name), getattr(mine, name))
            for name in ("image_id", "category_id", "score", "boxes_xywh")
        ):
            return smaller
    return None


def shapley_weights(stage: str, subsets: Iterable[Subset], count: int) -> dict[Subset, float]:
    """Subset → its weight in the Shapley value of a stage among `count`; what is without the stage counts against it."""
    weights = {}
    for subset in subsets:
        others = len(subset - {stage})
        weight = factorial(others) * factorial(count - others - 1) / factorial(count)
        weights[subset] = weight if stage in subset else -weight
    return weights


def _of_size(figures: Mapping[Subset, Figure], costs: Mapping[str, Figure], parts: Sequence[Stage]) -> SizeWaterfall:
    real, every = figures[REAL], max(figures, key=len)
    ap = real.interval()
    return SizeWaterfall(
        ap.value, ap.low, ap.high, ap.objects, ap.images, ap.undetermined, ap.holds,
        costliest=_costliest(costs) if ap.value is not None else (),
        stages=tuple(_cost(part, costs[part.name], figures, every) for part in parts),
    )


def _cost_figure(part: Stage, figures: Mapping[Subset, Figure]) -> Figure:
    """The Shapley value of a stage, draw by draw; of what no oracle mends, what is left to 1."""
    every = max(figures, key=len)
    if part.oracle is None:
        left = 1 - figures[every].by_class
        return replace(figures[every], by_class=np.where(np.abs(left) < EXACT, 0, left), is_difference=True)
    weights = shapley_weights(part.name, figures, len(every))
    return Figure.combine([figures[subset] for subset in weights], list(weights.values()))


def _cost(part: Stage, figure: Figure, figures: Mapping[Subset, Figure], every: Subset) -> Cost:
    interval = figure.interval()
    if interval.value is None or interval.low is None:
        return Cost(part.name, None, None, None, None, None)
    value = 0.0 if abs(interval.value) < EXACT else interval.value
    low = max(interval.low, 0.0) if value == 0 and _never_moves(figure) else interval.low
    if part.oracle is None:
        return Cost(part.name, value, low, interval.high, None, value)
    one: Subset = frozenset({part.name})
    alone = _value(figures[one]) - _value(figures[REAL])
    last = _value(figures[every]) - _value(figures[every - one])
    return Cost(part.name, value, low, interval.high, alone, last)


def _never_moves(figure: Figure) -> bool:
    """Whether every resample says the same: a mistake that was not seen can cost, but brings nothing."""
    drawn = figure.values[~np.isnan(figure.values)]
    return bool(np.abs(drawn - drawn[0]).max(initial=0) < EXACT)


def _value(figure: Figure) -> float:
    return float(figure.values[0])


def _costliest(costs: Mapping[str, Figure]) -> tuple[str, ...]:
    """The part that costs most, then those whose distance to it may be 0: the interval of its lead does not exclude it."""
    values = {name: _value(figure) for name, figure in costs.items()}
    ranked = sorted((name for name in values if values[name] > EXACT), key=lambda name: -values[name])
    if not ranked:
        return ()
    first, *others = ranked
    rivals = []
    for name in others:
        lead = Figure.combine([costs[first], costs[name]], [1, -1]).interval()
        if lead.low is None or lead.low <= 0:
            rivals.append(name)
    return (first, *rivals)
