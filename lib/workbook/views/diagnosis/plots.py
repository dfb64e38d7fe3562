"""The pictures of a diagnosis: the waterfall, what each stage loses, proposals, scores, false positives.

A stage has its colour from `lib/workbook/diagnosis/stages.py`, and a hatch and its name, so that no picture needs colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbook.diagnosis.false_positives import KINDS
from workbook.diagnosis.stages import DETECTED, DETECTED_COLOR
from workbook.diagnosis.store import Kept
from workbook.diagnosis.waterfall import size_ranges
from workbook.views.style import COLORS, MISSING, NOTHING, OUTSIDE, SIZES, new_axes, new_grid

HATCHES = ("///", "...", "xxx", "\\\\\\", "ooo")  # of the stages, in their order
ORDER = ("small", "medium", "large", "all")
TOP = (100, 300, 1000)
GREY = ".55"


def waterfall(kept: Kept, *, sizes: Sequence[str] = ORDER, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """From the AP now to 1: what each stage costs, a panel a size, with 95% intervals (black lines).

    Beside each bar stands its figure and interval; grey and in italics where it is undetermined.
    """
    panels = list(axes) if axes is not None else new_grid(len(sizes), 2, (5.9, 2.75))
    for ax, size in zip(panels, sizes, strict=True):
        _waterfall_of(ax, size, kept)
    return panels


def stages_by_size(kept: Kept, *, ax: Axes | None = None) -> Axes:
    """How many objects of each size each stage loses, and how many are detected."""
    ax = _stacked(ax, kept, kept.trace["size"], list(ORDER[:3]))
    ax.set_title(f"Where the objects are lost, by size (IoU {kept.iou:g}, n = {len(kept.trace)} objects)")
    return ax


def stages_by_class(kept: Kept, *, size: str = "small", most: int = 20, ax: Axes | None = None) -> Axes:
    """The same for the objects of one size by class: the `most` classes that have the most of them."""
    trace = kept.trace if size == "all" else kept.trace[kept.trace["size"] == size]
    classes = list(trace["class"].value_counts().index[:most])
    ax = _stacked(ax, kept, trace["class"], classes)
    left_out = trace["class"].nunique() - len(classes)
    more = f"; {left_out} classes with fewer are not shown" if left_out else ""
    ax.set_title(f"Where the {size} objects are lost, by class (n = {len(trace)}{more})")
    return ax


def candidate_recall(kept: Kept, *, top: Sequence[int] = TOP, ax: Axes | None = None) -> Axes:
    """The share of objects that one of the best 100, 300, 1000 proposals (points', queries' boxes) of their image fits."""
    ax = ax or new_axes(9, 3)
    for number, (limit, hatch) in enumerate(zip(top, HATCHES, strict=False)):
        for place, size in enumerate(ORDER):
            ranks = kept.trace.loc[_of_size(kept.trace, size), "first_rank"]
            if ranks.empty:
                continue
            share = float((ranks <= limit).mean())
            at = place + (number - (len(top) - 1) / 2) * 0.27
            ax.bar(at, share, 0.25, color=COLORS[number], hatch=hatch, edgecolor="white",
                   label=f"best {limit:,}" if size == "all" else None)
            ax.text(at, share, f"{share:.2f}", ha="center", va="bottom", fontsize=8)
    for place, size in enumerate(ORDER):
        if not _of_size(kept.trace, size).any():
            ax.text(place, 0.02, NOTHING, ha="center", fontsize=8.5, **MISSING)
    what = {"candidates": "points' boxes", "queries": "queries' boxes"}.get(kept.stage_names[0], "proposals")
    ax.set(xticks=range(len(ORDER)), ylim=(0, 1.1), ylabel=f"recall at IoU {kept.iou:g}")
    ax.set_xticklabels([f"{size}\nn = {_of_size(kept.trace, size).sum()}" for size in ORDER])
    ax.grid(visible=False, axis="x")
    limited = f"; the detector keeps at most {kept.proposals_kept:,}" if kept.proposals_kept else ""
    ax.set_title(f"Recall of the best {what} of an image, by score{limited}")
    ax.legend(**OUTSIDE)
    return ax


def calibration(kept: Kept, *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """How often a score tells the truth: the precision of the detections in each tenth of the scores, a panel a size.

    Detections are sized by their own box. On the dashed line a score of .7 is true in 7 of 10.
    """
    panels = list(axes) if axes is not None else list(
        plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", sharey=True)[1])
    counted = kept.detections[kept.detections["outcome"].isin(["true", "false"])]
    for ax, size in zip(panels, ORDER[:3], strict=True):
        found = counted[counted["area"].between(*size_ranges()[size])]
        bins = np.minimum((found["score"].to_numpy(dtype=float) * 10).astype(int), 9)
        true = (found["outcome"] == "true").to_numpy()
        for number in np.unique(bins):
            share, count = true[bins == number].mean(), int((bins == number).sum())
            ax.bar((number + 0.5) / 10, share, 0.09, color=SIZES[size][2], hatch=SIZES[size][3], edgecolor="white")
            ax.text((number + 0.5) / 10, share + 0.02, str(count), ha="center", fontsize=7.5)
        if found.empty:
            ax.text(0.5, 0.5, "no detections", ha="center", **MISSING)
        ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        ax.set(xlim=(0, 1), ylim=(0, 1.12), xlabel="score (on the bars: n)")
        ax.set_title(f"{size} (n = {len(found)} detections)")
    panels[0].set_ylabel(f"share of true ones (IoU {kept.iou:g})")
    return panels


def false_positives(kept: Kept, *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """How many false detections of each kind there are, a panel a size, and what the AP would gain without the kind."""
    panels = list(axes) if axes is not None else list(
        plt.subplots(1, 4, figsize=(12.5, 2.9), layout="constrained", sharey=True)[1])
    sizes = kept.figures["false_positives"]["sizes"]
    for ax, size in zip(panels, ORDER, strict=True):
        counts = [sizes[size][kind]["count"] for kind in KINDS]
        ax.barh(range(len(KINDS)), counts, height=0.65, color=SIZES[size][2], hatch=SIZES[size][3], edgecolor="white")
        for row, (count, kind) in enumerate(zip(counts, KINDS, strict=True)):
            gain = sizes[size][kind]["gain"]
            words = f" {count}" + ("" if gain is None or not count else f", AP {gain:+.3f}")
            ax.text(count, row, words, va="center", fontsize=8)
        ax.set(yticks=range(len(KINDS)), yticklabels=list(KINDS), ylim=(len(KINDS) - 0.4, -0.6),
               xlim=(0, 1.75 * max(1, *counts)), xlabel="false detections")
        ax.locator_params(axis="x", nbins=4)
        ax.grid(visible=False, axis="y")
        ax.set_title(f"{size} (n = {sum(counts)})")
    return panels


def stage_styles(kept: Kept) -> dict[str, tuple[str, str]]:
    """Stage → colour and hatch; `detected` is plain green."""
    styles = {s["name"]: (s["color"], hatch) for s, hatch in zip(kept.figures["stages"], HATCHES, strict=True)}
    return {**styles, DETECTED: (DETECTED_COLOR, "")}


def _waterfall_of(ax: Axes, size: str, kept: Kept) -> None:
    figures, intervals, styles = kept.figures["sizes"][size], kept.figures["intervals"][size], stage_styles(kept)
    names = ["AP now", *(step["stage"] for step in figures["steps"])]
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6), xlim=(0, 1))
    ax.set_xlabel("AP (IoU .50 to .95)")
    ax.grid(visible=False, axis="y")
    if figures["ap"] is None:
        ax.text(0.5, (len(names) - 1) / 2, NOTHING, ha="center", **MISSING)
        ax.set_title(f"{size} (n = 0 objects)")
        return
    ap = intervals["ap"]
    ax.set_title(f"{size} (n = {ap['objects']} in {ap['images']} image{'' if ap['images'] == 1 else 's'})")
    ax.barh(0, figures["ap"], height=0.7, color=GREY)
    _figure(ax, 0, figures["ap"], ap, sign="")
    reached = figures["ap"]
    for row, step in enumerate(figures["steps"], start=1):
        color, hatch = styles.get(step["stage"], ("white", "+++"))
        ax.barh(row, step["drop"], left=reached, height=0.7, color=color, hatch=hatch, edgecolor=".25", linewidth=0.4)
        ax.plot([reached, reached], [row - 1, row], color=".4", linewidth=0.7)
        _figure(ax, row, step["drop"], intervals["steps"].get(step["stage"]), left=reached)
        reached = step["ap_after"]


def _figure(ax: Axes, row: int, value: float, interval: Mapping[str, Any] | None, left: float = 0, sign: str = "+") -> None:
    """The interval as a line on the bar's end, and the words right of the axes."""
    words, style = f"{value:{sign}.3f}", {}
    if interval:
        low, high = interval["low"], interval["high"]
        ax.plot([left + low, left + high], [row, row], color="black", linewidth=1.6, marker="|", markersize=7)
        words += f" ({low:.2f} to {high:.2f})"
        if interval["undetermined"] and not low == high == 0:
            style = MISSING
            words += " ?"
    ax.text(1.02, row, words, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5, **style)


