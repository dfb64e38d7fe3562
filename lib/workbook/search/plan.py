"""Which arms a search tries, in which order, for how many seeds, and what that takes: planned before anything trains.

An arm is the run's detector with one more remedy. Those that change the evaluation alone are all measured. Those that need
a training come in the order of what the diagnosis promises (the cost of the stages that they address, at the size) for
their work (steps times pixels). Each is trained with one seed; the better half goes on to the next seed (successive
halving: Jamieson and Talwalkar 2016, arXiv:1502.07943, with seeds in the place of steps, because a short training ranks a
long one wrongly).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbook.diagnosis.waterfall import SizeWaterfall
from workbook.errors import ParameterError
from workbook.proofs.gains import Gain

SEEDS = 3  # of the baseline, and of an arm that stays to the end; of each setting of the proof
AFTER_SEARCH = 101  # seeds of the proof are so far from the run's: none was used before
SAME_WORK = 1.05  # a training of at most so many times the baseline's work costs as much as it
FEWEST_ARMS = 3  # a search within a budget gives up a seed rather than trying fewer arms than these
MOST_COMBINED = 3  # remedies in a combination


@dataclass(frozen=True)
class Arm:
    """One remedy, or several, on top of those of the run itself."""

    remedies: tuple[str, ...]
    trained: frozenset[str]  # those of them that need a training; the others change the evaluation alone
    stages: tuple[str, ...]  # whose losses they address
    promised: float  # what these stages cost, AP of the size; 0 where nothing is known
    work: float  # of its training, as a multiple of the baseline's; 0 for an evaluation
    excludes: frozenset[str] = frozenset()  # keys that it cannot be combined with
    misfit: str = ""  # why it cannot be tried

    @property
    def key(self) -> str:
        """`fitted_anchors+soft_nms`."""
        return "+".join(self.remedies)

    @property
    def trains(self) -> bool:
        """Whether anything in it needs a training."""
        return bool(self.trained)

    @property
    def rank(self) -> tuple[bool, float, str]:
        """What is promised for the work decides; a key breaks a tie."""
        return (self.trains, -self.promised / max(self.work, 1e-9), self.key)


@dataclass(frozen=True)
class Plan:
    """What a search will do. Times are in seconds, None where nothing of the kind has trained on this machine."""

    evaluated: tuple[Arm, ...]
    trained: tuple[Arm, ...]
    left_out: tuple[Arm, ...]  # by the budget, or with the reason why it does not fit
    seeds: int  # of the baseline, and the most of an arm
    has_proof: bool
    search_seconds: float | None
    proof_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """What a search that goes on must not decide anew."""
        return {"trained": [list(arm.remedies) for arm in self.trained], "seeds": self.seeds, "has_proof": self.has_proof}


@dataclass(frozen=True)
class Pace:
    """Seconds on this machine, with so many trainings at once."""

    fit: float | None  # of a training of the baseline on the images to fit on
    whole: float | None  # of one on the whole of train
    evaluation: float | None  # of one validation
    slots: int

    def search(self, evaluated: int, works: Sequence[float], seeds: int) -> float | None:
        """Baseline, evaluations and rungs; a combination of the two best with every seed is counted in."""
        if self.fit is None or self.evaluation is None:
            return None
        trainings = seeds + sum(sum(works[:count]) for count in rungs(len(works), seeds))
        combination = seeds * max(works) if len(works) > 1 else 0.0
        return ((trainings + combination) * self.fit + evaluated * seeds * self.evaluation) / self.slots

    def proof(self, works: Sequence[float]) -> float | None:
        """Baseline, winner and control, if the winner costs what the arms cost on the mean."""
        if self.whole is None:
            return None
        work = sum(works) / len(works) if works else 0.0
        control = work if work > SAME_WORK else 0.0
        return SEEDS * (1 + work + control) * self.whole / self.slots


def promised(stages: Sequence[str], costs: SizeWaterfall) -> float | None:
    """What these stages cost of a size's AP, by the diagnosis; None where val has no such object."""
    known = {cost.stage: cost.shapley for cost in costs.stages}
    found = [value for stage in stages if (value := known.get(stage)) is not None]
    return max(sum(found), 0.0) if found else None


