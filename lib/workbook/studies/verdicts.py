"""The verdict on each claim of a study, with an error rate.

supported     the interval of the difference lies on the claimed side of 0; of an equality, within the margin on both sides
contradicted  it lies on the other side; of an equality, outside the margin
open          neither: with how many seeds or images it would be decided
confounded    the two sides differ in more than the claim is about

An equality is tested by two one-sided tests (Schuirmann 1987, J Pharmacokinet Biopharm 15), each at half the level, because the claim
may be contradicted as well. The intervals are corrected over all claims by Holm's procedure. Of all pages of a study, at most 5% are to
hold a wrong conclusion: 4% are for the verdicts, 1% for their causes (`studies/causes.py`). `bench/verdicts.py` measures it.

With one seed a difference is one of two trainings, with two nobody knows how far a seed moves a figure: such claims stay open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from workbook.evaluation.bootstrap import FEWEST_IMAGES, Samples
from workbook.evaluation.comparison import FEWEST_SEEDS
from workbook.evaluation.contrast import POWER, Contrast, Term, contrast, holm_levels
from workbook.runs.samples import samples_of_all
from workbook.studies.claim import Claim
from workbook.studies.settings import Pair, Setting, StudyRun, confounds_of, pairs_of, settings_of
from workbook.words import counted

ERROR = 0.04
SUPPORTED, CONTRADICTED, OPEN, CONFOUNDED = "supported", "contradicted", "open", "confounded"


@dataclass(frozen=True)
class Verdict:
    """What may be concluded about a claim. `value` is left less right, in the claim's figure; low and high are its corrected interval."""

    claim: str
    verdict: str
    value: float | None  # None where the two sides cannot be compared
    low: float | None  # None where too few images hold such objects
    high: float | None
    seeds: int  # of the setting with the fewest
    images: int  # of val, that hold such objects
    confounds: tuple[str, ...]
    words: str

    @property
    def reason(self) -> str:
        """The words without the verdict before them."""
        return self.words.removeprefix(self.verdict).lstrip(":, ")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "confounds": list(self.confounds)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Verdict:
        """The verdict that `to_json` gave."""
        return cls(**{**content, "confounds": tuple(content["confounds"])})


@dataclass(frozen=True)
class Question:
    """A claim with what it is judged from; `found` is None where there is nothing to test, for the reason in `why_not`."""

    claim: Claim
    pairs: tuple[Pair, ...]
    confounds: tuple[str, ...]
    found: Contrast | None
    why_not: str = ""

    @property
    def is_tested(self) -> bool:
        """Whether enough images hold such objects for an interval."""
        return self.found is not None and self.found.images >= FEWEST_IMAGES

    @property
    def p_value(self) -> float:
        """Of the conclusion that is nearer, supported or contradicted; two-sided, since there are two."""
        assert self.found is not None
        margin = self.claim.margin
        if margin is None:
            supported = self.found.p_above(0)
            contradicted = self.found.p_below(0)
        else:
            supported = max(self.found.p_above(-margin), self.found.p_below(margin))
            contradicted = min(self.found.p_above(margin), self.found.p_below(-margin))
        return min(1.0, 2 * min(supported, contradicted))


def judge(claims: Sequence[Claim], runs: Sequence[StudyRun]) -> tuple[list[Question], list[Verdict]]:
    """The verdict on each claim from the finished runs of a study. Raises RunError for a run whose files do not belong together."""
    settings = settings_of(runs)
    asked = [setting for setting in settings if any(setting in pair for claim in claims for pair in pairs_of(claim, settings))]
    those = [run for setting in asked for run in setting.runs]
    samples = {run.name: its for run, its in zip(those, samples_of_all(those), strict=True)}
    questions = [ask(claim, settings, samples) for claim in claims]
    return questions, conclude(questions)


def ask(claim: Claim, settings: Sequence[Setting], samples: Mapping[str, Samples]) -> Question:
    """What a claim compares, and how far the two sides lie apart. samples: of each run by name."""
    pairs = tuple(pairs_of(claim, settings))
    if not pairs:
        sides = (side for side in (claim.left, claim.right) if not any(side.selects(setting.parameters) for setting in settings))
        return Question(claim, (), (), None, f"no finished run of {' and '.join(side.words for side in sides)}")
    confounds = confounds_of(claim, pairs)
    used = [samples[run.name] for pair in pairs for setting in pair for run in setting.runs]
    try:
        for other in used[1:]:
            used[0].minus(other)
    except ValueError as error:
        return Question(claim, pairs, confounds or (str(error),), None, f"the two sides cannot be paired: {error}")
    if not used[0].figures[claim.figure].objects:
        return Question(claim, pairs, confounds, None, f"val has no object that {claim.figure} counts")
    found = contrast(terms_of(pairs, {name: each.figures[claim.figure] for name, each in samples.items()}))
    return Question(claim, pairs, confounds, found)