def _stacked(ax: Axes | None, kept: Kept, groups: pd.Series, names: Sequence[str]) -> Axes:
    """A bar a group, one piece a stage with its count."""
    ax = ax or new_axes(10.5, 1.3 + 0.42 * max(len(names), 1))
    table = pd.crosstab(groups, kept.trace["stage"].reindex(groups.index))
    longest = max(1, *(int(table.loc[name].sum()) for name in names if name in table.index), 1)
    for stage, (color, hatch) in stage_styles(kept).items():
        counts = [int(table[stage].get(name, 0)) if stage in table else 0 for name in names]
        starts = [int(table.loc[name].reindex(_before(kept, stage)).sum()) if name in table.index else 0
                  for name in names]
        ax.barh(range(len(names)), counts, left=starts, height=0.7, color=color, hatch=hatch, edgecolor="white",
                label=f"{stage} ({sum(counts)})")
        for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
            if count > 0.02 * longest:
                ax.text(start + count / 2, row, str(count), ha="center", va="center", fontsize=8, bbox={
                    "boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85})
    for row, name in enumerate(names):
        if name not in table.index:
            ax.text(0.01 * longest, row, NOTHING, va="center", fontsize=8.5, **MISSING)
    totals = [int(table.loc[name].sum()) if name in table.index else 0 for name in names]
    ax.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6), xlim=(0, longest), xlabel="objects in val")
    ax.set_yticklabels([f"{name} (n = {total})" for name, total in zip(names, totals, strict=True)])
    ax.grid(visible=False, axis="y")
    ax.legend(**OUTSIDE)
    return ax


def _before(kept: Kept, stage: str) -> list[str]:
    names = list(stage_styles(kept))
    return names[: names.index(stage)]


def _of_size(table: pd.DataFrame, size: str) -> pd.Series:
    return table["size"].notna() if size == "all" else table["size"] == size
