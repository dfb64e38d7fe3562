"""The stage that gives a candidate its class."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbook.diagnosis.oracle import oracle_class
from workbook.diagnosis.stage import Reasons, SortKey, Stage


def _without_class(trace: pd.DataFrame) -> pd.Series:
    return ~trace["found"] & (trace["predictions_of_class"] == 0)


def _named_instead(objects: pd.DataFrame, diagnosis: Any) -> Reasons:
    """What the objects that do not get their own class are taken for."""
    named = objects["named_class"]
    background = named == "background"
    own = named == objects["class"]
    return {
        "taken for background": int(background.sum()),
        "taken for another class": int((named.notna() & ~own & ~background).sum()),
        "with too low a score for the own class": int(own.sum()),
    }


CLASS = Stage(
    name="class",
    question="Is it given its own class, not another one and not background?",
    color="#0072B2",
    hatch="...",
    order=20,
    loses=_without_class,
    sort_key=SortKey("class_score", highest_first=False, words="the lowest score of its own class first"),
    caption=lambda row: f"{row['named_class'] or 'none'} {row['named_score']:.2f}",
    lost=("{n} is not given its own class", "{n} are not given their own class"),
    oracle=oracle_class,
    remedies=(
        "more examples of the class, or of its small ones",
        "larger images: the head has only a few cells of an object",
        "check the labels: are classes mixed up, or some objects not labelled?",
        "a stronger backbone or longer training",
    ),
    reasons=_named_instead,
)
