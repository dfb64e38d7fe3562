"""The commands of datasets: check, import, export, split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbook.terminal import exit_when_stopped

if TYPE_CHECKING:
    from workbook.data.entries import Problem

app = typer.Typer()


@app.command(epilog="Example: workbook check litter")
def check(name: Annotated[str, typer.Argument(help="a folder of data/, or tree_crowns")]) -> None:
    """Read a dataset whole and report every problem at once. Errors end with code 1; notes do not."""
    from workbook.data.catalog import dataset_folder
    from workbook.data.checks import check_dataset

    with exit_when_stopped():
        problems = check_dataset(dataset_folder(name))
    _print_check(name, problems)


def _print_check(name: str, problems: Sequence[Problem], failed: bool = False) -> None:
    """Errors end the command with code 1, as `failed` does; notes do not."""
    for problem in problems:
        print(problem)
    errors = sum(problem.level == "error" for problem in problems)
    print(f"{name}: {errors} errors, {len(problems) - errors} notes")
    raise typer.Exit(1 if errors or failed else 0)


@app.command("import", epilog="Example: workbook import ~/downloads/litter-yolo litter")
def import_command(
    path: Annotated[Path, typer.Argument(help="the folder that holds labels and images, or the data.yaml, json or csv")],
    name: Annotated[str, typer.Argument(help="the new folder of data/")],
    format_: Annotated[str, typer.Option("--format", help="where it is not recognised, or two fit: yolo, voc, coco ...")] = "",
    copy: Annotated[bool, typer.Option("--copy", help="copy the images; else images/ is a link to their folder")] = False,
    split: Annotated[bool, typer.Option("--split", help="make a val set, as `workbook split` does")] = False,
) -> None:
    """Labels in another format become data/NAME: YOLO, Pascal VOC, COCO, labelme, VisDrone, DOTA, OpenImages, CSV.

    What cannot be read is listed all at once, and then nothing is written. Else `workbook check` follows: errors end with code 1.
    """
    from workbook.data.importers.command import import_dataset, left_of_import
    from workbook.training.signals import StopSignals

    with exit_when_stopped(lambda: left_of_import(name)), StopSignals() as stop, stop.at_once():
        made = import_dataset(path, name, format_, copy, split)
    print(*made.summary, sep="\n")
    if made.not_split:
        print(f"error: not split: {made.not_split}. `workbook split {name}` tries it again")
    _print_check(name, made.problems, failed=bool(made.not_split))


@app.command(epilog="Example: workbook export litter --to yolo")
def export(
    name: Annotated[str, typer.Argument(help="a folder of data/, or tree_crowns")],
    to: Annotated[str, typer.Option(help="yolo, voc or coco")],
) -> None:
    """A dataset in another format, with copies of the images: outputs/exports/NAME-FORMAT. Says what the format cannot hold."""
    from workbook.data.exporters.command import export_dataset
    from workbook.training.signals import StopSignals

    with exit_when_stopped(lambda: "nothing was written"), StopSignals() as stop, stop.at_once():
        done = export_dataset(name, to)
    print(*(f"note: {note}" for note in done.notes), done.folder, sep="\n")


@app.command(epilog="Example: workbook split litter --val-share 0.2 --group-by location")
def split(
    name: Annotated[str, typer.Argument(help="a folder of data/ with train.json and no val.json")],
    val_share: Annotated[float, typer.Option(help="share of the images that go to val, between 0 and 1")] = 0.2,
    seed: Annotated[int, typer.Option(help="another seed, another split")] = 0,
    group_by: Annotated[str, typer.Option(help="a field of the images; those with the same value stay together")] = "",
) -> None:
    """Make a val set from train.json: stratified by class and object size, seeded. The whole file stays as all.json."""
    from workbook.data.split import split as split_dataset

    print(*split_dataset(name, val_share=val_share, seed=seed, group_by=group_by), sep="\n")
