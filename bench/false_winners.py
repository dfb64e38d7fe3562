"""How often is one of two equal backbones called better, and how often is a true lead found? `python -m bench.false_winners`

Under three minutes on 2 cores. The truth is known because the detections are made. All backbones of a page are equal over all the
images there could be, but each has its own taste: which images and objects it finds hard, the same with all of its seeds. A seed adds
its own luck: a standard deviation of .011 mAP or more between trainings on the same images. So a page of equal backbones must name no
winner, in any pair and any size; more than 5% of pages that do are too many (of 150 pages, up to 9% may be chance). For the power, one
backbone of the same page is replaced by one that is truly .05 mAP better.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bench.coverage import SIZES
from workbook.evaluation.bootstrap import Samples, bootstrap
from workbook.evaluation.comparison import compare
from workbook.evaluation.matching import match

EASY = (-0.2, 1.2, 2.0)  # log odds that an object of that size is found, in an image of middling difficulty
LEAD_SKILL = 0.35  # what the truly better backbone adds to that: .05 mAP
IMAGE_TASTE, OBJECT_TASTE = 0.4, 0.7  # of a backbone, shared by its seeds
SEED_SHIFT, SEED_OBJECT = 0.08, 0.25  # of one training: for all objects alike, and for each of them
PAGES = {60: 150, 300: 75}  # images → pages
BACKBONES, SEEDS = (2, 5), (2, 3, 5, 10)
RESAMPLES = 200
EVERYTHING = 20_000  # images whose figures stand for all


@dataclass(frozen=True)
class Scene:
    """Images with objects of one class, and how easy each is for every detector."""

    images: int
    image: np.ndarray  # [objects] index of the image
    boxes_xywh: np.ndarray  # [objects, 4] pixels
    easy: np.ndarray  # [objects] log odds

    @classmethod
    def draw(cls, images: int, rng: np.random.Generator) -> Scene:
        """Images of one endless population: 0 to about 12 objects, alike in size and easy or hard as a whole."""
        image = np.repeat(np.arange(images), rng.poisson(rng.gamma(2.0, 1.5, images)))
        favourite = rng.integers(0, 3, images)[image]
        size = np.where(rng.random(len(image)) < 0.5, favourite, rng.integers(0, 3, len(image)))
        easy = np.take(EASY, size) + rng.normal(0, 0.8, images)[image] + rng.normal(0, 0.7, len(image))
        return cls(images, image, _boxes(size, rng), easy)

    def truth(self) -> dict[str, Any]:
        """As a COCO dict."""
        return {
            "images": [{"id": number} for number in range(self.images)], "categories": [{"id": 0, "name": "thing"}],
            "annotations": [
                {"image_id": image, "category_id": 0, "bbox": box, "area": box[2] * box[3]}
                for image, box in zip(self.image.tolist(), self.boxes_xywh.tolist(), strict=True)
            ],
        }


@dataclass(frozen=True)
class Backbone:
    """What all trainings of one backbone share on a scene."""

    scene: Scene
    quality: np.ndarray  # [objects]
    luck: np.ndarray  # [objects] 0 to 1: found when the odds are above
    offset: np.ndarray  # [objects, 4] where its boxes err, in standard deviations
    false_image: np.ndarray  # [false ones]
    false_xywh: np.ndarray  # [false ones, 4] pixels

    @classmethod
    def draw(cls, scene: Scene, skill: float, rng: np.random.Generator) -> Backbone:
        """A backbone with a taste of its own; `skill` is what it truly adds."""
        objects = len(scene.image)
        taste = rng.normal(0, IMAGE_TASTE, scene.images)[scene.image] + rng.normal(0, OBJECT_TASTE, objects)
        false_image = np.repeat(np.arange(scene.images), rng.poisson(2.0, scene.images))
        false_xywh = _boxes(rng.integers(0, 3, len(false_image)), rng)
        return cls(scene, scene.easy + skill + taste, rng.random(objects), rng.normal(0, 1, (objects, 4)), false_image, false_xywh)

    def train(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """The detections of one seed."""
        quality = self.quality + rng.normal(0, SEED_SHIFT) + rng.normal(0, SEED_OBJECT, len(self.quality))
        found = np.flatnonzero(self.luck < 1 / (1 + np.exp(-quality)))
        blur = 0.14 * np.exp(-0.3 * quality[found])[:, None] * np.tile(self.scene.boxes_xywh[found, 2:], 2)
        boxes = self.scene.boxes_xywh[found] + blur * (self.offset[found] + rng.normal(0, 0.2, (len(found), 4)))
        logits = np.concatenate([0.5 * quality[found], np.full(len(self.false_image), -0.8)])
        score = 1 / (1 + np.exp(-logits - rng.normal(0, 0.5, len(logits))))
        where = np.vstack([boxes, self.false_xywh])
        where[:, 2:] = np.abs(where[:, 2:])
        image = np.concatenate([self.scene.image[found], self.false_image])
        return [
            {"image_id": i, "category_id": 0, "bbox": box, "score": s}
            for i, box, s in zip(image.tolist(), where.tolist(), score.tolist(), strict=True)
        ]


def _boxes(size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[n, 4] boxes somewhere in a large image; size: [n] index in SIZES."""
    sides = np.take(SIZES, size)[:, None] * np.exp(rng.normal(0, 0.25, (len(size), 2)))
    return np.hstack([rng.uniform(0, 2000, (len(size), 2)), sides])


