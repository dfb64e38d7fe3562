"""The stage that orders what is reported: the scores."""

from __future__ import annotations

import pandas as pd

from workbook.diagnosis.oracle import oracle_ranking
from workbook.diagnosis.stage import LEAST_PRECISION, SortKey, Stage


def _found_too_late(trace: pd.DataFrame) -> pd.Series:
    return trace["found"] & (trace["precision"] < LEAST_PRECISION)


RANKING = Stage(
    name="ranking",
    question="Does it score above the false detections?",
    color="#F0E442",
    hatch="ooo",
    order=50,
    loses=_found_too_late,
    sort_key=SortKey("false_above", highest_first=True, words="the most false detections above it first"),
    caption=lambda row: f"{row['false_above']} false above",
    lost=(f"{{n}} is found too late: at every score cut that shows it, less than {LEAST_PRECISION:.0%} of what is shown is true",
          f"{{n}} are found too late: at every score cut that shows them, less than {LEAST_PRECISION:.0%} of what is shown is true"),
    oracle=oracle_ranking,
    remedies=(
        "look at the false positives: unlabelled objects are the commonest",
        "images without objects, or hard negatives, in the training",
        "longer training; scores of small objects are often too low",
    ),
)
