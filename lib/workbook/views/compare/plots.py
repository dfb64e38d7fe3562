"""The pictures of the comparison: mAP by size, and mAP against parameters.

Every picture can be read without colour: position, marker, line style or hatch says the same. Where val has no object
of a size or class there is no bar, but the words "no objects".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from workbook.evaluation.comparison import Difference
from workbook.views.compare.tables import labels
from workbook.views.style import COLORS, MARKERS, MISSING, NOTHING, OUTSIDE, SIZES, new_axes, new_grid, span
from workbook.words import counted


def map_by_size(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """bbox_mAP of every run (rows, in the table's order) for all, small, medium and large objects (columns of bars).

    All columns have one scale. A size without objects in val says so; a run without figures says "no figures".
    """
    ax = ax or new_axes(9, 1.4 + 0.32 * len(table))
    values = table[[column for column, *_ in SIZES.values()]].to_numpy(dtype=float)
    widest = float(np.nanmax(values, initial=0)) or 1.0
    step = widest * 1.45  # room for the figure at the bar's end
    rows = np.arange(len(table))
    for number, (size, (column, count, color, hatch)) in enumerate(SIZES.items()):
        left = number * step
        shown = table[column].notna().to_numpy()
        ax.barh(rows[shown], table.loc[shown, column], left=left, height=0.7, color=color, edgecolor="white",
                hatch=hatch, label=size)
        for row, (value, objects) in enumerate(zip(table[column], table[count], strict=True)):
            empty = NOTHING if pd.notna(objects) and objects == 0 else "no figures"
            words, start = (empty, left) if pd.isna(value) else (f"{value:.3f}", left + max(value, 0))
            ax.text(start + 0.03 * widest, row, words, va="center", fontsize=8.5, **(MISSING if pd.isna(value) else {}))
        ax.axvline(left, color=".6", linewidth=0.8)
        ax.text(left, -0.75, f"{size}\nn = {span(table[count])}", va="bottom", fontsize=10.5)
    ax.set(yticks=rows, yticklabels=labels(table), ylim=(len(table) - 0.4, -0.6))
    ax.set(xticks=[], xlim=(0, len(SIZES) * step))
    ax.set_xlabel("bbox_mAP on val at the best epoch (0 to 1, one scale for all columns)", loc="left")
    ax.set_title(f"mAP by object size (n = objects in {span(table['val images'])} val images)", pad=38)
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def map_against_parameters(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """bbox_mAP against the model's parameters in millions: one named point a run, one marker a detector.

    A run that is not done is hollow. Runs without one of the two figures are left out, and the title says which.
    """
    ax = ax or new_axes(8, 4.6)
    there = table["parameters (M)"].notna() & table["val/bbox_mAP"].notna()
    points = table[there]
    for number, (detector, group) in enumerate(points.groupby("Detector", sort=False)):
        for done in (True, False):
            part = group[(group["status"] == "done") == done]
            if part.empty:
                continue
            color = COLORS[number % len(COLORS)]
            ax.scatter(part["parameters (M)"], part["val/bbox_mAP"], marker=MARKERS[number % len(MARKERS)], s=55,
                       zorder=3, facecolor=color if done else "white", edgecolor=color,
                       label=f"{detector}{'' if done else ', not done'}")
    left_out = f"; no figures: Exp {', '.join(map(str, table.loc[~there, 'Exp num']))}" if not there.all() else ""
    ax.set_title(f"mAP against parameters (n = {span(table['val images'])} val images{left_out})")
    ax.set(xlabel="parameters of the whole detector (M)", ylabel="bbox_mAP on val at the best epoch (0 to 1)")
    if len(points):
        ax.set_ylim(0, max(points["val/bbox_mAP"].max() * 1.15, 0.01))
        ax.margins(x=0.15)
        if points["parameters (M)"].max() > 10 * points["parameters (M)"].min():
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        ax.legend(**OUTSIDE)
    name_points(ax, points[["parameters (M)", "val/bbox_mAP"]].to_numpy(dtype=float),
                [f"{row['Exp num']} {row['Backbone']}" for _, row in points.iterrows()])
    return ax


def pairs_by_size(found: Sequence[Difference]) -> list[Axes]:
    """A panel a size: how much higher one setting of each pair scores than the other, with its corrected interval.

    A filled point is a winner, a hollow one is open, or says something of two trainings alone. Where too few images hold such objects
    there is no interval, and the words say so.
    """
    if not found:
        ax = new_axes(6, 1.2)
        ax.text(0.5, 0.5, "no two settings that can be compared", ha="center", va="center", **MISSING)
        ax.set_axis_off()
        return [ax]
    figures = list(dict.fromkeys(each.figure for each in found))
    most = max(sum(each.figure == figure for each in found) for figure in figures)
    panels = new_grid(len(figures), 1, (9, 1.3 + 0.36 * most))
    for ax, figure in zip(panels, figures, strict=True):
        _pairs_of(ax, [each for each in found if each.figure == figure])
    borders = [0.0, *(border for each in found for border in (each.value, each.low, each.high) if border is not None)]
    margin = 0.08 * (max(borders) - min(borders)) or 0.01
    for ax in panels:
        ax.set_xlim(min(borders) - margin, max(borders) + margin)
    return panels


def _pairs_of(ax: Axes, pairs: Sequence[Difference]) -> None:
    """The pairs in one figure."""
    for row, each in enumerate(pairs):
        if each.low is None or each.high is None:
            ax.annotate("too few images", (each.value, row), (8, 0), textcoords="offset points", va="center", fontsize=8.5, **MISSING)
        else:
            ax.hlines(row, each.low, each.high, color=".25", linewidth=1.5)
        ax.plot(each.value, row, marker="o", markersize=7, linestyle="none", markeredgecolor=".25",
                markerfacecolor=COLORS[2] if each.has_winner else "white")
    ax.axvline(0, color=".4", linewidth=0.9)
    ax.set(yticks=range(len(pairs)), yticklabels=[f"{each.higher} less {each.lower}" for each in pairs], ylim=(len(pairs) - 0.5, -0.5))
    ax.set_title(f"{pairs[0].figure}: {counted(pairs[0].objects, 'object')} in {counted(pairs[0].images, 'val image')}")
    ax.set_xlabel("difference of the means over the seeds, with its corrected interval")
    ax.grid(False, axis="y")
    sns.despine(ax=ax, left=True)


def name_points(ax: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Write each name beside its point, over no other name or point where it can; a thin line leads a far one home.

    `points`: (n, 2) in data units. Tries growing distances in eight directions and takes the position that covers least.
    """
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    occupied = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in ax.transData.transform(points)] if len(points) else []
    directions = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
    for point, name in zip(points, names, strict=True):
        tried: list[tuple[int, Annotation]] = []
        for distance, (across, up) in product((8, 20, 34, 50, 70, 95), directions):
            note = ax.annotate(
                name, (point[0], point[1]), (across * distance, up * distance), textcoords="offset points",
                fontsize=8.5, ha=("center", "left", "right")[across], va=("center", "bottom", "top")[up],
                arrowprops={"arrowstyle": "-", "color": ".6", "linewidth": 0.7} if distance > 8 else None)
            note.get_window_extent()  # positions it; what it returns holds the line too
            box = Text.get_window_extent(note)
            inside = ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1
            tried.append((box.count_overlaps(occupied) + 10 * (not inside), note))
            if tried[-1][0] == 0:
                break
        _, best = min(tried, key=lambda covered_note: covered_note[0])
        for _, note in tried:
            if note is not best:
                note.remove()
        occupied.append(Text.get_window_extent(best))
