"""The pictures of a search and its proof: the gain of each arm, AP against cost, promised against got, the two waterfalls.

Every picture can be read without colour: position, marker or hatch says the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from workbook.diagnosis.store import SavedDiagnosis
from workbook.proofs.store import CURVE, LABELS, OWN, ArmResult, Proof
from workbook.views.compare.plots import name_points
from workbook.views.diagnosis.plots.waterfall import waterfall
from workbook.views.remedy.summary import AP_OF, ORDER, named
from workbook.views.style import COLORS, MISSING, NOTHING, OUTSIDE, SIZES, new_axes, new_grid
from workbook.words import counted

# kind of an arm → marker, colour, words
KINDS = {
    OWN: ("*", COLORS[7], "baseline"), "evaluation": ("o", COLORS[0], "evaluation alone"), "training": ("s", COLORS[1], "trained"),
    "combination": ("D", COLORS[2], "combined"), CURVE: ("^", COLORS[3], "predicted for twice the images"),
    LABELS: ("v", COLORS[4], "upper bound, on val"),
}
COSTS = {"seconds_a_step": "seconds a training step", "seconds_an_image": "seconds an image of validation"}


def gains(proof: Proof, *, ax: Axes | None = None) -> Axes:
    """A row an arm, the highest gain on top: its gain over the baseline with its 95% interval, and how many seeds it has.

    Arms that were not measured are not there; the table names them.
    """
    arms = sorted((arm for arm in proof.arms if arm.gain is not None), key=lambda arm: -(arm.gain or 0.0))
    ax = ax or new_axes(9, 1.6 + 0.34 * max(len(arms), 1))
    for row, arm in enumerate(arms):
        _gain(ax, row, arm)
    ax.axvline(0, color=".4", linewidth=0.9)
    ax.set(yticks=range(len(arms)), ylim=(len(arms) - 0.4, -0.6), yticklabels=[_row_name(arm, proof) for arm in arms])
    ax.set_xlabel(f"gain in {AP_OF[proof.size]} over the baseline; line: 95%, for choosing alone, not corrected")
    measured = next((arm for arm in proof.arms if arm.kind == OWN), None)
    n = f"n = {counted(measured.objects, f'{proof.size} object')} in {counted(measured.images, 'image')} cut from train" if measured else ""
    ax.set_title(f"What each arm gained in the search ({n})")
    if not arms:
        ax.text(0.5, 0.5, "no arm was measured", transform=ax.transAxes, ha="center", **MISSING)
    _legend(ax, arms)
    return ax


def _gain(ax: Axes, row: int, arm: ArmResult) -> None:
    marker, color, _ = KINDS[arm.kind]
    assert arm.gain is not None
    if arm.low is not None and arm.high is not None:
        ax.plot([arm.low, arm.high], [row, row], color=".25", linewidth=1.3, marker="|", markersize=7, zorder=2)
    ax.plot(arm.gain, row, marker=marker, color=color, markeredgecolor="black", markersize=8, linestyle="", zorder=3)
    seeds = f", {counted(arm.seeds, 'seed')}" if arm.seeds else ""
    ax.text(1.02, row, f"{arm.gain:+.3f}{seeds}", transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)


def _row_name(arm: ArmResult, proof: Proof) -> str:
    return f"{named(arm.remedies)} (winner)" if arm.remedies == proof.winner else named(arm.remedies)


def _legend(ax: Axes, arms: Sequence[ArmResult]) -> None:
    for kind, (marker, color, words) in KINDS.items():
        if any(arm.kind == kind for arm in arms):
            ax.plot([], [], marker=marker, color=color, markeredgecolor="black", markersize=8, linestyle="", label=words)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.08 - 0.5 / max(len(arms), 1)), frameon=False, ncols=3)


def score_against_cost(proof: Proof, *, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """AP of each arm of the search against the seconds of a training step, and against those of an image: a named point an arm."""
    panels = axes if axes is not None else new_grid(2, 2, (7, 4.4))
    for ax, (cost, words) in zip(panels, COSTS.items(), strict=True):
        arms = [arm for arm in proof.arms if arm.score is not None and getattr(arm, cost) is not None]
        points = np.array([(getattr(arm, cost), arm.score) for arm in arms], float).reshape(-1, 2)
        for arm, (across, up) in zip(arms, points, strict=True):
            marker, color, _ = KINDS[arm.kind]
            ax.plot(across, up, marker=marker, color=color, markeredgecolor="black", markersize=8, linestyle="", zorder=3)
        ax.set(xlabel=words, ylabel=f"{AP_OF[proof.size]} on images cut from train (0 to 1)")
        ax.margins(x=0.2, y=0.2)
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)
        objects = max((arm.objects for arm in arms), default=0)
        ax.set_title(f"{AP_OF[proof.size]} against {words} (n = {counted(objects, f'{proof.size} object')})")
        name_points(ax, points, [named(arm.remedies) or "baseline" for arm in arms])
    return panels


def promised_and_got(proof: Proof, *, ax: Axes | None = None) -> Axes:
    """A row a size: the difference on val with its corrected interval, and what the diagnosis promised."""
    ax = ax or new_axes(9, 3.4)
    sizes = [size for size in ORDER if size in proof.sizes]
    for row, size in enumerate(sizes):
        one = proof.sizes[size]
        if one.difference is None:
            ax.text(0, row, f" {NOTHING}", va="center", **MISSING)
            continue
        color, hatch = SIZES[size][2:]
        ax.barh(row, one.difference, height=0.55, color=color, hatch=hatch, edgecolor="white")
        if one.low is not None and one.high is not None:
            ax.plot([one.low, one.high], [row, row], color="black", linewidth=1.6, marker="|", markersize=8)
        if one.promised is not None:
            ax.plot(one.promised, row, marker=">", markerfacecolor="white", markeredgecolor="black", markersize=8, linestyle="")
        few = "" if one.low is not None else ", too few images for an interval"
        words = f"{one.before:.3f} → {one.after:.3f} ({one.difference:+.3f}{few})"
        ax.text(1.02, row, words, transform=ax.get_yaxis_transform(), va="center", fontsize=8.5)
    ax.axvline(0, color=".4", linewidth=0.9)
    objects = proof.cost["after"].objects if "after" in proof.cost else {}
    names = [f"{AP_OF[size]} (n = {counted(objects.get(size, 0), f'{size} object')})" for size in sizes]
    ax.set(yticks=range(len(sizes)), yticklabels=names, ylim=(max(len(sizes), 1) - 0.4, -0.6))
    ax.set_xlabel("AP after less AP before, on val (bar), and promised (triangle)")
    ax.set_title(f"Promised and got: {named(proof.winner) or 'no winner'} (n = {counted(len(proof.seeds), 'seed')} of each)")
    ax.plot([], [], color="black", linewidth=1.6, marker="|", label="95%, corrected for the sizes")
    ax.plot([], [], marker=">", markerfacecolor="white", markeredgecolor="black", linestyle="", label="promised by the diagnosis")
    ax.legend(**{**OUTSIDE, "bbox_to_anchor": (0.0, -0.25), "ncols": 2})
    if not sizes:
        ax.text(0.5, 0.5, "nothing was put to the proof", transform=ax.transAxes, ha="center", **MISSING)
    return ax


def two_waterfalls(before: SavedDiagnosis, after: SavedDiagnosis, size: str) -> Sequence[Axes]:
    """The waterfall of the baseline above that of the winner, one seed of each, for one size."""
    panels = new_grid(4, 2, (6.6, 2.9))
    waterfall(before, sizes=(size,), axes=panels[:2])
    waterfall(after, sizes=(size,), axes=panels[2:])
    figure = panels[0].get_figure(root=True)
    assert figure is not None
    for legend in figure.legends[1:]:  # both would be the same
        legend.remove()
    for ax, when in zip(panels, ("before", "before", "after", "after"), strict=True):
        ax.set_title(f"{when}: {ax.get_title(loc='left') or ax.get_title()}")
    return panels
