"""Contact sheets of a diagnosis: the missed objects and the suspect labels, each as a crop of its photo."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbook.data.images import image_path
from workbook.diagnosis.store import SavedDiagnosis
from workbook.views.fonts import isolated
from workbook.views.run.pictures import GT_STYLE, PRED_STYLE, draw_boxes, photo
from workbook.views.style import MISSING

COLUMNS = 6
CONTEXT, LEAST_SIDE = 3.0, 64.0  # a crop's side: times the object's longer side, and at least so many pixels


def missed_objects(diagnosis: SavedDiagnosis, *, size: str = "small", most: int = 24) -> Figure:
    """Missed objects with their surroundings: truth solid white, what came nearest to finding it dashed orange.

    A turn goes to each stage that loses objects, the one whose candidate came least near first, so that every stage is seen.
    """
    objects = diagnosis.objects(size)
    objects = objects[~objects["detected"]]
    what = "objects" if size == "all" else f"{size} objects"
    if objects.empty:
        return _nothing(f"no {what} are missed")
    chosen = _in_turns(objects, diagnosis.stage_names, most)
    figure, panels = _sheet(len(chosen))
    for ax, (_, row) in zip(panels, chosen.iterrows(), strict=False):
        in_image = diagnosis.trace[diagnosis.trace["image_id"] == row["image_id"]]
        others = in_image[in_image["annotation_id"] != row["annotation_id"]]
        crop(ax, diagnosis, row["file_name"], row["bbox"])
        draw_boxes(ax, others["bbox"], {**GT_STYLE, "linewidth": 0.7, "alpha": 0.8})
        draw_boxes(ax, [row["bbox"]], GT_STYLE)
        if row["best_bbox"] is not None:
            draw_boxes(ax, [row["best_bbox"]], PRED_STYLE)
        ax.set_title(f"{isolated(row['class'])} {row['annotation_id']}\n{_why(row, diagnosis)}", fontsize=8)
    figure.suptitle(f"{len(chosen)} of {len(objects)} missed {what}: truth solid white (its neighbours thin), what came nearest "
                    "dashed orange", x=0.01, ha="left", fontsize=10.5)
    return figure


def suspect_labels(diagnosis: SavedDiagnosis, suspects: pd.DataFrame, *, most: int = 12) -> Figure:
    """The suspects of `views.diagnosis.tables.suspects` on their photos: where a label may be missing or wrong."""
    if suspects.empty:
        return _nothing("no suspect labels")
    chosen = suspects.head(most)
    figure, panels = _sheet(len(chosen))
    for ax, (_, row) in zip(panels, chosen.iterrows(), strict=False):
        crop(ax, diagnosis, row["file_name"], row["bbox"])
        draw_boxes(ax, diagnosis.trace.loc[diagnosis.trace["file_name"] == row["file_name"], "bbox"], {**GT_STYLE, "linewidth": 1.0})
        draw_boxes(ax, [row["bbox"]], PRED_STYLE | {"linewidth": 1.8})
        label = f"labelled {isolated(row['label'])}" if row["label"] else "nothing labelled"
        ax.set_title(f"{isolated(row['says'])} {row['score']:.2f}\n{label}", fontsize=8)
    figure.suptitle(f"The {len(chosen)} surest of {len(suspects)} suspects: dashed orange what is doubted, white the labels",
                    x=0.01, ha="left", fontsize=10.5)
    return figure


def crop(ax: Axes, diagnosis: SavedDiagnosis, file_name: str, box_xywh: Sequence[float]) -> None:
    """Show the photo around a box (pixels of the original image); what lies outside the photo stays grey."""
    photo(ax, image_path(diagnosis.images_dir, file_name))
    x, y, width, height = box_xywh
    half = max(CONTEXT * max(width, height), LEAST_SIDE) / 2
    ax.set(xlim=(x + width / 2 - half, x + width / 2 + half), ylim=(y + height / 2 + half, y + height / 2 - half))
    ax.set_facecolor(".85")


def _in_turns(objects: pd.DataFrame, stages: Sequence[str], most: int) -> pd.DataFrame:
    ordered = objects.sort_values("candidate_iou", kind="stable")
    turn = ordered.groupby("stage").cumcount()
    place = ordered["stage"].map({stage: number for number, stage in enumerate(stages)})
    chosen = ordered.iloc[np.lexsort((place, turn))[:most]]
    return chosen.iloc[np.argsort(chosen["stage"].map({stage: n for n, stage in enumerate(stages)}), kind="stable")]


def _why(row: pd.Series, diagnosis: SavedDiagnosis) -> str:
    """The stage, and the one figure that shows why."""
    captions = {part.name: part.caption for part in diagnosis.family.parts}
    return f"{row['stage']}: {captions[row['stage']](row)}"


def _sheet(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained", figsize=(12, 0.5 + 2.45 * rows))
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, list(axes.flat)


def _nothing(words: str) -> Figure:
    figure, ax = plt.subplots(figsize=(6, 1))
    ax.axis("off")
    ax.text(0, 0.5, words, fontsize=10, **MISSING)
    return figure