def rungs(arms: int, seeds: int) -> list[int]:
    """How many arms are trained with the first seed, the second ...: each time half of them, rounded up."""
    return [math.ceil(arms / 2**rung) for rung in range(seeds)] if arms else []


def survivors(gains: Mapping[Arm, Gain], most: int) -> list[Arm]:
    """The arms that go on to the next seed: those that gain anything, at most so many, the best first."""
    ahead = [arm for arm in gains if gains[arm].value > 0]
    return sorted(ahead, key=lambda arm: (-gains[arm].value, arm.rank))[:most]


def may_join(arm: Arm, other: Arm) -> bool:
    """Whether the two can be one arm."""
    together = {*arm.remedies, *other.remedies}
    compatible = not (set(arm.remedies) & other.excludes or set(other.remedies) & arm.excludes)
    return compatible and len(together) == len(arm.remedies) + len(other.remedies) <= MOST_COMBINED


def join(arm: Arm, other: Arm, costs: SizeWaterfall, work: float) -> Arm:
    """Both in one. work: of its training."""
    stages = tuple(dict.fromkeys([*arm.stages, *other.stages]))
    return Arm(
        tuple(sorted({*arm.remedies, *other.remedies})), arm.trained | other.trained, stages,
        promised(stages, costs) or 0.0, work, arm.excludes | other.excludes,
    )


def make_plan(arms: Sequence[Arm], pace: Pace, budget: float | None = None) -> Plan:
    """The plan of all arms that fit, or of as much as the budget (seconds) holds.

    Within a budget the arms of the least promise go first, then a seed, then the proof. Raises ParameterError when not even
    an evaluation fits, or when nothing says how long anything takes.
    """
    tried = sorted((arm for arm in arms if not arm.misfit), key=lambda arm: arm.rank)
    misfits = [arm for arm in arms if arm.misfit]
    evaluated = [arm for arm in tried if not arm.trains]
    trained = [arm for arm in tried if arm.trains]
    if budget is None:
        return _plan(evaluated, trained, [], misfits, pace, SEEDS, True)
    whole = _plan(evaluated, trained, [], misfits, pace, SEEDS, True)
    if whole.search_seconds is None or whole.proof_seconds is None:
        raise ParameterError("--budget: nothing like this run has trained on this machine, so no time is known. Leave --budget out, or "
                             "train the run here")
    for has_proof, fewest in ((True, FEWEST_ARMS), (False, FEWEST_ARMS), (False, 0)):
        for seeds in range(SEEDS, 0, -1):
            for count in range(len(trained), min(fewest, len(trained)) - 1, -1):
                plan = _plan(evaluated, trained[:count], trained[count:], misfits, pace, seeds, has_proof)
                if _seconds(plan) <= budget:
                    return plan
    least = _seconds(_plan(evaluated, [], [], [], pace, 1, False))
    raise ParameterError(f"--budget: the least, one training of the baseline and {len(evaluated)} evaluations, takes about "
                         f"{math.ceil(least / 60)} min here. Give more, or leave --budget out")


def _plan(
    evaluated: Sequence[Arm], trained: Sequence[Arm], left_out: Sequence[Arm], misfits: Sequence[Arm], pace: Pace, seeds: int,
    has_proof: bool,
) -> Plan:
    works = [arm.work for arm in trained]
    beyond = [replace(arm, misfit="the budget does not hold it") for arm in left_out]
    return Plan(
        tuple(evaluated), tuple(trained), (*beyond, *misfits), seeds, has_proof,
        pace.search(len(evaluated), works, seeds), pace.proof(works) if has_proof else 0.0,
    )


def _seconds(plan: Plan) -> float:
    return (plan.search_seconds or 0.0) + (plan.proof_seconds or 0.0)


def search_seeds(seed: int, count: int) -> list[int]:
    """The seeds of a search, none of them the run's own."""
    return [_bounded(seed + 1 + number) for number in range(count)]


def proof_seeds(seed: int) -> list[int]:
    """The seeds of the proof: fresh ones."""
    return [_bounded(seed + AFTER_SEARCH + number) for number in range(SEEDS)]


def unused_seed(seed: int) -> int:
    """A seed that no search and no proof trains with: of such a run nothing is done yet, so what it takes is what a whole one takes."""
    return _bounded(seed + AFTER_SEARCH + SEEDS)


def _bounded(seed: int) -> int:
    return seed % 2**31
