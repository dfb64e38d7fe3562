"""The share of objects that one of the best candidates of their image fits."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from workbook.diagnosis.store import SavedDiagnosis
from workbook.views.diagnosis.plot import ORDER, Plot
from workbook.views.style import COLORS, MISSING, NOTHING, OUTSIDE, new_axes

TOP = (100, 300, 1000)
HATCHES = ("///", "...", "xxx")


def candidate_recall(diagnosis: SavedDiagnosis, *, top: Sequence[int] = TOP) -> list[Axes]:
    """Recall of the best 100, 300, 1000 proposals (points' or queries' boxes) of an image, by size."""
    ax = new_axes(9, 3)
    ranks = {size: diagnosis.objects(size)["first_rank"] for size in ORDER}
    for column, size in enumerate(ORDER):
        if ranks[size].empty:
            ax.text(column, 0.02, NOTHING, ha="center", fontsize=8.5, **MISSING)
            continue
        for number, limit in enumerate(top):
            share = float((ranks[size] <= limit).mean())
            x = column + (number - (len(top) - 1) / 2) * 0.27
            label = f"best {limit:,}" if size == "all" else None
            ax.bar(x, share, 0.25, color=COLORS[number], hatch=HATCHES[number], edgecolor="white", label=label)
            ax.text(x, share, f"{share:.2f}", ha="center", va="bottom", fontsize=8)
    ax.set(xticks=range(len(ORDER)), ylim=(0, 1.1), ylabel=f"recall at IoU {diagnosis.iou:g}")
    ax.set_xticklabels([f"{size}\nn = {len(ranks[size])}" for size in ORDER])
    ax.grid(visible=False, axis="x")
    limit_words = f"; the detector takes at most {diagnosis.proposal_limit:,}" if diagnosis.proposal_limit else ""
    ax.set_title(f"Recall of the best {diagnosis.family.candidate_noun} of an image, by score{limit_words}")
    ax.legend(**OUTSIDE)
    return [ax]


CANDIDATE_RECALL = Plot(
    "candidate_recall", "Candidates",
    "Look at how much more 300 or 1,000 candidates of an image find than 100: where the bars rise, small objects are there, "
    "but scored too low. Above the number that the detector takes (in the title, where it is known) the bars cannot rise.",
    40, candidate_recall,
)
