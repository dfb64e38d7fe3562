"""The commands of results: list, compare, report, evaluate, adopt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from workbook.cli_options import RunName
from workbook.errors import WorkbookError
from workbook.files import outputs_root
from workbook.parameters import check as check_values
from workbook.runs.listing import finished_run, no_runs, readable_and_broken, unreadable_words
from workbook.runs.rows import numbers_of, row_of
from workbook.terminal import open_console
from workbook.words import counted

RESULTS = (".json", ".pkl", ".pickle", ".pth", ".pt")  # files that are no table: detections, and what may hold them

app = typer.Typer()


@app.command("list", epilog="Example: workbook list")
def list_command() -> None:
    """All runs, oldest first, with their status and mAP. A run is `broken off` when it is not finished and nobody trains it."""
    runs, broken = readable_and_broken()
    if not runs:
        raise no_runs()
    idle = {run.name for run in runs if not run.busy}
    table = Table("Exp", "run", "dataset", "status", "epochs", "mAP", "mAP_50", "mAP_s", box=None)
    for number, run in zip(numbers_of(runs), runs, strict=True):
        row = row_of(number, run)
        figures = [_three_decimals(row[f"val/{key}"]) for key in ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_s")]
        status = "broken off" if row["status"] == "running" and row["run"] in idle else row["status"]
        table.add_row(str(row["Exp num"]), escape(row["run"]), escape(row["dataset"]), status, _whole(row["Epoch"]), *figures)
    open_console().print(table)
    if words := unreadable_words(broken):
        print(words, file=sys.stderr)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


def _three_decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@app.command(epilog="Example: workbook compare --dataset tree_crowns")
def compare(
    runs: Annotated[str, typer.Option(help="run names, separated by commas; empty = all")] = "",
    dataset: Annotated[str, typer.Option(help="only the runs on this dataset; empty = all")] = "",
) -> None:
    """One table of the runs, from their folders alone: outputs/comparison.csv and .md, and what may be concluded."""
    from rich.markdown import Markdown

    from workbook.views.compare.parameters import ComparisonParameters
    from workbook.views.compare.reported import with_reported
    from workbook.views.compare.summary import summarize
    from workbook.views.compare.tables import comparison, select, write_comparison

    asked = check_values(ComparisonParameters, {"runs": runs, "dataset": dataset})
    chosen = select(asked.runs, asked.dataset)
    datasets = [run.record["parameters"]["dataset"] for run in chosen]
    paths = write_comparison(with_reported(comparison(chosen), datasets), outputs_root())
    open_console().print(Markdown(summarize(chosen)))
    print(*paths, sep="\n")


@app.command(epilog="Example: workbook report")
def report() -> None:
    """One page of everything, outputs/index.html: runs, studies with their verdicts, remedies that were proven. Needs no network."""
    from workbook.views.report import write_report

    print(f"page: {write_report()}")


@app.command(epilog="Example: workbook evaluate faster_rcnn-tf_efficientnet_lite0-cb294171 --remedies soft_nms")
def evaluate(
    name: RunName,
    remedies: Annotated[str, typer.Option(help="those that need no training, joined with + or commas")] = "",
    overrides: Annotated[str, typer.Option(help="test settings: 'model.test_cfg.rcnn.score_thr=0.01', separated by spaces")] = "",
) -> None:
    """Measure a finished run on val under other test settings, in the time of one validation.

    The result is a folder beside the run's own files; the table compares the two, with intervals paired over the val images.
    """
    chosen = finished_run(name)
    from workbook.training.evaluate import evaluate_run

    found = evaluate_run(chosen, remedies, overrides)
    table = Table("figure", "run", "evaluated", "difference", box=None)
    for row in found.rows:
        table.add_row(row.figure, _figure(row.run), _figure(row.evaluation), row.difference)
    open_console().print(table)
    for note in found.notes:
        print(f"note: {note}")
    print(f"{'already there: ' if found.was_there else ''}{found.folder}")


@app.command(epilog="Example: workbook adopt predictions.json --dataset litter")
def adopt(
    path: Annotated[Path, typer.Argument(help="an mmdet work_dir or checkpoint; COCO results (JSON) or their folder; a table")],
    dataset: Annotated[str, typer.Option(help="the dataset that was trained on, with the same val images")],
) -> None:
    """What you have trained already: mmdet's work_dir or any detector's detections become a run, a hand-kept table `reported` rows.

    Weights and detections are measured here, on the dataset's val. Detections are diagnosed by what they show, weights stage by stage.

    Rows of a table never get an interval; the same table again replaces its rows.
    All that is wrong is named at once, and then nothing is adopted.
    """
    if not path.exists():
        raise WorkbookError(f"{path}: no such file or folder. Give a work_dir or checkpoint of mmdet, COCO results (JSON), a folder of "
                            "text files of `yolo predict`, or a table (Markdown, CSV)")
    if path.is_dir() or path.suffix in RESULTS:
        _adopt_run(path, dataset)
        return
    from workbook.runs.reported import adopt as adopt_table

    rows = adopt_table(path, dataset)
    print(f"adopted {counted(len(rows), 'row')} of {path} for dataset {dataset}: "
          f"`workbook compare --dataset {dataset}` shows them")


def _adopt_run(path: Path, dataset: str) -> None:
    from workbook.runs.adopt.work_dir import is_work_dir

    if is_work_dir(path):
        from workbook.training.adopt import adopt_work_dir

        found = adopt_work_dir(path, dataset)
    else:
        from workbook.runs.adopt.adopt import adopt_run

        found = adopt_run(path, dataset)
    for note in found.notes:
        print(note)
    print(f"{'already there: ' if found.was_there else ''}{found.run.folder}")
