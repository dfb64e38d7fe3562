"""The pictures of the comparison: mAP by size, curves side by side, mAP against parameters, AP per class.

Every picture can be read without colour: position, marker, line style or hatch says the same. Where val has no object
of a size or class there is no bar, but the words "no objects".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.ticker import MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from workbook.runs.folder import Run
from workbook.views.compare.tables import by_start, comparison, labels

_BRIGHT = [color for number, color in enumerate(sns.color_palette("colorblind")) if number != 8]  # no yellow on white
COLORS = [*_BRIGHT, *((red * 0.55, green * 0.55, blue * 0.55) for red, green, blue in _BRIGHT)]
MARKERS = "os^DvPX<>hpd"
LINES = ("-", "--", "-.", ":")
# size → (column of its mAP, column of its number of objects, colour, hatch)
SIZES = {
    "all": ("val/bbox_mAP", "objects in val", COLORS[7], ""),
    "small": ("val/bbox_mAP_s", "small objects in val", COLORS[0], "///"),
    "medium": ("val/bbox_mAP_m", "medium objects in val", COLORS[1], "..."),
    "large": ("val/bbox_mAP_l", "large objects in val", COLORS[2], "xxx"),
}
NOTHING = "no objects"
MISSING: dict[str, Any] = {"style": "italic", "color": ".35"}  # how words stand where a figure would
OUTSIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0, "frameon": False}


def use_theme() -> None:
    """Set the look of all following figures."""
    sns.set_theme(style="whitegrid", palette="colorblind", rc={
        "figure.dpi": 110, "savefig.dpi": 150, "hatch.linewidth": 0.6, "axes.titlesize": 11,
        "axes.titlelocation": "left", "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9,
        "legend.fontsize": 9, "axes.edgecolor": ".7", "axes.linewidth": 0.8, "grid.color": ".9", "grid.linewidth": 0.8,
        "figure.constrained_layout.w_pad": 0.1, "text.parse_math": False,  # a $ in a name is a $
    })


def map_by_size(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """bbox_mAP of every run (rows, in the table's order) for all, small, medium and large objects (columns of bars).

    All columns have one scale. A size without objects in val says so; a run without figures says "no figures".
    """
    ax = ax or _new_axes(9, 1.4 + 0.32 * len(table))
    values = table[[column for column, *_ in SIZES.values()]].to_numpy(dtype=float)
    widest = float(np.nanmax(values, initial=0)) or 1.0
    step = widest * 1.45  # room for the figure at the bar's end
    rows = np.arange(len(table))
    for place, (size, (column, count, color, hatch)) in enumerate(SIZES.items()):
        left = place * step
        shown = table[column].notna().to_numpy()
        ax.barh(rows[shown], table.loc[shown, column], left=left, height=0.7, color=color, edgecolor="white",
                hatch=hatch, label=size)
        for row, (value, objects) in enumerate(zip(table[column], table[count], strict=True)):
            empty = NOTHING if pd.notna(objects) and objects == 0 else "no figures"
            words, start = (empty, left) if pd.isna(value) else (f"{value:.3f}", left + max(value, 0))
            ax.text(start + 0.03 * widest, row, words, va="center", fontsize=8.5, **(MISSING if pd.isna(value) else {}))
        ax.axvline(left, color=".6", linewidth=0.8)
        ax.text(left, -0.75, f"{size}\nn = {_span(table[count])}", va="bottom", fontsize=9.5, weight="bold")
    ax.set(yticks=rows, yticklabels=labels(table), ylim=(len(table) - 0.4, -0.6))
    ax.set(xticks=[], xlim=(0, len(SIZES) * step))
    ax.set_xlabel("bbox_mAP on val at the best epoch (0 to 1, one scale for all columns)", loc="left")
    ax.set_title(f"mAP by object size (n = objects in {_span(table['val images'])} val images)", pad=38)
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def curves(runs: Sequence[Run], *, keys: Sequence[str] = ("bbox_mAP", "loss"),
           axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Val curves side by side: one panel a key of the log, one line a run, the best epoch (by bbox_mAP) ringed.

    With one run the train line of the same key is drawn too. A run without val lines keeps its place in the legend.
    Raises ValueError for a key that no run has logged, listing those there are.
    """
    runs, table = by_start(runs), comparison(runs)
    logs = [_numbers(run.log()) for run in runs]
    known = sorted({key for log in logs for key in log.columns} - {"mode", "epoch", "step", "seconds"})
    if known and (unknown := [key for key in keys if key not in known]):
        raise ValueError(f"no run has logged {', '.join(unknown)}: its log has {', '.join(known)}")
    panels = list(axes) if axes is not None else _new_panels(len(keys), len(runs))
    for ax, key in zip(panels, keys, strict=True):
        for number, (log, name) in enumerate(zip(logs, labels(table), strict=True)):
            _curve(ax, log, key, name, number, with_train=len(runs) == 1)
        if not any(len(line.get_xdata()) for line in ax.lines):  # type: ignore[arg-type]
            measured = any((log["mode"] == "val").any() for log in logs)
            words = NOTHING if measured and key.startswith("bbox_mAP") else "no figures"
            ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", **MISSING)
        ax.set(xlabel="epoch (ring: the best one, by bbox_mAP)", ylabel=_meaning(key, table))
        ax.set_title(f"{key} on val (n = {_span(table['val images'])} images)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlim(0, max((log["epoch"].max() for log in logs if len(log)), default=1) + 0.5)
        if key.startswith("bbox_mAP"):
            ax.set_ylim(bottom=0)
    panels[-1].legend(**OUTSIDE, handlelength=3.2)
    return panels


def learning_rate(run: Run, *, ax: Axes | None = None) -> Axes:
    """The learning rate of a run over its training steps, log scale; warm-up and drops show as they were."""
    ax = ax or _new_axes(7, 3)
    log = _numbers(run.log())
    train = log[log["mode"] == "train"].dropna(subset=["lr"]).sort_values("step") if "lr" in log else log
    if len(train):
        ax.plot(train["step"], train["lr"], color=COLORS[0], marker="o", markersize=3)
    ax.set(xlabel="training step", ylabel="learning rate (log scale)", yscale="log")
    ax.yaxis.set_major_formatter("{x:.3g}")  # the default writes formulas, which the theme leaves as they are
    ax.yaxis.set_minor_formatter("{x:.3g}" if len(train) and train["lr"].max() < 10 * train["lr"].min() else NullFormatter())
    ax.set_title(f"Learning rate (n = {len(train)} logged steps)\n{run.name}")
    return ax


def map_against_parameters(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """bbox_mAP against the model's parameters in millions: one named point a run, one marker a detector.

    A run that is not done is hollow. Runs without one of the two figures are left out, and the title says which.
    """
    ax = ax or _new_axes(8, 4.6)
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
    ax.set_title(f"mAP against parameters (n = {_span(table['val images'])} val images{left_out})")
    ax.set(xlabel="parameters of the whole detector (M)", ylabel="bbox_mAP on val at the best epoch (0 to 1)")
    if len(points):
        ax.set_ylim(0, max(points["val/bbox_mAP"].max() * 1.15, 0.01))
        ax.margins(x=0.15)
        if points["parameters (M)"].max() > 10 * points["parameters (M)"].min():
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
        ax.legend(**OUTSIDE)
    _name_points(ax, points[["parameters (M)", "val/bbox_mAP"]].to_numpy(dtype=float),
                 [f"{row['Exp num']} {row['Backbone']}" for _, row in points.iterrows()])
    return ax


def per_class(run: Run, *, ax: Axes | None = None) -> Axes:
    """AP (bar) and AP50 (diamond) of every class at the best epoch, with n = its objects in val, most objects first."""
    classes = pd.DataFrame.from_dict(run.metrics()["per_class"], orient="index")
    classes = classes.sort_values("truths", ascending=False, kind="stable")
    ax = ax or _new_axes(8, 1.2 + 0.3 * len(classes))
    ap, ap_50 = (pd.to_numeric(classes[key]).to_numpy(dtype=float) for key in ("bbox_mAP", "bbox_mAP_50"))
    rows, shown = np.arange(len(classes)), np.isfinite(ap)
    ax.barh(rows[shown], ap[shown], height=0.65, color=COLORS[0], label="AP .50:.95")
    ax.plot(ap_50[shown], rows[shown], linestyle="", marker="D", color=COLORS[1], markeredgecolor="white", label="AP50")
    for row in rows[~shown]:
        ax.text(0.01, row, NOTHING, va="center", fontsize=9, **MISSING)
    ax.set(yticks=rows, yticklabels=[f"{name} (n = {int(n)})" for name, n in classes["truths"].items()], xlim=(0, 1),
           ylim=(len(classes) - 0.4, -0.6), xlabel="AP on val at the best epoch (0 to 1)")
    ax.grid(visible=False, axis="y")
    ax.set_title(f"AP per class of {run.name} (n = {int(classes['truths'].sum())} objects in val)")
    ax.legend(**OUTSIDE)
    return ax


def _curve(ax: Axes, log: pd.DataFrame, key: str, name: str, number: int, *, with_train: bool) -> None:
    """One run's line; markers repeat after 12 runs, colours after 18, line styles after 4."""
    log = log.reindex(columns=log.columns.union([key]))
    val = log[(log["mode"] == "val") & log[key].notna()].sort_values("step")
    color, marker, style = (cycle[number % len(cycle)] for cycle in (COLORS, MARKERS, LINES))
    if with_train:
        train = log[(log["mode"] == "train") & log[key].notna()].sort_values("step")
        full = val if len(val) else log  # a val line stands at the end of its epoch
        steps_an_epoch = (full["step"] / full["epoch"]).max()
        ax.plot(train["step"] / steps_an_epoch, train[key], color=".55", linewidth=1, label="train, each logged step")
        name = f"{name}, val"
    ax.plot(val["epoch"], val[key], color=color, marker=marker, linestyle=style, linewidth=1.5, markersize=5.5,
            markeredgecolor="white", markeredgewidth=0.5, markevery=max(1, len(val) // 12),
            label=name if len(val) else f"{name}: no figures")
    if "bbox_mAP" in val and val["bbox_mAP"].notna().any():
        best = val.loc[val["bbox_mAP"].idxmax()]
        ax.scatter(best["epoch"], best[key], s=110, facecolor="none", edgecolor=color, linewidth=1.3, zorder=3)


def _numbers(log: pd.DataFrame) -> pd.DataFrame:
    """The log with numeric columns (nulls come as objects); an empty log keeps the three columns that all have."""
    if log.empty:
        return pd.DataFrame({"mode": pd.Series(dtype=object), "epoch": [], "step": []})
    return log.assign(**{key: pd.to_numeric(log[key]) for key in log.columns if key != "mode"})


def _meaning(key: str, table: pd.DataFrame) -> str:
    """The label of a curve's y axis: what the figure is, and when it may not be compared."""
    if key.startswith("bbox_mAP"):
        return f"{key} (0 to 1)"
    several = table["Detector"].nunique() > 1
    return key + (" (detectors add up different\nlosses: do not compare them)" if several else "")


def _span(counts: pd.Series) -> str:
    """'66' when all runs agree, '66 to 120' when they do not, '?' when none has said."""
    known = counts.dropna()
    return "?" if known.empty else str(known.min()) if known.nunique() == 1 else f"{known.min()} to {known.max()}"


def _new_axes(width: float, height: float) -> Axes:
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _new_panels(count: int, runs: int) -> list[Axes]:
    size = (4.6 * count + 2.4, max(3.6, 0.24 * runs + 1))
    return list(plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False)[1][0])


def _name_points(ax: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Write each name beside its point, over no other name or point where it can; a thin line leads a far one home.

    `points`: (n, 2) in data units. Tries growing distances in eight directions and keeps the place that covers least.
    """
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in ax.transData.transform(points)] if len(points) else []
    directions = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
    for point, name in zip(points, names, strict=True):
        tried: list[tuple[int, Annotation]] = []
        for distance, (across, up) in product((8, 20, 34, 50, 70, 95), directions):
            note = ax.annotate(
                name, (point[0], point[1]), (across * distance, up * distance), textcoords="offset points",
                fontsize=8.5, ha=("center", "left", "right")[across], va=("center", "bottom", "top")[up],
                arrowprops={"arrowstyle": "-", "color": ".6", "linewidth": 0.7} if distance > 8 else None)
            note.get_window_extent()  # puts it in its place; what it returns holds the line too
            box = Text.get_window_extent(note)
            inside = ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 and ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1
            tried.append((box.count_overlaps(taken) + 10 * (not inside), note))
            if tried[-1][0] == 0:
                break
        _, kept = min(tried, key=lambda covered_note: covered_note[0])
        for _, note in tried:
            if note is not kept:
                note.remove()
        taken.append(Text.get_window_extent(kept))
