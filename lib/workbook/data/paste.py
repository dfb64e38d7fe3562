"""Small objects of the training images pasted into others, where they cover nothing.

The idea is Kisantal et al. 2019's (arXiv:1902.07296). mmdet's own CopyPaste reads boxes off masks in whole pixels,
and leaves an object its label until the last of it is covered; here a box is exact, and no object is covered at all.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.datasets.builder import PIPELINES

from workbook.data import decoded
from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.data.reading import Annotation, is_crowd
from workbook.data.windows import clip
from workbook.evaluation.sizes import in_size

SCALES = (0.8, 1.2)  # of a pasted object: Kisantal et al. 2019, section 4
MARGIN = 0.25  # of context around an object, in shares of its longer side
TRIES = 30  # places drawn for an object before it is left out
MEMORY_BYTES = 128 * 2**20  # of patches a process; a patch takes a few kB


@dataclass(frozen=True)
class Source:
    """A small object that may be pasted. patch_xyxy: it and its margin, whole pixels of its image."""

    image_id: int
    label: int
    box_xyxy: np.ndarray  # [4]
    patch_xyxy: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scaled:
    """A patch at its new size. box_xyxy: of the object in it, in pixels of the patch."""

    pixels: np.ndarray
    box_xyxy: np.ndarray
    label: int


@PIPELINES.register_module()
class PasteSmall:
    """Paste up to `number` small objects into an image, between the loading of its annotations and its resizing.

    Small is COCO's: by the area in the annotation file, before any scaling. Sources are all small objects of the same
    annotation file of which no other annotation covers any; an object comes with a margin of context where no other
    annotation reaches into it. A patch is scaled by a factor from SCALES, each side to whole pixels, and lies where
    its whole covers no annotation of the image (crowds, ignored ones and those of other classes too) and no other
    patch; an object for which no such place is found in TRIES draws is left out. All draws are numpy's, which the
    loader seeds by item.
    """

    def __init__(self, number: int) -> None:
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"PasteSmall: number={number!r} is how many objects are pasted into an image. "
                             "Allowed: whole numbers from 1")
        self.number = number
        self._sources: list[Source] | None = None
        self._patches: OrderedDict[int, dict[int, np.ndarray]] = OrderedDict()  # image id → number of a source → pixels
        self._bytes = 0

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add objects to `img`, `gt_bboxes` and `gt_labels`."""
        dataset: OrderedCocoDataset = results["dataset"]
        sources = self.sources(dataset)
        occupied = regions(dataset, results)
        pixels = results["img"]
        boxes: list[np.ndarray] = []
        labels: list[int] = []
        for _ in range(self.number if sources else 0):
            number = np.random.randint(len(sources))
            scaled = _scale(self._patch(dataset, number), sources[number], np.random.uniform(*SCALES))
            corner = _free_corner(scaled.pixels.shape, pixels.shape, occupied)
            if corner is None:
                continue
            height, width = scaled.pixels.shape[:2]
            pixels[corner[1] : corner[1] + height, corner[0] : corner[0] + width] = scaled.pixels
            occupied = np.vstack([occupied, [*corner, corner[0] + width, corner[1] + height]])
            boxes.append(scaled.box_xyxy + np.tile(corner, 2))
            labels.append(scaled.label)
        if boxes:
            results["gt_bboxes"] = np.vstack([results["gt_bboxes"], np.array(boxes, np.float32)])
            results["gt_labels"] = np.concatenate([results["gt_labels"], np.array(labels, np.int64)])
        return results

    def sources(self, dataset: OrderedCocoDataset) -> list[Source]:
        """Every object that may be pasted, in the order of the annotation file."""
        if self._sources is None:
            infos = [info for info in dataset.coco.dataset["images"] if dataset.coco.imgToAnns[info["id"]]]
            self._sources = [source for info in infos for source in _sources_in(dataset, info)]
        return self._sources

    def _patch(self, dataset: OrderedCocoDataset, number: int) -> np.ndarray:
        """The pixels of a source. An image is decoded once for all its patches."""
        sources = self.sources(dataset)
        image_id = sources[number].image_id
        if image_id not in self._patches:
            path = Path(dataset.img_prefix or "", dataset.coco.imgs[image_id]["file_name"])
            pixels = decoded.DECODED.read(path)
            rows = [row for row, source in enumerate(sources) if source.image_id == image_id]
            self._patches[image_id] = {row: _cut(pixels, sources[row].patch_xyxy) for row in rows}
            self._bytes += _bytes_of(self._patches[image_id])
        self._patches.move_to_end(image_id)
        while self._bytes > MEMORY_BYTES and len(self._patches) > 1:
            self._bytes -= _bytes_of(self._patches.popitem(last=False)[1])
        return self._patches[image_id][number]


