"""The comparison: one row a run, from the run folders alone.

The first 21 columns and their order are those of the tables this workbook replaces; the others follow. A figure that a
run does not have (a size without objects, a loss its detector does not know, a run that broke off) is blank, never 0.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbook.errors import RunError
from workbook.files import write_text
from workbook.runs.folder import Run
from workbook.runs.listing import by_start, list_runs, no_runs, open_run, split_names
from workbook.runs.rows import ADDED, FIGURES, SETTINGS, WHERE_DIFFERENT, numbers_of, row_of

if TYPE_CHECKING:  # it loads matplotlib, which the command line does not need
    from pandas.io.formats.style import Styler

COLUMNS = ("Exp num", *SETTINGS, *(f"val/{key}" for key in FIGURES), *ADDED)
WHOLE = ("Exp num", "Epoch", "Best Epoch", "train images", "val images", "objects in val", "small objects in val",
         "medium objects in val", "large objects in val", "seed")
REAL = ("initial lr", *(f"val/{key}" for key in FIGURES), "parameters (M)", "train images/s", "val images/s",
        "peak memory (MB)")


def select(names: str | Sequence[str] = "", dataset: str = "") -> list[Run]:
    """The runs of these names, listed or separated by commas (empty = all), on this dataset (empty = any), oldest first.

    A run folder that cannot be read is passed over; `runs.listing.unreadable` names it. Raises RunError for an unknown name, for a dataset
    without runs, and when there is no run; it lists what is there.
    """
    known = list_runs()
    if not known:
        raise no_runs()
    asked = {run.folder: run for run in map(open_run, split_names(names))}
    chosen = by_start(list(asked.values()) or known)
    on_dataset = [run for run in chosen if dataset in ("", run.record["parameters"]["dataset"])]
    if not on_dataset:
        there = ", ".join(sorted({run.record["parameters"]["dataset"] for run in chosen}))
        raise RunError(f"none of these {len(chosen)} runs is on dataset '{dataset}': they are on {there}. "
                       "Leave `dataset` empty to compare all")
    return on_dataset


def comparison(runs: Sequence[Run]) -> pd.DataFrame:
    """The table, one row a run in the order of their start; columns are `COLUMNS` and those of `WHERE_DIFFERENT` in which the runs
    differ, figures are unrounded.

    Val figures are those of `runs.rows.row_of`.
    """
    ordered = by_start(runs)
    rows = [row_of(number, run) for number, run in zip(numbers_of(ordered), ordered, strict=True)]
    differing = [column for column in WHERE_DIFFERENT if len({row[column] for row in rows} - {None}) > 1]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *differing], dtype=object)
    return table.astype({**dict.fromkeys(WHOLE, "Int64"), **dict.fromkeys(REAL, "float64")})


def write_comparison(table: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """Write `comparison.csv` (unrounded) and `comparison.md` (three decimals) into `folder`; returns their paths.

    `pandas.read_csv(path, float_precision="round_trip")` reads every figure back to the bit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    csv, markdown = folder / "comparison.csv", folder / "comparison.md"
    write_text(csv, table.to_csv(index=False))
    cells = rounded(table).map(lambda cell: as_text(cell).replace("|", "\\|"))
    write_text(markdown, cells.to_markdown(index=False, disable_numparse=True) + "\n")
    return csv, markdown


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: figures to three decimals, the learning rate to four digits (three decimals make 1e-4 a 0)."""
    def cell(column: Any, value: Any) -> str:
        if pd.isna(value):
            return ""
        return format(value, ".4g" if column == "initial lr" else ".3f") if column in REAL else str(value)

    text = {column: [cell(column, value) for value in table[column]] for column in table}
    return pd.DataFrame(text, index=table.index, columns=table.columns, dtype=object)


def for_reading(table: pd.DataFrame) -> Styler:
    """The rounded table on its side, one column a run, for a notebook: its row names stay in sight while it scrolls."""
    lying = rounded(table).set_index("Exp num").T.rename_axis(columns="Exp num")
    cells: Any = {"selector": "td, th",
                  "props": "text-align: left; vertical-align: top; min-width: 8em; max-width: 11em; "
                           "overflow-wrap: anywhere; white-space: normal; font-size: 90%"}
    names: Any = {"selector": "th.row_heading, th.index_name",
                  "props": "min-width: 11em; background: var(--jp-layout-color0, white) !important"}  # opaque
    styled = lying.style.format(escape="html").set_sticky(axis="index")
    return styled.set_table_styles([cells, names], overwrite=False)


def labels(table: pd.DataFrame) -> list[str]:
    """A short, unique name a run for plots: number and backbone; detector where they differ, remedies, status where not done."""
    several = table["Detector"].nunique() > 1
    return [f"{row['Exp num']} {row['Backbone']}" + (f" · {row['Detector']}" if several else "")
            + (f" + {row['remedies'].replace(',', ' + ')}" if pd.notna(row["remedies"]) else "")
            + ("" if row["status"] == "done" else f" ({row['status']})") for _, row in table.iterrows()]


def as_text(words: object) -> str:
    """The words as Markdown shows them: a name from a file can be neither a tag nor a link."""
    return html.escape(" ".join(str(words).split()), quote=False).replace("](", "]\\(")
