"""What a picture of a diagnosis is; each is a file of `views/diagnosis/plots/`, and a new one is a new file there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from workbook.diagnosis.stage import DETECTED, DETECTED_COLOR
from workbook.diagnosis.store import SavedDiagnosis
from workbook.notebooks import save_figure
from workbook.plugins import plugins
from workbook.views.style import MISSING, NOTHING, OUTSIDE, new_axes

ORDER = ("small", "medium", "large", "all")
GREY = ".55"


@dataclass(frozen=True)
class Plot:
    """One picture: its file's name, its heading, what to look for in it, and how it is drawn."""

    name: str
    title: str
    look_for: str
    order: int  # on the page
    draw: Callable[[SavedDiagnosis], Sequence[Axes]]


def plots() -> tuple[Plot, ...]:
    """Every picture that there is a file of, in the order of the page."""
    from workbook.views.diagnosis import plots as package

    return tuple(sorted(plugins(package, Plot), key=lambda plot: plot.order))


def show_plots(diagnosis: SavedDiagnosis, without: Sequence[str] = ()) -> None:
    """Show every picture but those named under its heading, and save each in the run's figures."""
    from IPython.display import Markdown, display

    for plot in plots():
        if plot.name in without:
            continue
        display(Markdown(f"### {plot.title}\n\n{plot.look_for}"))
        axes = plot.draw(diagnosis)
        figure = axes[0].get_figure(root=True)
        assert figure is not None
        save_figure(figure, diagnosis.run.folder, plot.name)


def stage_styles(diagnosis: SavedDiagnosis) -> dict[str, tuple[str, str]]:
    """Stage → colour and hatch; `detected` is plain green."""
    styles = {part.name: (part.color, part.hatch) for part in diagnosis.family.parts}
    return {**styles, DETECTED: (DETECTED_COLOR, "")}


def stacked_stages(diagnosis: SavedDiagnosis, groups: pd.Series, stages: pd.Series, names: Sequence[str]) -> Axes:
    """A bar a group, one piece a stage with its count. groups, stages: of the same objects. names: the groups shown."""
    ax = new_axes(10.5, 1.3 + 0.42 * max(len(names), 1))
    table = pd.crosstab(groups, stages).reindex(index=list(names), fill_value=0)
    longest = max(1, int(table.sum(axis=1).max()) if len(table) else 1)
    starts = pd.Series(0, index=table.index)
    for stage, (color, hatch) in stage_styles(diagnosis).items():
        counts = table[stage] if stage in table else pd.Series(0, index=table.index)
        if not counts.sum() and stage not in diagnosis.stage_names:
            continue
        ax.barh(range(len(names)), counts, left=starts, height=0.7, color=color, hatch=hatch, edgecolor="white",
                label=f"{stage} ({counts.sum()})")
        for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
            if count > 0.02 * longest:
                ax.text(start + count / 2, row, str(count), ha="center", va="center", fontsize=8,
                        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85})
        starts = starts + counts
    totals = table.sum(axis=1)
    for row, name in enumerate(names):
        if not totals[name]:
            ax.text(0.01 * longest, row, NOTHING, va="center", fontsize=8.5, **MISSING)
    ax.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6), xlim=(0, longest), xlabel="objects in val")
    ax.set_yticklabels([f"{name} (n = {totals[name]})" for name in names])
    ax.grid(visible=False, axis="y")
    ax.legend(**OUTSIDE)
    return ax