@dataclass(frozen=True)
class Page:
    """What a page of so many backbones and seeds said."""

    wrong_winner: bool  # of equal backbones
    wrong_interval: bool  # of equal backbones, that some interval excludes 0, winner or not
    all_seeds_ahead: bool  # of equal backbones, that one is ahead of another in bbox_mAP with each of its seeds
    leads_found: float  # share of the other backbones that the truly better one is named better than, in bbox_mAP
    seed_deviation: float  # standard deviation of bbox_mAP between the seeds of the first backbone


def page(number: int, images: int) -> dict[tuple[int, int], Page]:
    """Backbones and seeds → page `number` of so many images; smaller pages are parts of the largest."""
    rng = np.random.default_rng([images, number])
    scene = Scene.draw(images, rng)
    truth = scene.truth()
    equal = [_samples(truth, Backbone.draw(scene, 0.0, rng), rng) for _ in range(max(BACKBONES))]
    better = _samples(truth, Backbone.draw(scene, LEAD_SKILL, rng), rng)
    return {(count, seeds): _page(equal[:count], better, seeds) for count in BACKBONES for seeds in SEEDS}


def _samples(truth: dict[str, Any], backbone: Backbone, rng: np.random.Generator) -> list[Samples]:
    return [bootstrap(match(truth, backbone.train(rng)), RESAMPLES) for _ in range(max(SEEDS))]


def _page(equal: Sequence[Sequence[Samples]], better: Sequence[Samples], seeds: int) -> Page:
    settings = {f"backbone {number}": samples[:seeds] for number, samples in enumerate(equal)}
    differences = compare(settings)
    with_lead = compare({**settings, "backbone 0": better[:seeds]})
    leads = [each for each in with_lead if each.figure == "bbox_mAP" and "backbone 0" in (each.higher, each.lower)]
    return Page(
        wrong_winner=any(each.has_winner for each in differences),
        wrong_interval=any(each.excludes_zero for each in differences),
        all_seeds_ahead=any(each.ahead == seeds for each in differences if each.figure == "bbox_mAP"),
        leads_found=float(np.mean([each.has_winner and each.higher == "backbone 0" for each in leads])),
        seed_deviation=float(np.std([samples.figures["bbox_mAP"].values[0] for samples in equal[0]], ddof=1)),
    )


def true_map(skill: float) -> float:
    """bbox_mAP over very many images, the mean of three draws."""
    values = []
    for number in range(3):
        rng = np.random.default_rng(number)
        scene = Scene.draw(EVERYTHING, rng)
        found = Backbone.draw(scene, skill, rng).train(rng)
        values.append(bootstrap(match(scene.truth(), found), 2).figures["bbox_mAP"].values[0])
    return float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, help="of each number of images; 150 of 60 images and 75 of 300 when not given")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with ProcessPoolExecutor() as workers:
        plain, better = workers.map(true_map, (0.0, LEAD_SKILL))
        print(f"bbox_mAP of the equal backbones {plain:.3f}, of the better one {better:.3f}: a true lead of {better - plain:.3f}\n")
        print("| backbones | images | seeds | pages | wrong winner | interval without 0 | ahead with all seeds | lead found |")
        print("|---|---|---|---|---|---|---|---|")
        for images, pages in PAGES.items():
            drawn = list(workers.map(partial(page, images=images), range(arguments.pages or pages)))
            for (count, seeds), rows in {key: [those[key] for those in drawn] for key in drawn[0]}.items():
                print(f"| {count} | {images} | {seeds} " + _row(rows), flush=True)
            deviation = np.sqrt(np.mean([each.seed_deviation**2 for each in (those[2, 10] for those in drawn)]))
            print(f"| | {images} | | | between seeds {deviation:.3f} | | | |", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


def _row(pages: Sequence[Page]) -> str:
    names = ("wrong_winner", "wrong_interval", "all_seeds_ahead", "leads_found")
    shares = [np.mean([getattr(each, name) for each in pages]) for name in names]
    return f"| {len(pages)} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


if __name__ == "__main__":
    main()
