"""The waterfall: from the AP now to 1, what each stage costs, for every size, at AP50 and at AP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from workbook.diagnosis.store import SavedDiagnosis
from workbook.diagnosis.waterfall import NOT_COUNTED, Cost, SizeWaterfall
from workbook.views.diagnosis.plot import GREY, ORDER, Plot, stage_styles
from workbook.views.style import MISSING, NOTHING, new_grid
from workbook.words import counted

METRICS = {"AP50": "AP50 (IoU .50: is it found?)", "AP": "AP (IoU .50 to .95: does the box fit, too?)"}


def waterfall(
    diagnosis: SavedDiagnosis, *, sizes: Sequence[str] = ORDER, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """A panel a size and metric. A bar is a stage's Shapley cost and begins where the one before it ends.

    From the bar's beginning: black line = 95% interval of the cost; triangle = what the stage made perfect alone brings;
    square = what it brings when all others are perfect. At the right cost and interval; a question mark where it holds 0.
    """
    panels = axes if axes is not None else new_grid(2 * len(sizes), 2, (6.6, 2.75))
    pairs = [(size, metric) for size in sizes for metric in METRICS]
    for ax, (size, metric) in zip(panels, pairs, strict=True):
        _panel(ax, diagnosis, size, metric)
    _legend(panels[0])
    return panels


def _panel(ax: Axes, diagnosis: SavedDiagnosis, size: str, metric: str) -> None:
    of_size = diagnosis.waterfall.metrics[metric][size]
    costs = [cost for cost in of_size.stages if cost.stage != NOT_COUNTED or cost.shapley]
    ax.set(yticks=range(len(costs) + 1), yticklabels=[f"{metric} now", *(cost.stage for cost in costs)])
    ax.set(ylim=(len(costs) + 0.6, -0.6), xlim=(0, 1), xticks=np.arange(0, 1.1, 0.2))
    ax.set_xlabel(METRICS[metric])
    ax.grid(visible=False, axis="y")
    if of_size.ap is None:
        ax.text(0.5, len(costs) / 2, NOTHING, ha="center", **MISSING)
        ax.set_title(f"{size} (n = 0 objects)")
        return
    few = ", too few for intervals" if of_size.is_few else ""
    ax.set_title(f"{size} (n = {of_size.objects} in {counted(of_size.images, 'image')}{few})")
    ax.barh(0, of_size.ap, height=0.7, color=GREY)
    _interval(ax, 0, 0.0, of_size.low, of_size.high, of_size)
    _words(ax, 0, f"{of_size.ap:.3f}", of_size.low, of_size.high, of_size, of_size.undetermined)
    _costs(ax, costs, of_size, diagnosis)


def _costs(ax: Axes, costs: Sequence[Cost], of_size: SizeWaterfall, diagnosis: SavedDiagnosis) -> None:
    styles = stage_styles(diagnosis)
    reached = of_size.ap or 0.0
    furthest = 1.0
    for row, cost in enumerate(costs, start=1):
        value = cost.shapley or 0.0
        color, hatch = styles[cost.stage]
        ax.barh(row, value, left=reached, height=0.7, color=color, hatch=hatch, edgecolor=".25", linewidth=0.4)
        ax.plot([reached, reached], [row - 1, row], color=".4", linewidth=0.7)
        _interval(ax, row, reached, cost.low, cost.high, of_size)
        for brings, marker in ((cost.alone, ">"), (cost.last, "s")):
            if brings is not None:
                ax.plot(reached + brings, row, marker=marker, markersize=5.5, markerfacecolor="white",
                        markeredgecolor="black", linestyle="", clip_on=False, zorder=4)
        is_open = cost.low is not None and cost.high is not None and cost.low <= 0 <= cost.high
        _words(ax, row, f"{value:+.3f}", cost.low, cost.high, of_size, is_open)
        reached += value
        furthest = max(furthest, *(reached - value + (brings or 0.0) for brings in (cost.alone, cost.last)))
    ax.set_xlim(0, furthest + 0.03)  # what a stage brings as the last one can reach beyond 1


def _interval(
    ax: Axes, row: int, left: float, low: float | None, high: float | None, of_size: SizeWaterfall
) -> None:
    if low is not None and high is not None and not of_size.is_few:
        ax.plot([left + low, left + high], [row, row], color="black", linewidth=1.6, marker="|", markersize=7)


def _words(
    ax: Axes, row: int, value: str, low: float | None, high: float | None, of_size: SizeWaterfall, is_open: bool
) -> None:
    """The figure right of the axes; grey, in italics and with a question mark where it is undetermined."""
    words = value
    if low is not None and high is not None and not of_size.is_few:
        words += f" ({low:.2f} to {high:.2f})"
    is_open = is_open or of_size.is_few
    style = MISSING if is_open else {}
    ax.text(1.02, row, words + (" ?" if is_open else ""), transform=ax.get_yaxis_transform(), va="center", fontsize=8.5, **style)


def _legend(ax: Axes) -> None:
    """What the marks are, above the first panel."""
    figure = ax.get_figure()
    assert figure is not None
    style: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": "black", "color": "black", "linestyle": ""}
    marks = [
        ax.plot([], [], color="black", linewidth=1.6, marker="|", label="95% interval of the cost")[0],
        ax.plot([], [], marker=">", label="made perfect alone", **style)[0],
        ax.plot([], [], marker="s", label="made perfect last", **style)[0],
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3, frameon=False,
                  title="What each stage costs (bar: mean over all orders), from its bar's beginning:", alignment="left")


WATERFALL = Plot(
    "waterfall", "The waterfall",
    "From the AP now to 1. A bar is what a stage costs: the mean, over all orders, of what making it perfect brings. "
    "Look for the longest bar of the small objects, and whether triangle and square lie near its end: where they are far "
    "apart, the stages are tied together, and mending one alone brings only the triangle.",
    10, waterfall,
)
