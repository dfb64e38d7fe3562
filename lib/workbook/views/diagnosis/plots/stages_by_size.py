"""How many objects of each size each stage loses."""

from __future__ import annotations

from matplotlib.axes import Axes

from workbook.diagnosis.store import SavedDiagnosis
from workbook.views.diagnosis.plot import ORDER, Plot, stacked_stages


def stages_by_size(diagnosis: SavedDiagnosis) -> list[Axes]:
    """A bar a size; an object on the border of two counts as the smaller."""
    trace = diagnosis.trace
    ax = stacked_stages(diagnosis, trace["size"], trace["stage"], ORDER[:3])
    ax.set_title(f"Where the objects are lost, by size (IoU {diagnosis.iou:g}, n = {len(trace)} objects)")
    return [ax]


STAGES_BY_SIZE = Plot(
    "stages_by_size", "Where they are lost",
    "How many objects the first stage that loses them takes, at one IoU. Look for what differs between small and medium. "
    "`ranking` are those that are found, but only below more false detections than true ones.",
    20, stages_by_size,
)
