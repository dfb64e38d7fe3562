"""How often a score is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from workbook.diagnosis.diagnose import FALSE, TRUE
from workbook.diagnosis.store import SavedDiagnosis
from workbook.evaluation.sizes import in_size
from workbook.views.diagnosis.plot import GREY, ORDER, Plot
from workbook.views.style import MISSING, SIZES, new_grid


def calibration(diagnosis: SavedDiagnosis) -> Sequence[Axes]:
    """The precision of the detections in each tenth of the scores, a panel a size of their own box.

    On the dashed line a score of .7 is right in 7 of 10.
    """
    panels = new_grid(3, 3, (4, 3.2))
    counted = diagnosis.detections[diagnosis.detections["outcome"].isin([TRUE, FALSE])]
    for ax, size in zip(panels, ORDER[:3], strict=True):
        found = counted[in_size(counted["area"].to_numpy(), size)]
        tenth = np.minimum((found["score"].to_numpy(dtype=float) * 10).astype(int), 9)
        true = (found["outcome"] == TRUE).to_numpy()
        for number in np.unique(tenth):
            share, count = true[tenth == number].mean(), int((tenth == number).sum())
            ax.bar((number + 0.5) / 10, share, 0.09, color=SIZES[size][2], hatch=SIZES[size][3], edgecolor="white")
            ax.text((number + 0.5) / 10, share + 0.02, str(count), ha="center", fontsize=7.5)
        if found.empty:
            ax.text(0.5, 0.5, "no detections", ha="center", **MISSING)
        ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        ax.set(xlim=(0, 1), ylim=(0, 1.12), xlabel="score (on the bars: n)")
        ax.set_title(f"{size} (n = {len(found)} detections)")
    panels[0].set_ylabel(f"share of true ones (IoU {diagnosis.iou:g})")
    return panels


CALIBRATION = Plot(
    "calibration", "Scores",
    "Look for bars under the dashed line: there the detector is surer than it is right. The number on a bar is how many "
    "detections it rests on.",
    50, calibration,
)
