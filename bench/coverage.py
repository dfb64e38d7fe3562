"""How often does the 95% interval hold the truth? `python -m bench.coverage`, about six minutes on 2 cores

The truth is known because the images are made: endlessly many can be, and the figures of 80,000 stand for all. Small
data sets are then drawn, two detectors are evaluated on each, and it is counted how often the interval of `bootstrap`
holds the figure of all images. Of 200 data sets, 95% is counted as 92 to 98%, of 400 (`--sets 400`) as 93 to 97%:
twice the standard error. The last column is the share that the interval itself names (`Interval.holds`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from workbook.evaluation.bootstrap import Interval, Samples, bootstrap
from workbook.evaluation.matching import match

SIZES = (12.0, 55.0, 150.0)  # typical sides in pixels: small, medium, large
FOUND = (-0.4, 1.2, 2.0)  # log odds that an object of that size is found, in an image of middling difficulty
SKILLS = (0.0, 0.4)  # what a detector adds to that
CLASSES = {"3 classes": (0.6, 0.3, 0.1), "30 uneven classes": tuple(1 / n for n in range(1, 31))}  # how frequent
IMAGES = {"3 classes": (10, 25, 50, 200), "30 uneven classes": (20, 40, 60, 200)}
EVERYTHING, PARTS = 20_000, 4  # images at a time; the mean of so many parts is the truth
FIGURES = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_s", "bbox_mAP_l")


def made_data(
    images: int, frequency: Sequence[float], rng: np.random.Generator
) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """Images drawn from one endless population, and what two detectors say of them.

    An image holds 0 to about 20 objects, mostly of one size; and it is easier or harder as a whole, so that objects of
    one image fare alike: that is why images, not objects, are drawn again.
    """
    image = np.repeat(np.arange(images), rng.poisson(rng.gamma(2.0, 3.0, images)))
    ease, favourite = rng.normal(0, 1, images), rng.integers(0, 3, images)
    share = np.array(frequency) / sum(frequency)
    category = rng.choice(len(share), len(image), p=share)
    size = np.where(rng.random(len(image)) < 0.5, favourite[image], rng.integers(0, 3, len(image)))
    boxes_xywh = np.hstack([rng.uniform(0, 2000, (len(image), 2)), _sides(size, rng)])
    easy = np.take(FOUND, size) + ease[image] + rng.normal(0, 0.7, len(image))
    truth = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(len(share))],
        "annotations": [
            {"id": n + 1, "image_id": int(i), "category_id": int(c), "bbox": box.tolist(),
             "area": float(box[2] * box[3])}
            for n, (i, c, box) in enumerate(zip(image, category, boxes_xywh, strict=True))
        ],
    }
    return truth, [_detected(image, category, boxes_xywh, easy + skill, ease, share, rng) for skill in SKILLS]


def _sides(size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.take(SIZES, size)[:, None] * np.exp(rng.normal(0, 0.25, (len(size), 2)))


def _detected(
    image: np.ndarray, category: np.ndarray, boxes_xywh: np.ndarray, easy: np.ndarray, ease: np.ndarray,
    share: np.ndarray, rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Easy objects are found more often, more exactly, with higher scores; some get a wrong class, some are made up."""
    quality = easy + rng.normal(0, 0.7, len(easy))
    found = np.flatnonzero(rng.random(len(easy)) < 1 / (1 + np.exp(-quality)))
    blur = 0.16 * np.exp(-0.3 * quality[found])[:, None] * np.tile(boxes_xywh[found, 2:], 2)
    confused = rng.random(len(found)) < 0.08
    invented = np.repeat(np.arange(len(ease)), rng.poisson(4 * np.exp(-0.5 * ease)))
    at = np.concatenate([image[found], invented])
    of = np.concatenate([(category[found] + confused) % len(share), rng.choice(len(share), len(invented), p=share)])
    where = np.vstack([
        boxes_xywh[found] + blur * rng.normal(0, 1, (len(found), 4)),
        np.hstack([rng.uniform(0, 2000, (len(invented), 2)), _sides(rng.integers(0, 3, len(invented)), rng)]),
    ])
    logit = np.concatenate([0.5 * quality[found], np.full(len(invented), -0.8)]) + rng.normal(0, 0.7, len(at))
    where[:, 2:] = np.abs(where[:, 2:])
    return [
        {"image_id": int(i), "category_id": int(c), "bbox": box.tolist(), "score": float(1 / (1 + np.exp(-score)))}
        for i, c, box, score in zip(at, of, where, logit, strict=True)
    ]


def both(number: int, images: int, classes: str, resamples: int) -> tuple[Samples, Samples]:
    """The first detector, and how much better the second is, on data set `number` of so many images."""
    truth, found = made_data(images, CLASSES[classes], np.random.default_rng([images, number]))
    first, second = (bootstrap(match(truth, detections), resamples) for detections in found)
    return first, second.minus(first)


def named(pair: tuple[Samples, Samples]) -> Iterator[tuple[str, Interval]]:
    for samples, suffix in zip(pair, ("", ", second less first"), strict=True):
        all_intervals = {name: figure.interval() for name, figure in samples.figures.items()}
        yield from ((name + suffix, all_intervals[name]) for name in FIGURES)


def one_set(number: int, images: int, classes: str, resamples: int) -> dict[str, Interval]:
    return dict(named(both(number, images, classes, resamples)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", help="10 25 50 200 for 3 classes and 20 40 60 200 for 30 when not given")
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1_000)
    arguments = parser.parse_args()
    start = time.perf_counter()
    print(f"{arguments.sets} data sets of each size, {arguments.resamples:,} resamples; the truth is that of "
          f"{PARTS * EVERYTHING:,} images\n")
    print("| classes | images | figure | truth | 95% interval holds it | median width | undetermined | named |")
    print("|---|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor() as workers:
        for classes in CLASSES:
            part = partial(one_set, images=EVERYTHING, classes=classes, resamples=2)
            parts = list(workers.map(part, range(PARTS)))
            for images in arguments.images or IMAGES[classes]:
                job = partial(one_set, images=images, classes=classes, resamples=arguments.resamples)
                drawn = list(workers.map(job, range(arguments.sets), chunksize=10))
                for name in parts[0]:
                    truth = float(np.mean([part[name].value for part in parts]))
                    print(f"| {classes} | {images} " + row(name, truth, [those[name] for those in drawn]), flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


def row(name: str, truth: float, drawn: list[Interval]) -> str:
    """A line of the table. Data sets without such an object have no interval and are not counted."""
    bounds = np.array([(i.low, i.high) for i in drawn if i.value is not None], float)
    holds = ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
    vague = np.mean([i.undetermined for i in drawn])
    named = np.median([i.holds for i in drawn if i.value is not None])
    return (f"| {name} | {truth:.3f} | {holds:.1%} | {np.median(bounds[:, 1] - bounds[:, 0]):.3f} "
            f"| {vague:.0%} | {named:.0%} |")


if __name__ == "__main__":
    main()