def terms_of(pairs: Sequence[Pair], figures: Mapping[str, Any]) -> list[Term]:
    """Left less right, the mean over the pairs, as a contrast takes it. figures: run → its figure."""
    weights: dict[tuple[str, ...], float] = {}
    for pair in pairs:
        for sign, setting in zip((1, -1), pair, strict=True):
            names = tuple(run.name for run in setting.runs)
            weights[names] = weights.get(names, 0.0) + sign / len(pairs)
    return [(weight, [figures[name] for name in names]) for names, weight in weights.items()]


def conclude(questions: Sequence[Question]) -> list[Verdict]:
    """The verdicts, corrected for all claims that can be tested together."""
    tested = [number for number, question in enumerate(questions) if question.is_tested]
    levels = dict(zip(tested, holm_levels([questions[number].p_value for number in tested], ERROR), strict=True))
    return [_verdict(question, levels.get(number), len(tested)) for number, question in enumerate(questions)]


def _verdict(question: Question, level: float | None, tested: int) -> Verdict:
    found = question.found
    claim = question.claim
    state = CONFOUNDED if question.confounds else OPEN
    if found is None:
        words = _sentence(state, question.why_not, question.confounds)
        seeds = min((len(setting.runs) for pair in question.pairs for setting in pair), default=0)
        return Verdict(claim.text, state, None, None, None, seeds, 0, question.confounds, words)
    verdict = Verdict(claim.text, state, found.value, None, None, found.seeds, found.images, question.confounds, "")
    if level is None:
        few = f"{claim.figure} rests on {counted(found.objects, 'object')} in {counted(found.images, 'image')}, too few for an interval"
        return replace(verdict, words=_sentence(state, f"{found.value:+.3f}; {few}", question.confounds))
    low, high = found.interval(level)
    if state == OPEN and found.seeds >= FEWEST_SEEDS:
        state = _state(claim, low, high)
    by = f"{found.value:+.3f} {claim.figure} ({low:+.3f} to {high:+.3f}, {_basis(found, tested)})"
    more = _what_decides(question, level) if state == OPEN else ""
    words = _sentence(state, f"{claim.left.words} less {claim.right.words} is {by}{_pairs(question)}{more}", question.confounds)
    return replace(verdict, verdict=state, low=low, high=high, words=words)


def _state(claim: Claim, low: float, high: float) -> str:
    if claim.margin is None:
        supported = low > 0
        contradicted = high < 0
    else:
        supported = -claim.margin < low and high < claim.margin
        contradicted = low > claim.margin or high < -claim.margin
    if supported:
        return SUPPORTED
    return CONTRADICTED if contradicted else OPEN


def _sentence(state: str, words: str, confounds: Sequence[str]) -> str:
    if state == CONFOUNDED:
        return f"confounded, the two sides differ in more than the claim is about ({'; '.join(confounds)}): {words}"
    return f"{state}: {words}"


def _single(found: Contrast) -> str:
    """Which settings have one seed."""
    return "one of the settings" if found.of_seeds else "each"


def _basis(found: Contrast, tested: int) -> str:
    seeds = counted(found.seeds, "seed") if found.seeds > 1 else f"one seed of {_single(found)}"
    corrected = f", corrected for {tested} claims" if tested > 1 else ""
    return f"{seeds}, {counted(found.images, 'image')}{corrected}"


def _pairs(question: Question) -> str:
    if len(question.pairs) == 1:
        return ""
    return f", the mean over {len(question.pairs)} pairs of settings"


def _what_decides(question: Question, level: float) -> str:
    """What would decide an open claim, if the true difference is the measured one."""
    found = question.found
    assert found is not None
    if found.seeds == 1:
        return (f"; with one seed of {_single(found)}, this is about these {'' if found.of_seeds else 'two '}trainings and says nothing of "
                f"the two settings: train at least {FEWEST_SEEDS} seeds of each")
    if found.seeds < FEWEST_SEEDS:
        return f"; {found.seeds} seeds do not show how far a seed moves a figure: train at least {FEWEST_SEEDS} of each"
    if not found.error:
        return "; neither the images nor the seeds move it, so nothing says how many would decide it: take more val images"
    margin = question.claim.margin
    distance = abs(found.value) if margin is None else abs(margin - abs(found.value))
    ways = _ways(found, distance, level)
    if not ways:
        return "; if this is the true difference, 100 seeds of each on as many more images do not decide it"
    return f"; if this is the true difference, about {' or '.join(ways)} decide it (power {POWER:.0%})"


def _ways(found: Contrast, distance: float, level: float) -> list[str]:
    """More seeds alone or more images alone; both where neither alone decides."""
    seeds = found.seeds_needed(distance, level)
    images = found.images_needed(distance, level)
    alone = [f"{seeds} seeds of each on these images" if seeds else "", f"{_about(images)} images with such objects" if images else ""]
    if any(alone):
        return [way for way in alone if way]
    both = found.both_needed(distance, level)
    return [f"{both[0]} seeds of each on {_about(both[1])} images with such objects"] if both else []


def _about(images: int) -> str:
    """Two digits are honest: 347 → 350."""
    digits = max(len(str(images)) - 2, 0)
    return f"{-(-images // 10**digits) * 10**digits:,}"
