"""The tables of a diagnosis: the hardest images, labels that may be wrong, and two runs side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbook.diagnosis.false_positives import KINDS
from workbook.diagnosis.intervals import paired
from workbook.diagnosis.store import Kept
from workbook.diagnosis.suspects import NO_LABEL, OTHER_CLASS, Suspects, find_suspects
from workbook.errors import RunError

SUSPECT_COLUMNS = ("file_name", "why", "score", "says", "label", "annotation_id", "bbox")


def hardest_images(kept: Kept, size: str = "small", most: int = 10) -> pd.DataFrame:
    """The images in which the most objects of this size are missed: a row an image, a column a stage."""
    objects = kept.trace if size == "all" else kept.trace[kept.trace["size"] == size]
    if objects.empty:
        return pd.DataFrame(columns=["objects", "missed", *kept.stage_names])
    table = objects.groupby("file_name").agg(objects=("detected", "size"), missed=("detected", lambda found: int((~found).sum())))
    by_stage = pd.crosstab(objects["file_name"], objects["stage"]).reindex(columns=kept.stage_names, fill_value=0)
    sure = _suspects(kept).sure
    false = kept.detections[(kept.detections["outcome"] == "false") & (kept.detections["score"] >= sure)]
    table = table.join(by_stage)
    table[f"false positives from {sure:.2f}"] = false["file_name"].value_counts().reindex(table.index, fill_value=0)
    return table.sort_values(["missed", "objects"], ascending=False, kind="stable").head(most).rename_axis("image")


def suspects(kept: Kept, most: int = 24) -> pd.DataFrame:
    """Labels to look at, the surest first: sure detections where nothing is labelled, and objects surely named another class.

    Which these are says `workbook.diagnosis.suspects`.
    """
    found = _suspects(kept)
    far, other = kept.detections[found.unlabelled], kept.trace[found.mislabelled]
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


def _suspects(kept: Kept) -> Suspects:
    return find_suspects(kept.trace, *(kept.detections[column].to_numpy() for column in ("score", "outcome", "kind")))


def differences(kept: Kept, other: Kept) -> pd.DataFrame:
    """AP of both runs by size, and the paired difference (other less this) with its interval.

    Raises RunError unless both were validated on the same images with the same truth.
    """
    require_same_val(kept, other)
    found = paired(kept.truth, _results(kept), _results(other))
    rows = {}
    for size, interval in found.items():
        rows[size] = {
            kept.run.name: kept.figures["sizes"][size]["ap"], other.run.name: other.figures["sizes"][size]["ap"],
            "difference": interval.value, "low": interval.low, "high": interval.high,
            "undetermined": interval.undetermined, "objects": interval.objects, "images": interval.images,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("size")


def require_same_val(kept: Kept, other: Kept) -> None:
    """Raises RunError, which says what differs, unless both runs have the same val images and objects."""
    mine, its = _identity(kept.truth), _identity(other.truth)
    if mine == its:
        return
    only = [len(mine[0] - its[0]), len(its[0] - mine[0])]
    what = (f"{only[0]} val images are in the first only and {only[1]} in the second only" if any(only) else
            f"the images are the same, but {len(mine[1] ^ its[1])} labels are not")
    raise RunError(f"{kept.run.name} and {other.run.name} cannot be set side by side: {what}. "
                   "Give two runs on the same dataset, with the same split; `workbook list` shows the dataset of each")


def kinds() -> pd.DataFrame:
    """The kinds of false positives in words."""
    return pd.DataFrame({"what it is": KINDS}).rename_axis("kind")


def _results(kept: Kept) -> list[dict[str, Any]]:
    """The detections as COCO results."""
    table = kept.detections[["image_id", "category_id", "bbox", "score"]]
    rows: list[dict[Any, Any]] = table.to_dict("records")
    return [{**row, "bbox": np.asarray(row["bbox"]).tolist()} for row in rows]


def _identity(truth: dict[str, Any]) -> tuple[set[Any], set[Any]]:
    names = {category["id"]: category["name"] for category in truth["categories"]}
    images = {(image["id"], image["file_name"]) for image in truth["images"]}
    labels = {(a["image_id"], names[a["category_id"]], tuple(a["bbox"]), a.get("iscrowd", 0)) for a in truth["annotations"]}
    return images, labels
