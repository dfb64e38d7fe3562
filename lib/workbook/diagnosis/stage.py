"""What a stage of a detector is: one object that carries everything about itself. Each is a file of `diagnosis/stages/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbook.diagnosis.oracle import Replay
from workbook.plugins import plugins

DETECTED = "detected"  # what the trace says of an object that no stage loses
DETECTED_COLOR = "#009E73"
# Below this precision a detection is lost among false ones: at one half more of what is shown is false than true.
LEAST_PRECISION = 0.5

Reasons = dict[str, int]  # why, in words → how many objects


@dataclass(frozen=True)
class SortKey:
    """How the saved view of a stage is sorted, the worst first: a column of the trace."""

    column: str
    highest_first: bool
    words: str


@dataclass(frozen=True)
class Stage:
    """One stage: its words and its look, which objects of a trace it loses, and the oracle under which it makes no mistake.

    The colors are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which the color blind can tell apart; a hatch and the
    name say the same. `order` is the stage's place in the detector: an object is lost by the first that loses it.
    """

    name: str
    question: str
    color: str
    hatch: str
    order: int
    loses: Callable[[pd.DataFrame], pd.Series]  # trace (see trace.COLUMNS, and `found`, `precision`) → bool a row
    sort_key: SortKey
    caption: Callable[[pd.Series], str]  # row of the trace → the one figure that shows why
    lost: tuple[str, str]  # "{n} was …" for one, "{n} were …" for several; {iou} is the trace's
    oracle: Callable[[Replay], Replay] | None  # None: no part of the detector can mend it
    families: tuple[str, ...] = ()  # keys of the families that have it; none named: every one
    remedies: tuple[str, ...] = ()
    remedies_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # family → its own, before the others
    reasons: Callable[[pd.DataFrame, Any], Reasons] | None = None  # (objects it loses, SavedDiagnosis) → why

    def remedies_for(self, family: str) -> tuple[str, ...]:
        """What helps in a detector of this family."""
        return (*self.remedies_of.get(family, ()), *self.remedies)

    def says(self, count: int, iou: float) -> str:
        """`3 were never proposed`."""
        return self.lost[count != 1].format(n=count, iou=iou)


def stages_of(family: str) -> list[Stage]:
    """Every stage that is every family's, or this one's, with those that no oracle can mend."""
    from workbook.diagnosis import stages

    return [stage for stage in plugins(stages, Stage) if not stage.families or family in stage.families]
