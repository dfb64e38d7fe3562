"""Training on windows and validation in windows, cut while the images are read: no copies on disk.

The whole image is always one of the views: without it the objects that are larger than a window are lost (SAHI,
arXiv:2202.06934, trains and tests so too). So training and validation show the detector the same scales.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmdet.datasets.builder import DATASETS

from workbook.data import decoded  # registers LoadWindow, which the pipelines name
from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.data.reading import SMALLEST_SIDE
from workbook.data.windows import MIN_VISIBLE, Window, clip, grid, visible_share

EMPTY_SHARE = 0.1  # of the items of an epoch are windows without objects, where there are enough
MIXED = 8  # images at least that are mixed in the batches of a training
COVERED = 0.5  # an ignored region over more of an object than this would hide it from the assigner


@dataclass(frozen=True)
class View:
    """A window of an image, or all of it. image: index among the images of the dataset."""

    image: int
    window: Window


@dataclass(frozen=True)
class Truths:
    """What a view shows of the objects of its image, in pixels of the view."""

    boxes_xyxy: np.ndarray  # [objects, 4] clipped to the view
    labels: np.ndarray  # [objects]
    ignored_xyxy: np.ndarray  # [regions, 4] pieces that are too small a part of their object to be one
    rows: np.ndarray  # [objects] which of the image's boxes they are


def truths_in(window: Window, boxes_xyxy: np.ndarray, labels: np.ndarray) -> Truths:
    """The objects of an image as a window shows them. boxes_xyxy [n, 4], labels [n]: those of the image.

    A box of which MIN_VISIBLE is to be seen is an object, clipped. What is left of the others is an ignored region,
    but for one that covers an object: mmdet's assigners give nothing that lies in an ignored region.
    """
    share = visible_share(boxes_xyxy, window)
    clipped = clip(boxes_xyxy, window)
    is_object = (share >= MIN_VISIBLE) & (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1)
    rows = np.flatnonzero(is_object)
    ignored = clipped[(share > 0) & ~is_object]
    hides = np.array([(_share_in(clipped[rows], region) > COVERED).any() for region in ignored], bool)
    return Truths(clipped[rows], labels[rows], ignored[~hides], rows)


def _share_in(boxes_xyxy: np.ndarray, region: np.ndarray) -> np.ndarray:
    """[n] the share of each box that lies in the region [4]."""
    sides = np.minimum(boxes_xyxy[:, 2:], region[2:]) - np.maximum(boxes_xyxy[:, :2], region[:2])
    return sides.clip(min=0).prod(axis=1) / (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)


@DATASETS.register_module()
class WindowedTrainDataset(OrderedCocoDataset):
    """An item a view: every image whole, each of its windows with objects, and some of those without any.

    window_side: pixels of the original image; each view is then resized as the pipeline resizes an image.
    empty_share: of the items; which of the empty windows such an item shows is drawn when it is read. small_repeats:
    of every view of an image with a small object. A window that holds nothing but pieces of objects, or crowds, is
    no item: without an object mmdet's assigners know no ignored region.
    """

    def __init__(self, *arguments: Any, window_side: int, empty_share: float = EMPTY_SHARE, **named: Any) -> None:
        self.window_side = sound_side(window_side)
        if not 0 <= empty_share < 1:
            raise ValueError(f"empty_share={empty_share}: the share of the items without objects. Allowed: from 0 to "
                             "below 1")
        super().__init__(*arguments, **named)
        self.views: list[View] = []
        self.empty: list[View] = []
        self.with_objects: list[list[Window]] = []  # of each image
        for index in range(len(self.data_infos)):
            self._add_views(index)
        times = np.bincount(self.shown, minlength=len(self.data_infos))  # how often an epoch shows each image
        with_objects = np.repeat(np.arange(len(self.views)), [times[view.image] for view in self.views])
        self.empty_items = min(round(empty_share / (1 - empty_share) * len(with_objects)), len(self.empty))
        self.shown = np.concatenate([with_objects, len(self.views) + np.arange(self.empty_items)])
        self.flag = np.zeros(len(self.views) + self.empty_items, np.uint8)  # mmdet's groups of items: one

    def _add_views(self, index: int) -> None:
        info = self.data_infos[index]
        self.views.append(View(index, whole(info)))
        truth = self.get_ann_info(index)
        own = [a["bbox"] for a in self.coco.imgToAnns[info["id"]] if a["category_id"] in self.cat_ids]
        annotated = np.array(own, float).reshape(-1, 4)
        annotated[:, 2:] += annotated[:, :2]
        self.with_objects.append([])
        for window in windows_of(info, self.window_side):
            if len(truths_in(window, truth["bboxes"], truth["labels"]).rows):
                self.views.append(View(index, window))
                self.with_objects[-1].append(window)
            elif not visible_share(annotated, window).any():
                self.empty.append(View(index, window))

    def arrange(self, order: np.ndarray) -> np.ndarray:
        """The same items in an order in which a photo is not decoded for every window: pool by pool of images.

        A pool is as many images as fit into the memory of decoded ones, and at least MIXED; within it the order is
        that of `order` [items], a random one, and so is which images share a pool. One pool for all leaves the order
        as it is.
        """
        items = self.shown[order] % len(self.views)  # one without objects is drawn later: any view stands for it
        images = np.array([view.image for view in self.views])[items]
        _, first, of_item = np.unique(images, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))[of_item]
        pixels = np.median([info["width"] * info["height"] for info in self.data_infos])
        pool = max(MIXED, int(decoded.MEMORY_BYTES // (3 * pixels)))
        return order[np.argsort(rank // pool, kind="stable")]

    def truths(self, view: View) -> Truths:
        """The objects as this view shows them; those of a whole image are mmdet's, and it has no ignored region."""
        truth = self.get_ann_info(view.image)
        if view.window == whole(self.data_infos[view.image]):
            return Truths(truth["bboxes"], truth["labels"], np.zeros((0, 4)), np.arange(len(truth["labels"])))
        return truths_in(view.window, truth["bboxes"], truth["labels"])

    def shown_boxes(self, index: int) -> list[tuple[dict[str, Any], np.ndarray]]:
        """The whole image and its windows with objects: entry of each with its size, and its objects [n, 4]."""
        info = self.data_infos[index]
        windows = [whole(info), *self.with_objects[index]]
        return [
            ({**info, "width": window.width, "height": window.height}, self.truths(View(index, window)).boxes_xyxy)
            for window in windows
        ]

    def windows(self, index: int) -> list[Window]:
        """The windows with objects of an image, which are items beside its whole."""
        return self.with_objects[index]

    def prepare_train_img(self, idx: int) -> Any:
        """Item `idx` through the pipeline. An empty window is drawn by numpy, which the loader seeds by item."""
        view = self.views[idx] if idx < len(self.views) else self.empty[np.random.randint(len(self.empty))]
        truths = self.truths(view)
        info = self.data_infos[view.image]
        results = {
            "img_info": {**info, "width": view.window.width, "height": view.window.height},
            "ann_info": {
                "bboxes": truths.boxes_xyxy.astype(np.float32), "labels": truths.labels,
                "bboxes_ignore": truths.ignored_xyxy.astype(np.float32),
            },
            "window": view.window,
        }
        self.pre_pipeline(results)
        return self.pipeline(results)


