"""How every figure looks: theme, colours, markers, words where a figure would stand, empty axes.

Every picture can be read without colour: position, marker, line style or hatch says the same.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from workbook.views import fonts

_BRIGHT = [color for number, color in enumerate(sns.color_palette("colorblind")) if number != 8]  # no yellow on white
COLORS = [*_BRIGHT, *((red * 0.55, green * 0.55, blue * 0.55) for red, green, blue in _BRIGHT)]
MARKERS = "os^DvPX<>hpd"
LINES = ("-", "--", "-.", ":")
# size → (column of its mAP, column of its number of objects, colour, hatch)
SIZES = {
    "all": ("val/bbox_mAP", "objects in val", COLORS[7], ""),
    "small": ("val/bbox_mAP_s", "small objects in val", COLORS[0], "///"),
    "medium": ("val/bbox_mAP_m", "medium objects in val", COLORS[1], "..."),
    "large": ("val/bbox_mAP_l", "large objects in val", COLORS[2], "xxx"),
}
NOTHING = "no objects"
MISSING: dict[str, Any] = {"style": "italic", "color": ".35"}  # how words stand where a figure would
OUTSIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0, "frameon": False}


def use_theme() -> None:
    """Set the look of all following figures and tables, and the fonts for names in any script."""
    pd.set_option("display.max_colwidth", None)  # else pandas cuts words at 50 letters, and what to do is in the rest
    sns.set_theme(style="whitegrid", palette="colorblind", rc={
        "figure.dpi": 110, "savefig.dpi": 150, "hatch.linewidth": 0.6, "axes.titlesize": 11,
        "axes.titlelocation": "left", "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9,
        "legend.fontsize": 9, "axes.edgecolor": ".7", "axes.linewidth": 0.8, "grid.color": ".9", "grid.linewidth": 0.8,
        "figure.constrained_layout.w_pad": 0.1, "text.parse_math": False,  # a $ in a name is a $
        "font.family": ["sans-serif", "DejaVu Sans", *fonts.families()],
    })
    fonts.say_what_is_missing()


def new_axes(width: float, height: float) -> Axes:
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def new_grid(count: int, columns: int, each: tuple[float, float]) -> list[Axes]:
    """`count` empty axes in rows of `columns`, each of this width and height in inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (each[0] * columns, each[1] * rows)
    panels = list(plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)[1].flat)
    for ax in panels[count:]:
        ax.remove()
    return panels[:count]


def span(counts: pd.Series) -> str:
    """'66' when all runs agree, '66 to 120' when they do not, '?' when none has said."""
    known = counts.dropna()
    return "?" if known.empty else str(known.min()) if known.nunique() == 1 else f"{known.min()} to {known.max()}"
