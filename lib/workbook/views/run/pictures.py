"""Photos with boxes drawn on them: what was to be found and what a run found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import mmcv
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbook.data.images import image_path
from workbook.data.reading import is_crowd, read_coco
from workbook.files import read_json
from workbook.runs.data import run_config
from workbook.runs.folder import Run

# white on black under a thinner colour: seen on any photo, and told apart by width and dash alone
GT_STYLE: dict[str, Any] = {"edgecolor": "white", "linewidth": 2.6, "linestyle": "-"}
PRED_STYLE: dict[str, Any] = {"edgecolor": "#ff7f0e", "linewidth": 1.3, "linestyle": "--"}


def detections(run: Run, *, images: int = 4) -> Figure:
    """The `images` val photos with the most objects: truth (solid white) and as many detections, best scores first (dashed orange)."""
    val = run_config(run).data.val
    truth = read_coco(Path(val.ann_file))
    gt_by_image = _by_image(a for a in truth["annotations"] if not is_crowd(a))
    pred_by_image = _by_image(sorted(read_json(run.folder / "predictions.json"), key=lambda d: -d["score"]))
    fullest = sorted(truth["images"], key=lambda image: (-len(gt_by_image[image["id"]]), image["id"]))[:images]
    columns = min(2, len(fullest))
    figure, axes = plt.subplots(-(-len(fullest) // columns), columns, squeeze=False, layout="constrained",
                                figsize=(5.2 * columns, 5.4 * -(-len(fullest) // columns)))
    for ax in axes.flat[len(fullest):]:
        ax.axis("off")
    for ax, image in zip(axes.flat, fullest, strict=False):
        gt, pred = gt_by_image[image["id"]], pred_by_image[image["id"]]
        shown = pred[: len(gt)]
        photo(ax, image_path(Path(val.img_prefix), image["file_name"]))
        draw_boxes(ax, (a["bbox"] for a in gt), GT_STYLE)
        draw_boxes(ax, (d["bbox"] for d in shown), PRED_STYLE)
        lowest = f", scores from {shown[-1]['score']:.2f}" if shown else ""
        ax.set_title(f"{image['file_name']}\n{len(gt)} objects (solid), {len(shown)} of {len(pred)} detections (dashed{lowest})",
                     fontsize=8.5)
    return figure


def photo(ax: Axes, path: Path) -> None:
    """Show the photo as the detector loads it (EXIF rotation applied), without ticks; axes are pixels."""
    ax.imshow(mmcv.imread(str(path), channel_order="rgb"))
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def draw_boxes(ax: Axes, boxes_xywh: Iterable[list[float]], style: dict[str, Any]) -> None:
    """Outline boxes (x, y, width, height in pixels) over a dark rim, so that they show on light and dark ground."""
    outlines = [Rectangle((x, y), width, height) for x, y, width, height in boxes_xywh]
    for look in ({"edgecolor": "black", "linewidth": style["linewidth"] + 1.4, "alpha": 0.6}, style):
        ax.add_collection(PatchCollection(outlines, facecolor="none", **look), autolim=False)


def _by_image(entries: Iterable[Any]) -> dict[int, list[Any]]:
    """Image id → its annotations, or its detections."""
    grouped: dict[int, list[Any]] = defaultdict(list)
    for entry in entries:
        grouped[entry["image_id"]].append(entry)
    return grouped
