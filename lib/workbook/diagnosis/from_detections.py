"""The diagnosis that detections alone allow, for a run that was adopted without its model.

Each reported box is a candidate with one prediction, as a query of DETR is, and it is on the object that it fits (IoU .5). What
happened before a box was reported cannot be seen: a poor box near an object may be the box head's, or that of a proposal for something
else. So an object that no reported box fits is lost at `unreported`, whose perfect stage reports it, with its class, its box and the
highest score; and class, box, suppression and ranking are judged by the boxes that were reported. That is a split of what can be seen,
and not that of the detector, nor a bound of it: a loose box that was reported counts as the box's, even where the proposal was at fault.
There is no suppression to run again: what an oracle changes stays reported. A file of detections says nothing of background.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbook.diagnosis.diagnose import Diagnosis, ImageDiagnosis, replayed, summarize
from workbook.diagnosis.families.detections import BY_NO_BOX, BY_POOR_BOX, DETECTIONS
from workbook.diagnosis.family import ImageProbe
from workbook.diagnosis.follow import follow
from workbook.diagnosis.nearest import candidates_found
from workbook.diagnosis.oracle import FITS, NEAR, Candidates, ImageObjects, Replay, Suppressed
from workbook.diagnosis.probing import best_object, first_cut, ranks, survey
from workbook.evaluation.bootstrap import RESAMPLES
from workbook.evaluation.boxes import iou_table
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.progress import progress_bar

WHY_NOT_ASSIGNABLE = "that needs the model, and this run was adopted from its detections"


def diagnose_detections(
    coco: Mapping[str, Any], detections: Detections, *, iou: float = 0.5, resamples: int = RESAMPLES
) -> Diagnosis:
    """Follow every object of a COCO ground truth through what was reported.

    coco: with the classes of the run alone. iou: from here on a box fits, in the trace and for the kinds of false positives.
    """
    gt = GroundTruth.from_coco(coco)
    labels = np.searchsorted(gt.category_ids, detections.category_id)
    order = np.argsort(detections.image_id, kind="stable")
    of_image = np.split(order, np.searchsorted(detections.image_id[order], gt.image_ids[1:]))
    images: list[ImageDiagnosis] = []
    with progress_bar(len(gt.image_ids), "diagnosing", "image") as bar:
        for image_id, truth, rows in zip(gt.image_ids.tolist(), gt.of_image, of_image, strict=True):
            objects = ImageObjects(gt.ids[truth], gt.label[truth], gt.boxes_xywh[truth])
            probe = _probe(detections.boxes_xywh[rows], labels[rows], detections.score[rows], objects)
            replay = Replay(objects, probe.candidates, probe.oracle_candidates)
            facts = tuple(follow(probe, objects, gt.classes, iou))
            images.append(ImageDiagnosis(facts, replayed(replay, DETECTIONS.stages, image_id, gt.category_ids)))
            bar.update()
    return summarize(DETECTIONS, coco, gt, images, gt.image_ids.tolist(), iou, None, WHY_NOT_ASSIGNABLE, resamples)


def _probe(boxes_xywh: np.ndarray, label: np.ndarray, score: np.ndarray, objects: ImageObjects) -> ImageProbe:
    """The reported boxes of one image as candidates."""
    fit = iou_table(boxes_xywh, objects.boxes_xywh)
    on = best_object(fit, FITS)
    count = len(score)
    candidates = Candidates(
        np.arange(count), label, score, boxes_xywh, np.ones(count, bool), boxes_xywh, np.zeros(count), on, _report_all
    )
    found = survey(boxes_xywh, objects)
    rank = ranks(candidates)
    reached = [np.isin(np.arange(len(objects)), best_object(fit, least)) for least in (NEAR, FITS)]
    cut = first_cut([BY_NO_BOX, BY_POOR_BOX], reached)
    return ImageProbe(candidates, _unreported(candidates, objects), *candidates_found(rank, found, found), cut, rank)


def _report_all(candidates: Candidates) -> Suppressed:
    """Every prediction, the best first; of equal ones the earlier."""
    order = np.argsort(-candidates.score, kind="stable")
    return Suppressed(np.ones(len(order), bool), order, candidates.score[order], len(order))


def _unreported(candidates: Candidates, objects: ImageObjects) -> Candidates:
    """A certain report of every object that no reported box is on."""
    missing = np.setdiff1d(np.arange(len(objects)), candidates.gt_index)
    boxes = objects.boxes_xywh[missing]
    count = len(missing)
    sure = np.ones(count, candidates.score.dtype)
    return Candidates(
        np.arange(count), objects.labels[missing], sure, boxes, np.ones(count, bool), boxes, np.zeros(count), missing, candidates.suppress
    )