@DATASETS.register_module()
class WindowedValDataset(OrderedCocoDataset):
    """Images as they are, and the windows of each beside. window_side: pixels of the original image."""

    def __init__(self, *arguments: Any, window_side: int, **named: Any) -> None:
        self.window_side = sound_side(window_side)
        super().__init__(*arguments, **named)

    def windows(self, index: int) -> list[Window]:
        """The windows of an image; none where one would be the whole image."""
        return windows_of(self.data_infos[index], self.window_side)

    def window_items(self, index: int) -> Iterator[tuple[Window, dict[str, Any]]]:
        """Each window, and what the pipeline makes of it, without ground truth."""
        for window in self.windows(index):
            yield window, self._item(index, window)

    def _item(self, index: int, window: Window) -> dict[str, Any]:
        none = np.zeros((0, 4), np.float32)
        info = {**self.data_infos[index], "width": window.width, "height": window.height}
        truth = {"bboxes": none, "labels": np.zeros(0, np.int64), "bboxes_ignore": none}
        results = {"img_info": info, "ann_info": truth, "window": window}
        self.pre_pipeline(results)
        return self.pipeline(results)


def whole(info: dict[str, Any]) -> Window:
    """All of an image as a window. info: its entry in the COCO file."""
    return Window(0, 0, info["width"], info["height"])


def windows_of(info: dict[str, Any], side: int) -> list[Window]:
    """The grid of an image; empty where one window would be the whole image. info: its entry in the COCO file."""
    found = grid(info["width"], info["height"], side)
    return [] if found == [whole(info)] else found


def sound_side(side: Any) -> int:
    """The side of windows. Raises ValueError for one that training could not use."""
    if not isinstance(side, int) or isinstance(side, bool) or side < SMALLEST_SIDE:
        raise ValueError(f"window_side={side!r}: the side of a window in pixels of the original image. "
                         f"Allowed: whole numbers from {SMALLEST_SIDE}")
    return side
