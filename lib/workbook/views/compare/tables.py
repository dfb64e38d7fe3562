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
from workbook.runs.aspects import ABSENT, value_at
from workbook.runs.folder import Run, with_later_parameters
from workbook.runs.listing import by_start, list_runs, no_runs, open_run, split_names
from workbook.runs.numbers import exp_numbers

if TYPE_CHECKING:  # it loads matplotlib, which the command line does not need
    from pandas.io.formats.style import Styler

# column → where run.json has it
SETTINGS = {
    "Backbone": "parameters.backbone", "RoI Head": "model.roi_head", "Epoch": "epochs_done", "Best Epoch": "best_epoch",
    "initial lr": "optimizer.lr", "Lr schd": "schedule", "Optimizer": "optimizer.type",
    "Image size": "parameters.image_size",
}
FIGURES = (
    "bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l",
    "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss",
)
ADDED = {
    "Detector": "parameters.detector", "status": "status", "parameters (M)": "model.parameters_m",
    "train images/s": "train_images_per_second", "val images/s": "val_images_per_second",
    "peak memory (MB)": "peak_memory_mb", "train images": "data.train_images", "val images": "data.val_images",
    "objects in val": "data.val_objects", "small objects in val": "data.val_small",
    "medium objects in val": "data.val_medium", "large objects in val": "data.val_large",
    "remedies": "parameters.remedies", "dataset": "parameters.dataset", "seed": "parameters.seed", "run": "name",
}
WHERE_DIFFERENT = {"empty images": "parameters.empty_images"}  # columns that are only there when the runs differ in them
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


def numbers_of(runs: Sequence[Run]) -> list[int]:
    """The experiment number of each run: that of its folder of runs, so that it is the same in every choice of runs."""
    of_root = {root: exp_numbers(root) for root in {run.folder.parent for run in runs}}
    return [of_root[run.folder.parent][run.name] for run in runs]


def comparison(runs: Sequence[Run]) -> pd.DataFrame:
    """The table, one row a run in the order of their start; columns are `COLUMNS` and those of `WHERE_DIFFERENT` in which the runs
    differ, figures are unrounded.

    Val figures are those of the best epoch (largest bbox_mAP). A run that is not done shows its best epoch so far.
    """
    ordered = by_start(runs)
    rows = [_row(number, run) for number, run in zip(numbers_of(ordered), ordered, strict=True)]
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
    """A short, unique name a run for plots: number and backbone; detector where they differ, status where not done."""
    several = table["Detector"].nunique() > 1
    return [f"{row['Exp num']} {row['Backbone']}" + (f" · {row['Detector']}" if several else "")
            + ("" if row["status"] == "done" else f" ({row['status']})") for _, row in table.iterrows()]


def as_text(words: object) -> str:
    """The words as Markdown shows them: a name from a file can be neither a tag nor a link."""
    return html.escape(" ".join(str(words).split()), quote=False).replace("](", "]\\(")


def best_val_line(run: Run) -> dict[str, Any]:
    """The val line with the largest bbox_mAP (the first of equals): `metrics.json` of a done run, else from its log.

    Empty while the run has no val line; the last one where val has no objects at all, so that no epoch is best.
    """
    if run.status == "done":
        return run.metrics()
    log = run.log()
    lines: list[dict[Any, Any]] = log[log["mode"] == "val"].to_dict("records") if len(log) else []
    scored = [line for line in lines if pd.notna(line.get("bbox_mAP"))]
    return max(scored, key=lambda line: line["bbox_mAP"]) if scored else (lines or [{}])[-1]


def _row(number: int, run: Run) -> dict[str, Any]:
    record = with_later_parameters(run.record)
    line = best_val_line(run)
    row = {column: value_at(record, path) for column, path in {**SETTINGS, **ADDED, **WHERE_DIFFERENT}.items()}
    row = {column: None if value is ABSENT or value == "" else value for column, value in row.items()}
    if row["Image size"]:
        row["Image size"] = "x".join(map(str, row["Image size"]))
    if record["status"] != "done":  # what run.json says at the end is not written yet: the log knows
        log = run.log()
        row["Epoch"] = int(log.loc[log["mode"] == "val", "epoch"].max()) if line else 0
        row["Best Epoch"] = line["epoch"] if pd.notna(line.get("bbox_mAP")) else None
    return {"Exp num": number, **row, **{f"val/{key}": line.get(key) for key in FIGURES}, "run": run.name}
