"""How often is a study's verdict wrong, and a true lead found? `python -m bench.verdicts > bench/verdicts.md`, ten minutes on 2 cores

Made data, where the truth is known: the scenes of `bench/false_winners.py`, with the luck of a seed set to 0, .011 and .02 mAP. A page is
a study of 2 to 5 settings with 1, 3 or 5 seeds on 20 to 300 images, whose claims are all ordered pairs in bbox_mAP and bbox_mAP_s. Between
equal settings every verdict but `open` is wrong: at most 5% of the pages may hold one. For the power the first setting is truly .02 or .05
mAP better. A last table counts how often the 95% interval of an AP, an AP_s and of their paired differences holds the truth, with 1, 3 and
30 classes, and how many of the intervals say themselves that they are no 95%: undetermined by few images or rare classes, or with the
lesser share that such intervals were measured to hold.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench import false_winners
from bench.coverage import made_data
from bench.false_winners import Backbone, Scene
from workbook.evaluation.bootstrap import ABOUT, Samples, bootstrap
from workbook.evaluation.contrast import contrast
from workbook.evaluation.matching import match
from workbook.studies.claim import Claim, Side
from workbook.studies.verdicts import CONTRADICTED, OPEN, SUPPORTED, Question, conclude

SETTINGS, SEEDS = (2, 3, 5), (1, 3, 5)
IMAGES = (20, 60, 300)
# luck of a seed: (for all objects alike, for each of them) → about this standard deviation of mAP at 60 images
SEED_NOISE = {0.0: (0.0, 0.0), 0.011: (0.06, 0.2), 0.02: (0.14, 0.3)}
LEADS = {0.02: 0.14, 0.05: 0.35}  # what the truly better setting adds to the log odds → its lead in mAP
FIGURES = ("bbox_mAP", "bbox_mAP_s")
PAGES, SETS, RESAMPLES = 150, 400, 200
CLASSES = {"1 class": (1.0,), "3 classes": (0.6, 0.3, 0.1), "30 uneven classes": tuple(1 / n for n in range(1, 31))}
EVERYTHING = 20_000  # images whose figures stand for all


@dataclass(frozen=True)
class Page:
    """What a page of equal settings, and of those with one better, said."""

    wrong: bool  # some verdict between equal settings is not open
    found: Mapping[float, float]  # true lead → share of the claims "the better one > another" that are supported
    reversed: bool  # some claim of the better one is contradicted
    deviation: float  # between the seeds of the first setting, in bbox_mAP


def page(number: int, images: int, noise: float) -> dict[tuple[int, int], Page]:
    """Settings and seeds → page `number` of so many images; smaller pages are parts of the largest."""
    false_winners.SEED_SHIFT, false_winners.SEED_OBJECT = SEED_NOISE[noise]
    rng = np.random.default_rng([images, number, round(1000 * noise)])
    scene = Scene.draw(images, rng)
    truth = scene.truth()

    def trained(skill: float) -> list[Samples]:
        backbone = Backbone.draw(scene, skill, rng)
        if not noise:  # every seed gives the very same training
            return [bootstrap(match(truth, backbone.train(rng)), RESAMPLES)] * max(SEEDS)
        return [bootstrap(match(truth, backbone.train(rng)), RESAMPLES) for _ in range(max(SEEDS))]

    equal = [trained(0.0) for _ in range(max(SETTINGS))]
    better = {lead: trained(skill) for lead, skill in LEADS.items()}
    return {(count, seeds): _page(equal[:count], better, seeds) for count in SETTINGS for seeds in SEEDS}


def _page(equal: Sequence[Sequence[Samples]], better: Mapping[float, Sequence[Samples]], seeds: int) -> Page:
    wrong = any(verdict != OPEN for verdict in _verdicts(equal, seeds).values())
    found = {}
    turned = False
    for lead, samples in better.items():
        verdicts = _verdicts([samples, *equal[1:]], seeds)
        of_the_better = [verdict for (one, _, figure), verdict in verdicts.items() if one == 0 and figure == "bbox_mAP"]
        found[lead] = float(np.mean([verdict == SUPPORTED for verdict in of_the_better]))
        turned = turned or CONTRADICTED in of_the_better
    values = [samples.figures["bbox_mAP"].values[0] for samples in equal[0]]
    return Page(wrong, found, turned, float(np.std(values, ddof=1)))


def _verdicts(settings: Sequence[Sequence[Samples]], seeds: int) -> dict[tuple[int, int, str], str]:
    """(left, right, figure) → the verdict on "left > right"; the page claims every pair once."""
    asked = list(itertools.product(itertools.combinations(range(len(settings)), 2), FIGURES))
    questions = []
    for (one, other), figure in asked:
        sides = [[samples.figures[figure] for samples in settings[at][:seeds]] for at in (one, other)]
        claim = Claim(f"{one} > {other} on {figure}", Side("backbone", one), Side("backbone", other), figure, None)
        questions.append(Question(claim, (), (), contrast([(1.0, sides[0]), (-1.0, sides[1])])))
    verdicts = [verdict.verdict for verdict in conclude(questions)]
    return {(*pair, figure): verdict for (pair, figure), verdict in zip(asked, verdicts, strict=True)}


def coverage(number: int, images: int, classes: str) -> dict[str, tuple[float, float, float, bool]]:
    """Figure → value, low, high and whether its own words say that it is no interval of 95%, of data set `number`."""
    truth, found = made_data(images, CLASSES[classes], np.random.default_rng([images, number]))
    resamples = 2 if images == EVERYTHING else 400
    first, second = (bootstrap(match(truth, detections), resamples) for detections in found)
    found_of = {}
    for samples, suffix in ((first, ""), (second.minus(first), ", difference")):
        for name in FIGURES:
            interval = samples.figures[name].interval()
            if interval.value is None or interval.low is None or interval.high is None:
                continue
            is_marked = interval.is_few or bool(interval.rests_on) or interval.holds < ABOUT
            found_of[name + suffix] = (interval.value, interval.low, interval.high, is_marked)
    return found_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=PAGES, help="of each number of images and each luck of a seed")
    parser.add_argument("--sets", type=int, default=SETS, help="data sets of each number of images and classes, for the coverage")
    arguments = parser.parse_args()
    start = time.perf_counter()
    print(f"# How often verdicts are wrong\n\n`python -m bench.verdicts` makes this page.\n{__doc__.partition(chr(10))[2]}")
    with ProcessPoolExecutor() as workers:
        print("| images | s.d. between seeds | settings | seeds | pages | wrong verdict | .02 found | .05 found | turned round |")
        print("|---|---|---|---|---|---|---|---|---|")
        for images, noise in itertools.product(IMAGES, SEED_NOISE):
            drawn = list(workers.map(partial(page, images=images, noise=noise), range(arguments.pages)))
            deviation = float(np.sqrt(np.mean([pages[2, 3].deviation ** 2 for pages in drawn])))
            for key in drawn[0]:
                print(f"| {images} | {deviation:.3f} | {key[0]} | {key[1]} {_row([pages[key] for pages in drawn])}", flush=True)
        print("\n| classes | images | figure | truth | sets | 95% interval holds it | says that it is no 95% |")
        print("|---|---|---|---|---|---|---|")
        for classes in CLASSES:
            everything = coverage(0, EVERYTHING, classes)
            for images in (20, 60, 200):
                drawn_sets = list(workers.map(partial(coverage, images=images, classes=classes), range(arguments.sets), chunksize=10))
                for name, (truth, *_) in everything.items():
                    print(f"| {classes} | {images} | {name} | {truth:.3f} {_coverage_row(truth, name, drawn_sets)}", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


def _row(pages: Sequence[Page]) -> str:
    wrong = np.mean([each.wrong for each in pages])
    found = [np.mean([each.found[lead] for each in pages]) for lead in LEADS]
    turned = np.mean([each.reversed for each in pages])
    return f"| {len(pages)} | {wrong:.1%} | {found[0]:.0%} | {found[1]:.0%} | {turned:.1%} |"


def _coverage_row(truth: float, name: str, drawn: Sequence[Mapping[str, tuple[float, float, float, bool]]]) -> str:
    there = [each[name] for each in drawn if name in each]
    holds = np.mean([low <= truth <= high for _, low, high, _ in there])
    marked = np.mean([is_marked for *_, is_marked in there])
    return f"| {len(there)} | {holds:.1%} | {marked:.0%} |"


if __name__ == "__main__":
    main()
