"""The search: arms are trained and measured on images cut from train, those that fall behind are dropped, helpful ones joined.

Nothing is decided from the clock, and every training is an ordinary run: a search that was broken off comes to the same
decisions when it is called again, and trains only what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workbook.data.catalog import find_dataset
from workbook.data.cuts import cut_shares
from workbook.data.learnable import trainable_images
from workbook.proofs.curve import Curve, learning_curve
from workbook.proofs.gains import Gain, SeedNoise, figure_values, gain, gain_on_same_weights, seed_noise
from workbook.proofs.store import COMBINATION, EVALUATION, OWN, TRAINING, ArmResult, unmeasured
from workbook.search.lab import Ask, Failure, Lab, Measurement, require_all
from workbook.search.plan import Arm, Plan, join, may_join, rungs, search_seeds, survivors
from workbook.search.question import Question
from workbook.search.work import Work, stretched
from workbook.words import counted

BASELINE = Arm((), frozenset(), (), 0.0, 0.0)


@dataclass
class Trial:
    """What an arm has shown so far."""

    measurements: list[Measurement] = field(default_factory=list)
    outcome: str = ""


@dataclass(frozen=True)
class Found:
    """What a search found: the winner, None when nothing helps, and all that was tried."""

    winner: Arm | None
    arms: tuple[ArmResult, ...]
    curve: Curve | str | None  # of more images, or why there is none; only where nothing else helps


class Search:
    """One search, to be carried out once by `run`."""

    def __init__(self, question: Question, plan: Plan, lab: Lab) -> None:
        self.question = question
        self.plan = plan
        self.lab = lab
        self.seeds = search_seeds(question.parameters.seed, plan.seeds)
        self.baseline: list[Measurement] = []
        self.trials: dict[Arm, Trial] = {}

    def run(self) -> Found:
        """Carry it out. Raises RunError when the baseline cannot be trained, KeyboardInterrupt when it is broken off."""
        found = self.lab.measure(self._asks(BASELINE, self.seeds), "The baseline of the search, on images cut from train")
        self.baseline = require_all(found, "the baseline of the search")
        self._measure(self.plan.evaluated, self.seeds, "Remedies of the evaluation")
        self._halve()
        best = self._combine()
        for arm, trial in self.trials.items():
            trial.outcome = trial.outcome or self._outcome(arm, best)
        curve = None if best else self._curve()
        return Found(best, (self._own(), *map(self._result, self.trials), *map(_not_tried, self.plan.left_out)), curve)

    def gain(self, arm: Arm) -> Gain:
        """What the arm gains, by all of its measurements."""
        mine = [one.samples for one in self.trials[arm].measurements]
        baseline = [one.samples for one in self.baseline]
        if not arm.trains:
            return gain_on_same_weights(mine, baseline, self.question.figure)
        return gain(mine, baseline, self.question.figure, self._noise())

    def _noise(self) -> SeedNoise:
        """How far a seed moves the figure, by all that was trained with several."""
        arms = [self.baseline, *(trial.measurements for arm, trial in self.trials.items() if arm.trains)]
        return seed_noise([[one.samples for one in of_arm] for of_arm in arms if of_arm], self.question.figure)

    def _asks(self, arm: Arm, seeds: Sequence[int]) -> list[Ask]:
        """The trainings of an arm, and how they are evaluated."""
        trained = [key for key in arm.remedies if key in arm.trained]
        evaluated = tuple(key for key in arm.remedies if key not in arm.trained)
        return [Ask(self.question.on_cut(seed, trained), evaluated) for seed in seeds]

    def _measure(self, arms: Sequence[Arm], seeds: Sequence[int], title: str) -> None:
        """Measure these arms with these seeds; one that fails is out, and says why."""
        asks = [self._asks(arm, seeds) for arm in arms]
        found = iter(self.lab.measure([ask for of_arm in asks for ask in of_arm], title) if asks else [])
        for arm, of_arm in zip(arms, asks, strict=True):
            trial = self.trials.setdefault(arm, Trial())
            for one in [next(found) for _ in of_arm]:
                if isinstance(one, Failure):
                    trial.outcome = f"failed: {one.reason}"
                else:
                    trial.measurements.append(one)

    def _halve(self) -> None:
        """A seed a rung, each time for the better half."""
        alive = list(self.plan.trained)
        for rung, most in enumerate(rungs(len(alive), len(self.seeds))):
            if rung:
                ahead = survivors({arm: self.gain(arm) for arm in alive}, most)
                for arm in alive:
                    if arm not in ahead:
                        self.trials[arm].outcome = f"dropped after {counted(rung, 'seed')}"
                alive = ahead
            if alive:
                self._measure(alive, [self.seeds[rung]], f"Seed {rung + 1} of {len(self.seeds)}: {counted(len(alive), 'arm')}")
            alive = [arm for arm in alive if not self.trials[arm].outcome]

    def _combine(self) -> Arm | None:
        """The best arm that helps, joined with the others that help as long as each adds to it; None when none helps."""
        helpers = [arm for arm in self._standing() if self.gain(arm).helps]
        if not helpers:
            return None
        best, *others = sorted(helpers, key=lambda arm: (-self.gain(arm).value, arm.rank))
        for other in others:
            if not may_join(best, other):
                continue
            both = self._joined(best, other)
            if both is None:
                continue
            self._measure([both], self.seeds, f"Both {best.key} and {other.key}")
            if self._is_better(both, best):
                best = both
        return best

    def _standing(self) -> list[Arm]:
        """The arms that were neither dropped nor failed."""
        return [arm for arm, trial in self.trials.items() if trial.measurements and not trial.outcome]

    def _joined(self, arm: Arm, other: Arm) -> Arm | None:
        """Both in one; None when they do not go together."""
        if not (arm.trains and other.trains):
            return join(arm, other, self.question.costs, max(arm.work, other.work))
        both, base = self.lab.works([self.question.on_cut(self.seeds[0], keys) for keys in (sorted(arm.trained | other.trained), [])])
        if not isinstance(both, Work) or not isinstance(base, Work):
            return None
        return join(arm, other, self.question.costs, both.total / base.total)

    def _is_better(self, both: Arm, best: Arm) -> bool:
        """Whether the combination scores above the best arm so far by more than the error of that: else the simpler one stays."""
        mine, other = ([one.samples for one in self.trials[arm].measurements] for arm in (both, best))
        if self.trials[both].outcome or not mine:
            return False
        if both.trained == best.trained and len(mine) == len(other):
            return gain_on_same_weights(mine, other, self.question.figure).helps
        return gain(mine, other, self.question.figure, self._noise()).helps

    def _outcome(self, arm: Arm, best: Arm | None) -> str:
        if arm == best:
            return "the winner of the search"
        if best and set(arm.remedies) < set(best.remedies):
            return f"part of the winner {best.key}"
        if self.gain(arm).helps:
            return "helps, but less than the winner"
        return "no gain above its own error"

    def _own(self) -> ArmResult:
        """The baseline as an arm: what the others are compared with."""
        return arm_result(BASELINE, OWN, "the baseline of the search", self.baseline, self.question.figure, None)

    def _result(self, arm: Arm) -> ArmResult:
        trial = self.trials[arm]
        kind = TRAINING if arm.trains else EVALUATION
        return arm_result(
            arm, COMBINATION if len(arm.remedies) > 1 else kind, trial.outcome, trial.measurements, self.question.figure,
            self.gain(arm) if trial.measurements else None,
        )

    def _curve(self) -> Curve | str:
        """Trainings on a quarter and on half of the images for as many steps, and what they say of twice as many; or why not."""
        shares = list(cut_shares(self.question.cut).values())
        whole, *works = self.lab.works([self.question.on_cut(self.seeds[0], cut=cut) for cut in (self.question.cut, *shares)])
        asks: dict[str, list[Ask]] = {}
        reasons = [work for work in (whole, *works) if isinstance(work, str)]
        for cut, work in zip(shares, works, strict=True):
            if isinstance(work, Work) and isinstance(whole, Work):
                times = whole.steps / work.steps
                asks[cut] = [Ask(stretched(self.question.on_cut(seed, cut=cut), work, times)) for seed in self.seeds]
        by_count = {self._images(self.question.cut): [one.samples for one in self.baseline]}
        flat = [ask for of_cut in asks.values() for ask in of_cut]
        found = iter(self.lab.measure(flat, "Half and a quarter of the images: the learning curve") if flat else [])
        for cut, of_cut in asks.items():
            measured = [next(found) for _ in of_cut]
            reasons += [one.reason for one in measured if isinstance(one, Failure)]
            if trained := [one.samples for one in measured if isinstance(one, Measurement)]:
                by_count[self._images(cut)] = trained
        return learning_curve(by_count, self.question.figure) if len(by_count) > 1 else reasons[0]

    @staticmethod
    def _images(cut: str) -> int:
        return len(trainable_images(find_dataset(cut).train))


def arm_result(
    arm: Arm, kind: str, outcome: str, measurements: Sequence[Measurement], figure: str, gained: Gain | None
) -> ArmResult:
    """An arm as proof.json has it."""
    if not measurements:
        return unmeasured(arm.remedies, kind, outcome, arm.promised)
    known = measurements[0].samples.figures[figure]
    return ArmResult(
        remedies=arm.remedies, kind=kind, outcome=outcome, promised=arm.promised, seeds=len(measurements),
        score=float(figure_values([one.samples for one in measurements], figure).mean()), images=known.images, objects=known.objects,
        gain=gained.value if gained else None, low=gained.low if gained else None, high=gained.high if gained else None,
        work=arm.work or None, seconds_a_step=_mean([one.seconds_a_step for one in measurements]),
        seconds_an_image=_mean([one.seconds_an_image for one in measurements if one.seconds_an_image is not None]),
        runs=tuple(one.run.name for one in measurements),
    )


def _not_tried(arm: Arm) -> ArmResult:
    kind = TRAINING if arm.trains else EVALUATION
    return unmeasured(arm.remedies, kind, f"not tried: {arm.misfit}", arm.promised)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


