"""False positives by kind: how many, and what the AP would gain without them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from workbook.diagnosis.false_positives import FALSE_KINDS
from workbook.diagnosis.store import SavedDiagnosis
from workbook.views.diagnosis.plot import ORDER, Plot
from workbook.views.style import SIZES, new_grid


def false_positives(diagnosis: SavedDiagnosis) -> Sequence[Axes]:
    """The false detections of each kind, a panel a size of their own box, and what the AP gains when they are taken away.

    In the panel of all sizes stands TIDE's gain, too: what AP50 rises by when the kind is repaired.
    """
    panels = new_grid(4, 2, (6.2, 2.5))
    fixed = diagnosis.false_positives["fixed_ap50"]
    for ax, size in zip(panels, ORDER, strict=True):
        of_size = diagnosis.false_positives["sizes"][size]
        counts = [of_size[kind]["count"] for kind in FALSE_KINDS]
        ax.barh(range(len(counts)), counts, height=0.65, color=SIZES[size][2], hatch=SIZES[size][3], edgecolor="white")
        for row, (kind, count) in enumerate(zip(FALSE_KINDS, counts, strict=True)):
            words = f" {count}"
            if count and of_size[kind]["removed_ap"] is not None:
                words += f", removed: AP {round(of_size[kind]['removed_ap'], 3) + 0.0:+.3f}"
            if count and size == "all":
                words += f", repaired: AP50 {fixed[kind]:+.3f}"
            ax.text(count, row, words, va="center", fontsize=8)
        ax.set(yticks=range(len(counts)), yticklabels=list(FALSE_KINDS), ylim=(len(counts) - 0.4, -0.6))
        ax.set(xlim=(0, (3.3 if size == "all" else 2.2) * max(1, *counts)), xlabel="false detections")
        ax.locator_params(axis="x", nbins=4)
        ax.grid(visible=False, axis="y")
        ax.set_title(f"{size} (n = {sum(counts)} false, IoU {diagnosis.iou:g})")
    return panels


FALSE_POSITIVES = Plot(
    "false_positives", "False positives",
    "How many false detections there are of each of TIDE's kinds, and what the AP gains when they are taken away, or repaired as "
    "TIDE does (a poor box or a wrong class becomes a hit). Look for a kind that is common among the small. A minus is no "
    "mistake: what is a duplicate at IoU .50 can be the hit at .75, where AP counts, too.",
    60, false_positives,
)
