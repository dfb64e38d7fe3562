"""An image that is tested whole and in windows, inside the detector: what every view's probe found, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.data.windows import Window, cut_by_border, visible_share
from workbook.diagnosis.family import ImageProbe, ModelFamily
from workbook.diagnosis.oracle import Candidates, ImageObjects, Suppressed
from workbook.evaluation.boxes import to_xyxy
from workbook.evaluation.merging import merge
from workbook.models.suppression import suppression_iou
from workbook.training.loader import as_batch, to_device


@dataclass(frozen=True)
class _View:
    """One view. rows: which of the image's objects it shows, in the order of the probe's."""

    window: Window
    probe: ImageProbe
    rows: np.ndarray
    is_whole: bool

    @property
    def offset(self) -> np.ndarray:
        """[4] what turns its boxes (x, y, width, height) into those of the image."""
        return np.array([self.window.x, self.window.y, 0, 0], float)


def probe_views(
    family: ModelFamily, model: nn.Module, batch: dict[str, Any], objects: ImageObjects, dataset: OrderedCocoDataset,
    index: int,
) -> ImageProbe:
    """The probe of image `index` in all views in which it is tested. batch: the whole image, as validation makes it.

    A candidate is one of any view; suppression is that of each view, then the merging of all, as in validation. A
    perfect first stage adds a candidate in every view that shows all of the object.
    """
    probe = family.probe(model, batch, objects)
    if not dataset.windows(index):
        return probe
    info = dataset.data_infos[index]
    image = Window(0, 0, info["width"], info["height"])
    views = [_View(image, probe, np.arange(len(objects)), is_whole=True)]
    for window, item in dataset.window_items(index):
        shows = np.flatnonzero(visible_share(to_xyxy(objects.boxes_xywh), window) > 0)
        own = ImageObjects(objects.ids[shows], objects.labels[shows], objects.boxes_xywh[shows])
        own = replace(own, boxes_xywh=own.boxes_xywh - [window.x, window.y, 0, 0])
        of_window = to_device(as_batch([item]), batch["img"].device)
        views.append(_View(window, family.probe(model, of_window, own), shows, is_whole=False))
    return _as_one(views, objects, image, suppression_iou(model))


def _as_one(views: Sequence[_View], objects: ImageObjects, image: Window, iou: float) -> ImageProbe:
    real = [view.probe.candidates for view in views]
    added = [_of_whole_objects(view, objects) for view in views]
    counts = [[len(candidates.gt_index) for candidates in part] for part in (real, added)]
    view_of = np.concatenate([np.repeat(np.arange(len(views)), of_part) for of_part in counts])

    def suppress(candidates: Candidates) -> Suppressed:
        return _suppress(candidates, views, view_of[candidates.candidate], image, iou)

    best = _furthest(views, len(objects))
    return ImageProbe(
        candidates=_joined(views, real, suppress), oracle_candidates=_joined(views, added, suppress),
        candidate_iou=_of_best(views, best, "candidate_iou"), candidate_rank=_of_best(views, best, "candidate_rank"),
        candidate_cut=_of_best(views, best, "candidate_cut"), rank=np.concatenate([view.probe.rank for view in views]),
    )


def _of_whole_objects(view: _View, objects: ImageObjects) -> Candidates:
    """The candidates that a perfect first stage adds in this view: on the objects of which it shows all."""
    added = view.probe.oracle_candidates
    share = visible_share(to_xyxy(objects.boxes_xywh[view.rows]), view.window)
    shown = (share > 1 - 1e-9) | view.is_whole
    return added.take(np.flatnonzero(shown[added.object_of])) if len(shown) else added


def _joined(views: Sequence[_View], parts: Sequence[Candidates], suppress: Any) -> Candidates:
    """The candidates of all views as one, in pixels of the image."""
    starts = np.cumsum([0, *(len(part.gt_index) for part in parts)])
    objects_of = [np.append(view.rows, -1)[part.gt_index] for view, part in zip(views, parts, strict=True)]
    return Candidates(
        candidate=np.concatenate([part.candidate + start for part, start in zip(parts, starts, strict=False)]),
        label=np.concatenate([part.label for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        boxes_xywh=np.concatenate([part.boxes_xywh + view.offset for view, part in zip(views, parts, strict=True)]),
        named=np.concatenate([part.named for part in parts]),
        priors_xywh=np.concatenate([part.priors_xywh + view.offset for view, part in zip(views, parts, strict=True)]),
        background=np.concatenate([part.background for part in parts]),
        gt_index=np.concatenate(objects_of),
        suppress=suppress,
    )


def _suppress(
    candidates: Candidates, views: Sequence[_View], view_of: np.ndarray, image: Window, iou: float
) -> Suppressed:
    """Each view's own suppression in the view's pixels, then the merging; what only a limit leaves out comes last."""
    eligible = np.zeros(len(view_of), bool)
    reported: list[np.ndarray] = []
    over: list[np.ndarray] = []
    scores = candidates.score.astype(float)
    for number, view in enumerate(views):
        rows = np.flatnonzero(view_of == number)
        own = candidates.take(rows)
        own = replace(own, boxes_xywh=own.boxes_xywh - view.offset)
        found = view.probe.candidates.suppress(own)
        eligible[rows] = found.eligible
        scores[rows[found.survivors]] = found.scores
        is_cut = cut_by_border(to_xyxy(own.boxes_xywh[found.survivors]), view.window, image.width, image.height)
        reported.append(rows[found.survivors[: found.limit][~is_cut[: found.limit]]])
        over.append(rows[found.survivors[found.limit :]])
    rows = np.concatenate(reported)
    within, beyond = merge(candidates.boxes_xywh[rows], scores[rows], candidates.label[rows], view_of[rows], iou)
    survivors = np.concatenate([rows[within], rows[beyond], *over])
    return Suppressed(eligible, survivors, scores[survivors], len(within))


def _furthest(views: Sequence[_View], objects: int) -> np.ndarray:
    """[objects] the view whose first stage got furthest with each: a candidate is left on it, then the best IoU."""
    best = np.zeros(objects, int)
    reached = np.full(objects, -1.0)
    for number, view in enumerate(views):
        how_far = (view.probe.candidate_cut == "") * 2.0 + view.probe.candidate_iou
        better = how_far > reached[view.rows]
        best[view.rows[better]] = number
        reached[view.rows[better]] = how_far[better]
    return best


def _of_best(views: Sequence[_View], best: np.ndarray, name: str) -> np.ndarray:
    """[objects] this field of the probe of each object's best view."""
    found = getattr(views[0].probe, name).copy()
    for number, view in enumerate(views):
        own = best[view.rows] == number
        found[view.rows[own]] = getattr(view.probe, name)[own]
    return found
