"""The pictures of one run, and of several beside it: curves, learning rate, AP per class. The data come from run folders alone."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from workbook.runs.folder import Run
from workbook.runs.listing import by_start
from workbook.views.compare.tables import comparison, labels
from workbook.views.style import COLORS, LINES, MARKERS, MISSING, NOTHING, OUTSIDE, new_axes, span

OURS = ("bbox_mAP", "loss")
OF_OTHER_TOOLS = ("ultralytics_mAP50-95",)  # keys of logs, see runs/adopt/epochs.py


def curves(runs: Sequence[Run], *, keys: Sequence[str] | None = None, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Val curves side by side: one panel a key of the log, one line a run, the best epoch (by bbox_mAP) ringed.

    keys: those of bbox_mAP, loss and what other tools log under a name of its own that some run has, when not given.
    With one run the train line of the same key is drawn too. A run without val lines keeps its place in the legend.
    Raises ValueError for a key that no run has logged, listing those there are.
    """
    runs, table = by_start(runs), comparison(runs)
    logs = [_numbers(run.log()) for run in runs]
    known = sorted({key for log in logs for key in log.columns} - {"mode", "epoch", "step", "seconds"})
    if known and (unknown := [key for key in keys or () if key not in known]):
        raise ValueError(f"no run has logged {', '.join(unknown)}: its log has {', '.join(known)}")
    keys = keys or [key for key in (*OURS, *OF_OTHER_TOOLS) if key in known] or OURS
    panels = list(axes) if axes is not None else _new_panels(len(keys), len(runs))
    for ax, key in zip(panels, keys, strict=True):
        for number, (log, name) in enumerate(zip(logs, labels(table), strict=True)):
            _curve(ax, log, key, name, number, with_train=len(runs) == 1)
        if not any(len(line.get_xdata()) for line in ax.lines):  # type: ignore[arg-type]
            measured = any((log["mode"] == "val").any() for log in logs)
            words = NOTHING if measured and key.startswith("bbox_mAP") else "no figures"
            ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", **MISSING)
        ax.set(xlabel="epoch (ring: the best one, by bbox_mAP)", ylabel=_meaning(key, table))
        ax.set_title(f"{key} on val (n = {span(table['val images'])} images)")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlim(0, max((log["epoch"].max() for log in logs if len(log)), default=1) + 0.5)
        if key.startswith("bbox_mAP"):
            ax.set_ylim(bottom=0)
    panels[-1].legend(**OUTSIDE, handlelength=3.2)
    return panels


def learning_rate(run: Run, *, ax: Axes | None = None) -> Axes:
    """The learning rate of a run over its training steps, log scale; warm-up and drops show as they were."""
    ax = ax or new_axes(7, 3)
    log = _numbers(run.log())
    train = log[log["mode"] == "train"].dropna(subset=["lr"]).sort_values("step") if "lr" in log else log
    if len(train):
        ax.plot(train["step"], train["lr"], color=COLORS[0], marker="o", markersize=3)
    ax.set(xlabel="training step", ylabel="learning rate (log scale)", yscale="log")
    ax.yaxis.set_major_formatter("{x:.3g}")  # the default writes formulas, which the theme leaves as they are
    ax.yaxis.set_minor_formatter("{x:.3g}" if len(train) and train["lr"].max() < 10 * train["lr"].min() else NullFormatter())
    ax.set_title(f"Learning rate (n = {len(train)} logged steps)\n{run.name}")
    return ax


def per_class(run: Run, *, ax: Axes | None = None) -> Axes:
    """AP (bar) and AP50 (diamond) of every class at the best epoch, with n = its objects in val, most objects first."""
    classes = pd.DataFrame.from_dict(run.metrics()["per_class"], orient="index")
    classes = classes.sort_values("truths", ascending=False, kind="stable")
    ax = ax or new_axes(8, 1.2 + 0.3 * len(classes))
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


def _new_panels(count: int, runs: int) -> list[Axes]:
    size = (4.6 * count + 2.4, max(3.6, 0.24 * runs + 1))
    return list(plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False)[1][0])
