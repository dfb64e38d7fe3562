"""The pictures of a study: its claims with their intervals, and which stage costs one side more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from workbook.studies.causes import Cause
from workbook.studies.claim import match_form
from workbook.studies.store import SavedStudy
from workbook.studies.verdicts import CONFOUNDED, CONTRADICTED, OPEN, SUPPORTED, Verdict
from workbook.views.style import COLORS, MISSING, new_axes, new_grid
from workbook.words import counted

# verdict → color and marker; open ones are hollow
LOOK = {SUPPORTED: (COLORS[2], "o"), CONTRADICTED: (COLORS[3], "X"), OPEN: ("white", "o"), CONFOUNDED: (COLORS[7], "s")}


def claims(study: SavedStudy, *, ax: Axes | None = None) -> Axes:
    """The difference of each claim, left less right, with its corrected interval; a claim that could not be compared says so.

    Behind a claim of equality lies the margin within which it calls two settings equal.
    """
    ax = ax or new_axes(9, 1.4 + 0.55 * max(len(study.verdicts), 1))
    for row, verdict in enumerate(study.verdicts):
        if margin := match_form(verdict.claim)["margin"]:
            ax.barh(row, 2 * float(margin), left=-float(margin), height=0.8, color=".92", hatch="///", edgecolor=".7", linewidth=0)
        if verdict.value is None:
            ax.text(0, row, f"  {verdict.verdict}: cannot be compared", va="center", fontsize=9, **MISSING)
            continue
        color, marker = LOOK[verdict.verdict]
        if verdict.low is not None and verdict.high is not None:
            ax.hlines(row, verdict.low, verdict.high, color=".25", linewidth=1.6)
        ax.plot(verdict.value, row, marker=marker, markersize=9, markerfacecolor=color, markeredgecolor=".25", linestyle="none")
        words = f"{verdict.verdict} ({_rests_on(verdict)})"
        ax.annotate(words, (verdict.value, row), (0, 9), textcoords="offset points", ha="center", fontsize=8.5)
    ax.axvline(0, color=".4", linewidth=0.9)
    ax.set(yticks=range(len(study.verdicts)), yticklabels=[verdict.claim for verdict in study.verdicts])
    ax.set_ylim(max(len(study.verdicts), 1) - 0.5, -0.7)
    hatched = "\nhatched: the margin of a claim of equality" if ax.patches else ""
    ax.set_xlabel(f"left less right in the claim's own figure, with its corrected interval{hatched}")
    ax.set_title("The claims and their verdicts")
    ax.grid(False, axis="y")
    sns.despine(ax=ax, left=True)
    return ax


def causes(study: SavedStudy) -> list[Axes]:
    """A panel a claim: how much more each stage costs its left side than its right, with corrected intervals."""
    rests_on = {verdict.claim: _rests_on(verdict) for verdict in study.verdicts}
    by_claim = {name: [one for one in study.causes if one.claim == name] for name in study.claims}
    shown = {name: those for name, those in by_claim.items() if those}
    if not shown:
        ax = new_axes(6, 1.2)
        ax.text(0.5, 0.5, "no claim has runs on both sides that were diagnosed", ha="center", va="center", **MISSING)
        ax.set_axis_off()
        return [ax]
    most = max(map(len, shown.values()))
    panels = new_grid(len(shown), 2, (6.5, 1.4 + 0.42 * most))
    for ax, (name, those) in zip(panels, shown.items(), strict=True):
        _causes_of(ax, name, those)
        ax.set_title(f"{name} ({rests_on[name]})")
    return panels


def _rests_on(verdict: Verdict) -> str:
    """What n is: of the seeds of the side with the fewest, and of the val images that hold such objects."""
    return f"n = {counted(verdict.seeds, 'seed')}, {counted(verdict.images, 'image')}"


def _causes_of(ax: Axes, name: str, those: Sequence[Cause]) -> None:
    rows = np.arange(len(those))
    for row, one in zip(rows, those, strict=True):
        if one.low is not None and one.high is not None:
            ax.hlines(row, one.low, one.high, color=".25", linewidth=1.6)
        ax.plot(one.value, row, marker="D", markersize=7, linestyle="none", markeredgecolor=".25",
                markerfacecolor=COLORS[1] if one.differs else "white")
    ax.axvline(0, color=".4", linewidth=0.9)
    ax.set(yticks=rows, yticklabels=[one.stage for one in those], ylim=(len(those) - 0.5, -0.5))
    ax.set_xlabel(f"cost of the left less that of the right ({those[0].metric}, {those[0].size} objects)")
    ax.grid(False, axis="y")
    sns.despine(ax=ax, left=True)
