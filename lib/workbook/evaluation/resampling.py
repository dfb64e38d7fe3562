"""COCO's AP of many resampled data sets at once, counted from one matching.

A resample is a number for each image: how often it was drawn. Nothing is matched or sorted again, because an image
drawn three times brings three times the same detections with the same scores. Precision is needed only where a truth
is found, so the detections between two finds are first summed (one sparse product for all resamples), and only finds
are walked.

The result is that of pycocotools on the resampled data set, in which the copies of an image follow one another in
place of the original. (A copy is tied with its original in every score; pycocotools then goes by the order of the
images.)
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from workbook.cores import usable_cores
from workbook.evaluation.matching import Matches

RECALLS = 101  # AP is the mean of the precision at recall 0, .01 … 1
STEP = 0.01  # n * .01 is numpy.linspace(0, 1, 101)[n] to the bit, which pycocotools compares with
BLOCK = 1 << 17  # finds x resamples worked on in one piece: 1 MB an array, so that the steps stay in the cache


def resample_weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """How often each image is drawn: `resamples` times, as many images as there are, with repeats.

    Returns [resamples, images], int. The same numbers give the same draws, so that two evaluations can be paired.
    """
    drawn = np.random.default_rng(seed).integers(0, images, (resamples, images))
    places = drawn + images * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=resamples * images).reshape(resamples, images)


def average_precision(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """COCO's AP of each resampled data set.

    weights: [resamples, images], how often each image of `matches.images` is there; a row of ones is the data set
    itself. Returns [resamples, IoUs, areas, classes], in 0..1, NaN where a resample has no truth of that class and
    area. Raises ValueError for weights of another shape, or that are not whole numbers from 0.
    """
    if weights.ndim != 2 or weights.shape[1] != len(matches.images):
        raise ValueError(f"weights must be [resamples, {len(matches.images)} images], but are {list(weights.shape)}")
    if (weights < 0).any() or (weights != np.rint(weights)).any():
        raise ValueError("weights say how often an image is there, so they must be whole numbers from 0")
    order = _in_order(matches, int(weights.max(initial=0)))
    columns = _columns(weights, order)
    truths = _truths(matches, columns)
    result = np.zeros((len(weights), len(matches.ious), len(matches.areas), len(matches.classes)))
    with ThreadPoolExecutor(usable_cores()) as workers:
        jobs = [
            workers.submit(finds.fill, columns[:, part], truths[:, place, part], result[part, :, :, place])
            for place, finds in _finds(matches, order)
            for part in _parts(len(weights), len(finds.image))
        ]
        for job in jobs:
            job.result()
    result[(truths == 0).transpose(2, 0, 1)[:, None].repeat(len(matches.ious), axis=1)] = np.nan
    return result


@dataclass(frozen=True)
class _Order:
    """The detections in order, those of ties within an image written out copy by copy.

    Two detections of one image with the same score, one right and one wrong, come in a resample as right, wrong, right,
    wrong: not the same as right twice, wrong twice. Each copy of such an image is a column of weights of its own.
    """

    detection: np.ndarray  # [entries], place in matches.row
    column: np.ndarray  # [entries], image, or images + a copy of a tied image
    tied_images: np.ndarray  # the images that have copies
    copies: int


def _in_order(matches: Matches, most: int) -> _Order:
    """most: the largest weight, which is how many copies a tie can need."""
    key = np.stack([matches.category, matches.image, matches.score])
    block = np.cumsum((np.diff(key, axis=1, prepend=-1) != 0).any(axis=0)) - 1  # runs of one class, image and score
    size = np.bincount(block)
    taker = np.zeros(len(block), bool)
    taker[matches.candidates] = True
    tied = ((size > 1) & (np.bincount(block, taker) > 0))[block]
    repeats = np.where(tied, most, 1)
    detection = np.repeat(np.arange(len(block)), repeats)
    copy = np.arange(len(detection)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    order = np.lexsort((detection, copy, block[detection]))
    detection, copy = detection[order], copy[order]
    tied_images, slot = np.unique(matches.image[tied], return_inverse=True)
    first = np.zeros(len(block), np.int64)
    first[tied] = len(matches.images) + slot * most
    return _Order(detection, np.where(tied, first, matches.image)[detection] + copy, tied_images, most)


def _columns(weights: np.ndarray, order: _Order) -> np.ndarray:
    """[images + copies of tied images, resamples], float32: small whole numbers, so nothing is lost."""
    copies = weights.T[order.tied_images, None] > np.arange(order.copies)[:, None]  # [tied images, copies, resamples]
    return np.concatenate([weights.T, copies.reshape(-1, len(weights))]).astype(np.float32)


def _truths(matches: Matches, columns: np.ndarray) -> np.ndarray:
    """[areas, classes, resamples]: how many truths count."""
    shape = len(matches.classes), len(columns)
    each = [
        csr_array((counts.astype(np.float32), (matches.truth_class, matches.truth_image)), shape=shape) @ columns
        for counts in matches.truth_counts.T
    ]
    return np.stack(each).astype(float)


@dataclass(frozen=True)
class _Finds:
    """One class: its candidates, and the detections up to each of them, summed by image."""

    used: np.ndarray  # the columns of weights that this class needs
    image: np.ndarray  # [candidates], place in `used`
    before: tuple[csr_array, ...]  # an area each: [candidates, used]; detections in range since the last candidate
    hit: np.ndarray  # [candidates, IoUs, areas], bool
    extra: np.ndarray  # [candidates, IoUs, areas]: 1 counts though out of range, -1 is ignored though in range

    def fill(self, columns: np.ndarray, truths: np.ndarray, result: np.ndarray) -> None:
        """Put the AP of these resamples in result, [resamples, IoUs, areas].

        columns: [all columns, resamples]. truths: [areas, resamples].
        """
        own = columns[self.used]  # [used, resamples]
        found = _resamples_first(own[self.image])
        for area, before in enumerate(self.before):
            in_range = np.cumsum(_resamples_first(before @ own), axis=1, dtype=np.int32)
            for iou in range(self.hit.shape[1]):
                if iou and self._same_as_before(iou, area):
                    result[:, iou, area] = result[:, iou - 1, area]
                    continue
                hits, extra = np.flatnonzero(self.hit[:, iou, area]), np.flatnonzero(self.extra[:, iou, area])
                ranked = np.take(in_range, hits, axis=1)
                if len(extra):
                    more = np.zeros((len(found), len(extra) + 1), np.int32)
                    np.cumsum(np.take(found, extra, axis=1) * self.extra[extra, iou, area], axis=1, out=more[:, 1:])
                    ranked += np.take(more, np.searchsorted(extra, hits, side="right"), axis=1)
                result[:, iou, area] = _area_under(np.take(found, hits, axis=1), ranked, truths[area])

    def _same_as_before(self, iou: int, area: int) -> bool:
        """Whether the same detections are hits as at the IoU before: then so is the precision."""
        now, before = (slice(None), iou, area), (slice(None), iou - 1, area)
        return np.array_equal(self.hit[now], self.hit[before]) and np.array_equal(self.extra[now], self.extra[before])


def _resamples_first(counts: np.ndarray) -> np.ndarray:
    """[finds, resamples] → [resamples, finds], int32: sums along rows of whole numbers are the fastest."""
    return np.ascontiguousarray(counts.T, dtype=np.int32)


def _area_under(found: np.ndarray, ranked: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """COCO's 101-point AP.

    found: [resamples, finds], how many truths are found here. ranked: [resamples, finds], how many detections count
    up to here. truths: [resamples]. Both are overwritten. Returns [resamples].
    """
    correct = np.cumsum(found, axis=1, dtype=np.int32, out=found)
    precision = correct / np.maximum(ranked, 1, out=ranked)  # where nothing was drawn yet, 0 of 0
    # the highest at this recall or more; floats from 0 are ordered as their bits are, and whole numbers are faster
    falling = precision.view(np.int64)[:, ::-1]
    np.maximum.accumulate(falling, axis=1, out=falling)
    recall = correct / np.maximum(truths, 1)[:, None]
    nearest = np.rint(recall * (1 / STEP))
    reached = nearest + (nearest * STEP <= recall)  # how many of the 101 recalls
    return (np.vecdot(reached, precision) - np.vecdot(reached[:, :-1], precision[:, 1:])) / RECALLS


def _finds(matches: Matches, order: _Order) -> Iterator[tuple[int, _Finds]]:
    """The classes that have any, each with its place."""
    category = matches.category[order.detection]
    taker = np.full(len(matches.row), -1)
    taker[matches.candidates] = np.arange(len(matches.candidates))
    edges = np.searchsorted(category, np.arange(len(matches.classes) + 1))
    hit = matches.hit
    for place, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        entry = order.detection[start:stop]
        used, column = np.unique(order.column[start:stop], return_inverse=True)
        at = np.flatnonzero(taker[entry] >= 0)  # where the candidates stand
        if not len(at):
            continue
        candidate = taker[entry[at]]
        kept = entry[: at[-1] + 1]  # what comes after the last find changes nothing
        next_find = np.searchsorted(at, np.arange(len(kept)))
        in_range = matches.in_range[kept]
        before = tuple(
            csr_array((inside.astype(np.float32), (next_find, column[: len(kept)])), shape=(len(at), len(used)))
            for inside in in_range.T
        )
        counted = hit[candidate] | ((matches.taken_truth[candidate] < 0) & in_range[at][:, None])
        extra = counted.astype(np.int8) - in_range[at][:, None].astype(np.int8)
        yield place, _Finds(used, column[at], before, hit[candidate], extra)


def _parts(resamples: int, finds: int) -> list[slice]:
    size = max(BLOCK // max(finds, 1), 32)
    return [slice(start, min(start + size, resamples)) for start in range(0, resamples, size)]


def figures_by_class(precision: np.ndarray, matches: Matches) -> dict[str, np.ndarray]:
    """The same figures, of each class alone: name → [resamples, classes], NaN where there is no truth."""
    return {
        "bbox_mAP": precision[:, :, 0].mean(axis=1),
        "bbox_mAP_50": precision[:, 0, 0],
        "bbox_mAP_75": precision[:, 5, 0],
        **{f"bbox_mAP_{name}": precision[:, :, n].mean(axis=1) for n, name in enumerate(matches.areas) if n},
    }


def mean_of_known(by_class: np.ndarray) -> np.ndarray:
    """[resamples, classes] → [resamples]: the mean over the classes that have truth."""
    known = ~np.isnan(by_class)
    total, count = np.where(known, by_class, 0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
