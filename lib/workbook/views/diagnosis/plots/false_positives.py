"""False positives by kind: how many, and what the AP would gain without them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from workbook.diagnosis.false_positives import FALSE_KINDS
from workbook.diagnosis.store import SavedDiagnosis
from workbook.evaluation.sizes import in_size
from workbook.views.diagnosis.plot import ORDER, Plot
from workbook.views.style import SIZES, new_grid


def false_positives(diagnosis: SavedDiagnosis) -> Sequence[Axes]:
    """The false detections of each kind, a panel a size of their own box."""
    panels = new_grid(4, 4, (3.3, 2.9))
    found = diagnosis.detections[diagnosis.detections["kind"] != ""]
    for ax, size in zip(panels, ORDER, strict=True):
        kinds = found.loc[in_size(found["area"].to_numpy(), size), "kind"].value_counts()
        counts = [int(kinds.get(kind, 0)) for kind in FALSE_KINDS]
        ax.barh(range(len(counts)), counts, height=0.65, color=SIZES[size][2], hatch=SIZES[size][3], edgecolor="white")
        ax.set(yticks=range(len(counts)), yticklabels=list(FALSE_KINDS), xlabel="false detections")
    return panels


FALSE_POSITIVES = Plot(
    "false_positives", "False positives",
    "How many false detections there are of each kind, and how much AP would rise without them. Look for a kind that is common "
    "among the small.",
    60, false_positives,
)
