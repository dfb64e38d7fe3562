"""The tables of a diagnosis: the hardest images, labels that may be wrong, and two runs side by side."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbook.diagnosis.false_positives import FALSE_KINDS
from workbook.diagnosis.store import SavedDiagnosis
from workbook.diagnosis.suspects import NO_LABEL, OTHER_CLASS, Suspects, find_suspects
from workbook.errors import RunError
from workbook.evaluation.bootstrap import bootstrap
from workbook.evaluation.columns import GroundTruth
from workbook.evaluation.comparison import Difference, compare
from workbook.evaluation.matching import match

SUSPECT_COLUMNS = ("file_name", "why", "score", "says", "label", "annotation_id", "bbox")


def hardest_images(diagnosis: SavedDiagnosis, size: str = "small", most: int = 10) -> pd.DataFrame:
    """The images in which the most objects of this size are missed: a row an image, a column a stage."""
    objects = diagnosis.objects(size)
    if objects.empty:
        return pd.DataFrame(columns=["objects", "missed", *diagnosis.stage_names])
    table = objects.groupby("file_name").agg(objects=("detected", "size"), missed=("detected", lambda found: int((~found).sum())))
    by_stage = pd.crosstab(objects["file_name"], objects["stage"]).reindex(columns=diagnosis.stage_names, fill_value=0)
    sure = _suspects(diagnosis).sure
    false = diagnosis.detections[(diagnosis.detections["outcome"] == "false") & (diagnosis.detections["score"] >= sure)]
    table = table.join(by_stage)
    table[f"false positives from {sure:.2f}"] = false["file_name"].value_counts().reindex(table.index, fill_value=0)
    return table.sort_values(["missed", "objects"], ascending=False, kind="stable").head(most).rename_axis("image")


def suspects(diagnosis: SavedDiagnosis, most: int = 24) -> pd.DataFrame:
    """Labels to look at, the surest first: sure detections where nothing is labelled, and objects surely named another class.

    Which these are says `workbook.diagnosis.suspects`.
    """
    found = _suspects(diagnosis)
    far, other = diagnosis.detections[found.unlabelled], diagnosis.trace[found.mislabelled]
    missing = pd.DataFrame({
        "file_name": far["file_name"], "why": NO_LABEL, "score": far["score"], "says": far["class"], "label": "",
        "annotation_id": pd.array([None] * len(far), dtype="Int64"), "bbox": far["bbox"],
    })
    wrong = pd.DataFrame({
        "file_name": other["file_name"], "why": OTHER_CLASS, "score": other["named_score"], "says": other["named_class"],
        "label": other["class"], "annotation_id": other["annotation_id"].astype("Int64"), "bbox": other["bbox"],
    })
    both = pd.concat([part for part in (missing, wrong) if len(part)] or [missing])
    return both.sort_values("score", ascending=False, kind="stable").head(most).reset_index(drop=True)[list(SUSPECT_COLUMNS)]


def _suspects(diagnosis: SavedDiagnosis) -> Suspects:
    return find_suspects(diagnosis.trace, diagnosis.detections)


def differences(diagnosis: SavedDiagnosis, other: SavedDiagnosis) -> list[Difference]:
    """How the AP of the two trainings differs, size by size, corrected for all sizes together.

    Raises RunError unless both were validated on the same images with the same objects.
    """
    require_same_val(diagnosis, other)
    gt = GroundTruth.from_coco(diagnosis.ground_truth)
    return compare({one.run.name: [bootstrap(match(gt, one.results))] for one in (diagnosis, other)})


def require_same_val(diagnosis: SavedDiagnosis, other: SavedDiagnosis) -> None:
    """Raises RunError, which says what differs, unless both runs have the same val images and objects."""
    mine, its = _identity(diagnosis.ground_truth), _identity(other.ground_truth)
    if mine == its:
        return
    only = [len(mine[0] - its[0]), len(its[0] - mine[0])]
    what = (f"{only[0]} val images are in the first only and {only[1]} in the second only" if any(only) else
            f"the images are the same, but {len(mine[1] ^ its[1])} labels are not")
    raise RunError(f"{diagnosis.run.name} and {other.run.name} cannot be set side by side: {what}. "
                   "Give two runs on the same dataset, with the same split; `workbook list` shows the dataset of each")


def kinds() -> pd.DataFrame:
    """The kinds of false positives in words."""
    return pd.DataFrame({"what it is": FALSE_KINDS}).rename_axis("kind")


def _identity(truth: dict[str, Any]) -> tuple[set[Any], set[Any]]:
    names = {category["id"]: category["name"] for category in truth["categories"]}
    images = {(image["id"], image["file_name"]) for image in truth["images"]}
    labels = {(a["image_id"], names[a["category_id"]], tuple(a["bbox"]), a.get("iscrowd", 0)) for a in truth["annotations"]}
    return images, labels
