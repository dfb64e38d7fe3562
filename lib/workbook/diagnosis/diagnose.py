"""The whole diagnosis of a detector in one call: the trace, the waterfall, the false positives, what can be assigned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.data.reading import of_classes
from workbook.diagnosis.assignable import assignable
from workbook.diagnosis.false_positives import FalsePositiveGains, classify, gains
from workbook.diagnosis.family import Family, ModelFamily, family_of
from workbook.diagnosis.follow import ObjectTrace, follow
from workbook.diagnosis.oracle import ImageObjects, Replay
from workbook.diagnosis.stage import Stage
from workbook.diagnosis.trace import build_trace, standing
from workbook.diagnosis.views import probe_views
from workbook.diagnosis.waterfall import REAL, Subset, Waterfall, detections_of, replays, waterfall
from workbook.evaluation.bootstrap import RESAMPLES
from workbook.evaluation.boxes import iou_pairs
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.evaluation.matching import Matches, match
from workbook.evaluation.sizes import ALL, AREA_RANGES, SIZES
from workbook.models.assigners import UnknownAssignerError
from workbook.progress import progress_bar
from workbook.training.loader import as_batch, to_device

TRUE, FALSE, EXCUSED, UNCOUNTED = "true", "false", "excused", "uncounted"
DETECTION_COLUMNS: dict[str, str] = {
    "image_id": "its image's id", "file_name": "its image's file",
    "category_id": "its class, by id", "class": "its class", "bbox": "x, y, width, height in pixels of the original image",
    "area": "of its box, pixels²", "score": "0 to 1",
    "outcome": "true, false, excused (inside a crowd) or uncounted (beyond 100 of its class and image), as COCO matches",
    "kind": "of a false one: see false_positives.FALSE_KINDS; else empty",
    "annotation_id": "of a true one the object that it found, of a false one the object that it overlaps most, if any",
    "iou": "with that object",
}


@dataclass(frozen=True)
class ImageDiagnosis:
    """One image: what the inside of the detector says of each object, and what every subset of oracles reports."""

    facts: tuple[ObjectTrace, ...]
    detections: Mapping[Subset, Detections]


@dataclass(frozen=True)
class Diagnosis:
    """Why objects are missed."""

    family: Family
    iou: float  # from here on a box fits, in the trace and for the kinds of false positives
    trace: pd.DataFrame  # one row an object of val, see trace.COLUMNS, with what can be assigned
    detections: pd.DataFrame  # one row a detection of the real detector, see DETECTION_COLUMNS
    waterfall: Waterfall
    false_positives: FalsePositiveGains
    assignable: pd.DataFrame | None  # one row an object of train and val, see assignable.COLUMNS, and `subset`
    why_not_assignable: str = ""


def diagnose(
    model: nn.Module, val: OrderedCocoDataset, train: OrderedCocoDataset | None = None, *, iou: float = 0.5,
    resamples: int = RESAMPLES,
) -> Diagnosis:
    """Follow every object of `val` through the detector. `train` adds what its training can never assign.

    iou: from here on a box fits, in the trace and for the kinds of false positives; AP is COCO's.
    """
    family = family_of(model)
    coco = of_classes(val.coco.dataset, val.CLASSES)
    gt = GroundTruth.from_coco(coco)
    device = next(model.parameters()).device
    images: list[ImageDiagnosis] = []
    with progress_bar(len(val), "diagnosing", "image") as bar:
        for index in range(len(val)):
            rows = gt.of_image[np.searchsorted(gt.image_ids, val.img_ids[index])]
            batch = to_device(as_batch([val.with_truth(index)]), device)
            images.append(_diagnose_image(family, model, batch, objects_of(gt, rows, val), val, index, iou))
            bar.update()
    tables, why_not = _assignable_tables(family, model, {"train": train, "val": val})
    return summarize(family, coco, gt, images, val.img_ids, iou, tables, why_not, resamples)


def _diagnose_image(
    family: ModelFamily, model: nn.Module, batch: dict[str, Any], objects: ImageObjects, val: OrderedCocoDataset, index: int,
    iou: float,
) -> ImageDiagnosis:
    probe = probe_views(family, model, batch, objects, val, index)
    facts = tuple(follow(probe, objects, tuple(val.CLASSES), iou))
    real = Replay(objects, probe.candidates, probe.oracle_candidates)
    return ImageDiagnosis(facts, replayed(real, family.stages, val.img_ids[index], np.array(val.cat_ids)))


def replayed(real: Replay, stages: Sequence[Stage], image_id: int, category_ids: np.ndarray) -> dict[Subset, Detections]:
    """What every subset of oracles reports of one image. category_ids: by label."""
    by_replay: dict[int, Detections] = {}  # an oracle that changes nothing hands its replay on
    found = {}
    for subset, replay in replays(real, stages).items():
        if id(replay) not in by_replay:
            by_replay[id(replay)] = detections_of(image_id, replay, category_ids)
        found[subset] = by_replay[id(replay)]
    return found


def objects_of(gt: GroundTruth, rows: np.ndarray, dataset: OrderedCocoDataset) -> ImageObjects:
    """These objects of one image, labels as the dataset numbers its classes."""
    labels = np.array([dataset.cat2label[id_] for id_ in gt.category_ids[gt.label[rows]].tolist()], int)
    return ImageObjects(gt.ids[rows], labels, gt.boxes_xywh[rows])


def summarize(
    family: Family, coco: Mapping[str, Any], gt: GroundTruth, images: Sequence[ImageDiagnosis], image_ids: Sequence[int],
    iou: float, tables: pd.DataFrame | None, why_not: str = "", resamples: int = RESAMPLES,
) -> Diagnosis:
    """The diagnosis from that of every image: COCO's matching, the costs of the stages, the false positives.

    coco, gt: the same ground truth as a dict and as columns. image_ids: of `images`. tables: see `Diagnosis.assignable`.
    """
    detections = {
        subset: Detections.concatenate([image.detections[subset] for image in images]) for subset in _subsets(family)
    }
    real = detections[REAL]
    at_iou = {subset: match(gt, detections[subset], _areas(), np.array([iou])) for subset in _alone(family)}
    order = np.searchsorted(gt.image_ids, np.array(image_ids))
    rows = np.concatenate([gt.of_image[image] for image in order]) if len(order) else np.zeros(0, int)
    counts = np.array([len(image.detections[REAL]) for image in images], int)
    first = np.repeat(np.cumsum(counts) - counts, [len(gt.of_image[image]) for image in order])
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    trace = build_trace(
        [fact for image in images for fact in image.facts], rows, first, gt,
        [names[id_] for id_ in gt.image_ids.tolist()], real, at_iou[REAL], family.parts,
    )
    trace["recovered_by"] = _recovered_by(trace["detected"].to_numpy(bool), rows, gt, at_iou, family)
    false = classify(coco, real, iou)
    return Diagnosis(
        family=family, iou=iou, trace=_with_assignable(trace, tables),
        detections=detection_table(gt, names, real, at_iou[REAL], false),
        waterfall=waterfall(gt, detections, family.parts, resamples),
        false_positives=gains(coco, real, false),
        assignable=tables, why_not_assignable=why_not,
    )


def _subsets(family: Family) -> list[Subset]:
    found: list[Subset] = [REAL]
    for stage in family.stages:
        found += [subset | {stage.name} for subset in found]
    return found


def _alone(family: Family) -> list[Subset]:
    """The real detector, and each stage perfect alone."""
    return [REAL, *(frozenset({stage.name}) for stage in family.stages)]


def _areas() -> dict[str, tuple[float, float]]:
    return {size: AREA_RANGES[size] for size in SIZES}


def _recovered_by(
    found: np.ndarray, rows: np.ndarray, gt: GroundTruth, at_iou: Mapping[Subset, Matches], family: Family
) -> list[str | None]:
    """Per object the stages that alone recover it, separated by commas; None when it is found, or none alone does."""
    names: list[list[str]] = [[] for _ in rows]
    for stage in family.stages:
        by = standing(at_iou[frozenset({stage.name})], ALL, len(gt.ids)).found_by[rows]
        for row in np.flatnonzero((by >= 0) & ~found):
            names[row].append(stage.name)
    return [", ".join(stages) or None for stages in names]


def detection_table(
    gt: GroundTruth, file_names: Mapping[int, str], detections: Detections, matches: Matches, false: pd.DataFrame
) -> pd.DataFrame:
    """Every detection with what COCO's matching says of it, columns as in DETECTION_COLUMNS. false: of `classify`."""
    area = list(matches.areas).index(ALL)
    outcome = np.full(len(detections), UNCOUNTED, dtype=object)
    outcome[matches.row] = FALSE
    taken = np.full(len(detections), -1)
    by = matches.row[matches.candidates]
    taken[by] = matches.taken_truth[:, 0, area]
    outcome[by[matches.taken_truth[:, 0, area] >= 0]] = EXCUSED
    outcome[by[matches.hit[:, 0, area]]] = TRUE
    found = outcome == TRUE
    names = dict(zip(gt.category_ids.tolist(), gt.classes, strict=True))
    table = pd.DataFrame({"image_id": detections.image_id, "category_id": detections.category_id, "score": detections.score})
    table["bbox"] = detections.boxes_xywh.tolist()
    table["area"] = detections.area
    table["file_name"] = table["image_id"].map(file_names)
    table["class"] = table["category_id"].map(names)
    table["outcome"] = outcome
    of_false = false.set_index("row")
    table["kind"] = of_false["kind"].reindex(table.index).where(outcome == FALSE).fillna("")
    table["annotation_id"] = of_false["annotation_id"].reindex(table.index).astype("Int64")
    table["iou"] = of_false["iou"].reindex(table.index).astype(float)
    table.loc[found, "annotation_id"] = gt.ids[taken[found]]
    table.loc[found, "iou"] = iou_pairs(detections.boxes_xywh[found], gt.boxes_xywh[taken[found]])
    return table[list(DETECTION_COLUMNS)]


def _assignable_tables(
    family: ModelFamily, model: nn.Module, datasets: Mapping[str, OrderedCocoDataset | None]
) -> tuple[pd.DataFrame | None, str]:
    """The tables of train and val in one, or None and why it cannot be made."""
    try:
        parts = [assignable(family, model, one).assign(subset=name) for name, one in datasets.items() if one is not None]
    except UnknownAssignerError as error:
        return None, str(error)
    return pd.concat(parts, ignore_index=True), ""


def _with_assignable(trace: pd.DataFrame, tables: pd.DataFrame | None) -> pd.DataFrame:
    """The trace with the columns that the table of val adds."""
    if tables is None:
        return trace
    known = [name for name in tables if name not in trace or name == "annotation_id"]
    of_val = tables.loc[tables["subset"] == "val", known].drop(columns="subset")
    return trace.merge(of_val, on="annotation_id", how="left", validate="one_to_one")
