"""Reported rows beside the runs: what an earlier table says, without an interval, since nobody has its detections."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbook.runs.reported import reported_rows
from workbook.views.compare.tables import COLUMNS

REPORTED = "reported"


def with_reported(table: pd.DataFrame, datasets: Sequence[str]) -> pd.DataFrame:
    """The comparison, and below it the adopted rows of these datasets; their status is `reported`, and what they do not say is blank.

    With such rows `Exp num` is text: a hand-kept table may number its rows 1, 1-1, 1-2.
    """
    rows = reported_rows(datasets)
    if not rows:
        return table
    added = pd.DataFrame(
        [{**row.values, "status": REPORTED, "dataset": row.dataset, "run": f"{row.table} (reported)"} for row in rows],
        columns=list(COLUMNS), dtype=object,
    )
    kinds = {name: kind for name, kind in table.dtypes.items() if name != "Exp num"}
    both = pd.concat([table.astype({"Exp num": str}).astype(object), added], ignore_index=True)
    return both.astype({**kinds, "Exp num": str})
