"""The same for one size by class."""

from __future__ import annotations

from matplotlib.axes import Axes

from workbook.diagnosis.store import SavedDiagnosis
from workbook.views.diagnosis.plot import Plot, stacked_stages


def stages_by_class(diagnosis: SavedDiagnosis, *, size: str = "small", most: int = 20) -> list[Axes]:
    """A bar a class: the `most` classes that have the most objects of this size."""
    trace = diagnosis.objects(size)
    classes = list(trace["class"].value_counts().index[:most])
    ax = stacked_stages(diagnosis, trace["class"], trace["stage"], classes)
    left_out = trace["class"].nunique() - len(classes)
    more = f"; {left_out} classes with fewer are not shown" if left_out else ""
    ax.set_title(f"Where the {size} objects are lost, by class (n = {len(trace)}{more})")
    return [ax]


STAGES_BY_CLASS = Plot(
    "stages_by_class", "The small ones by class", "Look for a class that is lost at another stage than the rest.",
    30, stages_by_class,
)