def regions(dataset: OrderedCocoDataset, results: dict[str, Any]) -> np.ndarray:
    """[n, 4] every annotation of the image that this item shows, x1, y1, x2, y2 in pixels of the item."""
    boxes_xyxy = corners(dataset.coco.imgToAnns[results["img_info"]["id"]])
    window = results.get("window")
    if window is None:
        return boxes_xyxy
    clipped = clip(boxes_xyxy, window)
    return clipped[(clipped[:, 2:] > clipped[:, :2]).all(axis=1)]


def corners(annotations: list[Annotation]) -> np.ndarray:
    """[n, 4] x1, y1, x2, y2 of annotations."""
    boxes = np.array([annotation["bbox"] for annotation in annotations], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def overlaps(box_xyxy: Any, boxes_xyxy: np.ndarray) -> np.ndarray:
    """[n] bool: shares area with the box [4]."""
    sides = np.minimum(boxes_xyxy[:, 2:], box_xyxy[2:]) - np.maximum(boxes_xyxy[:, :2], box_xyxy[:2])
    return (sides > 0).all(axis=1)


def _sources_in(dataset: OrderedCocoDataset, info: dict[str, Any]) -> list[Source]:
    annotations = dataset.coco.imgToAnns[info["id"]]
    boxes_xyxy = corners(annotations)
    size = np.array([info["width"], info["height"]])
    found = []
    for row, annotation in enumerate(annotations):
        box_xyxy = boxes_xyxy[row]
        others = np.delete(boxes_xyxy, row, axis=0)
        inside = (box_xyxy >= 0).all() and (box_xyxy[2:] <= size).all()
        if not (inside and _is_small_object(dataset, annotation)):
            continue
        margin = math.ceil(MARGIN * max(annotation["bbox"][2:]))
        patch = _around(box_xyxy, margin, size)
        if overlaps(np.array(patch), others).any():
            patch = _around(box_xyxy, 0, size)
        if not overlaps(np.array(patch), others).any():
            found.append(Source(info["id"], dataset.cat2label[annotation["category_id"]], box_xyxy, patch))
    return found


def _is_small_object(dataset: OrderedCocoDataset, annotation: Annotation) -> bool:
    """Whether mmdet trains on it and COCO calls it small."""
    if annotation["category_id"] not in dataset.cat_ids or is_crowd(annotation) or annotation.get("ignore"):
        return False
    large_enough = min(annotation["bbox"][2:]) >= 1
    return large_enough and annotation["area"] > 0 and bool(in_size(np.array([annotation["area"]]), "small")[0])


def _around(box_xyxy: np.ndarray, margin: int, size: np.ndarray) -> tuple[int, int, int, int]:
    """The box and a margin, in whole pixels of an image of `size` (width, height)."""
    low = np.maximum(np.floor(box_xyxy[:2]) - margin, 0).astype(int)
    high = np.minimum(np.ceil(box_xyxy[2:]) + margin, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _cut(pixels: np.ndarray, patch_xyxy: tuple[int, int, int, int]) -> np.ndarray:
    x1, y1, x2, y2 = patch_xyxy
    return pixels[y1:y2, x1:x2].copy()


def _bytes_of(patches: dict[int, np.ndarray]) -> int:
    return sum(patch.nbytes for patch in patches.values())


def _scale(patch: np.ndarray, source: Source, factor: float) -> Scaled:
    """The patch scaled, each side to the whole number of pixels nearest to `factor` that stays within SCALES."""
    sides = np.array([patch.shape[1], patch.shape[0]])
    scaled = np.clip(np.round(factor * sides), np.ceil(SCALES[0] * sides), np.floor(SCALES[1] * sides)).astype(int)
    pixels = cv2.resize(patch, (int(scaled[0]), int(scaled[1])), interpolation=cv2.INTER_LINEAR)
    corner = np.array(source.patch_xyxy[:2], float)
    box_xyxy = (source.box_xyxy - np.tile(corner, 2)) * np.tile(scaled / sides, 2)
    return Scaled(pixels, box_xyxy, source.label)


def _free_corner(patch: tuple[int, ...], image: tuple[int, ...], occupied: np.ndarray) -> tuple[int, int] | None:
    """x, y where a patch of this shape (height, width) covers none of the occupied boxes; None when none was drawn."""
    room = (image[1] - patch[1], image[0] - patch[0])
    if min(room) < 0:
        return None
    for _ in range(TRIES):
        x = int(np.random.randint(room[0] + 1))
        y = int(np.random.randint(room[1] + 1))
        if not overlaps(np.array([x, y, x + patch[1], y + patch[0]]), occupied).any():
            return x, y
    return None
