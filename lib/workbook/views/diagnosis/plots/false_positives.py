"""False positives by kind: how many, and what the AP would gain without them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from workbook.diagnosis.false_positives import FALSE_KINDS
from workbook.diagnosis.store import SavedDiagnosis
from workbook.views.diagnosis.plot import ORDER, Plot
from workbook.views.style import SIZES, new_grid


def false_positives(diagnosis: SavedDiagnosis) -> Sequence[Axes]:
    """The false detections of each kind, a panel a size of their own box."""
    panels = new_grid(4, 4, (3.3, 2.9))
    found = diagnosis.detections[diagnosis.detections["kind"] != ""]
    return panels


FALSE_POSITIVES = Plot(
    "false_positives", "False positives",
    "How many false detections there are of each kind, and how much AP would rise without them. Look for a kind that is common "
    "among the small.",
    60, false_positives,
)
