"""Earlier experiments from a hand-kept table: `reported` rows, shown beside the runs and never given an interval.

A table has the comparison's columns, as Markdown or CSV. Before a row is believed it is checked: that it has a cell a column, that every
cell is what its column holds, and that its figures fit each other. Where a row has a cell too many, the cell is searched without which
all the others fit.

    outputs/reported/DATASET/TABLE.json
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbook.data.catalog import dataset_folder
from workbook.errors import RunError, WorkbookError
from workbook.files import outputs_root, read_json, write_json

AP_FIGURES = ("val/bbox_mAP", "val/bbox_mAP_50", "val/bbox_mAP_75", "val/bbox_mAP_s", "val/bbox_mAP_m", "val/bbox_mAP_l")
LOSSES = ("val/loss_rpn_cls", "val/loss_rpn_bbox", "val/loss_cls", "val/loss_bbox")
TOTAL = "val/loss"
SETTINGS = ("Exp num", "Backbone", "RoI Head", "Epoch", "Best Epoch", "initial lr", "Lr schd", "Optimizer", "Image size")
COLUMNS = (*SETTINGS, *AP_FIGURES, "val/loss_rpn_cls", "val/loss_rpn_bbox", "val/loss_cls", "val/acc", "val/loss_bbox", TOTAL)
NEEDED = ("Exp num", "Backbone", "val/bbox_mAP")
EPOCHS_OF_1X = 12  # mmdet's 1x schedule; 2x are twice as many
ROUNDING = 0.0006  # a figure that was written with three decimals, and a sum of four of them
BLANK = ("", "-", "–", "n/a", "nan", "none")


class TableError(WorkbookError):
    """A table cannot be adopted; the message names every wrong row and cell, and what to do."""


@dataclass(frozen=True)
class Reported:
    """One row of a table: column of the comparison → its value; a column that the row leaves blank is not there."""

    dataset: str
    table: str  # the file it came from
    values: Mapping[str, str | int | float]


def adopt(path: Path, dataset: str) -> list[Reported]:
    """Read a table and save its rows for a dataset; the same table again replaces its rows.

    Raises TableError with all that is wrong with it, and then nothing is saved; DataError for a dataset that is not there.
    """
    dataset_folder(dataset)
    rows = read_table(path, dataset)
    folder = reported_root() / _folder_name(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{path.name}.json", {
        "dataset": dataset, "table": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "rows": [asdict(row)["values"] for row in rows],
    })
    return rows


def reported_root() -> Path:
    """The folder of all adopted tables."""
    return outputs_root() / "reported"


def reported_rows(datasets: Sequence[str]) -> list[Reported]:
    """The adopted rows of these datasets, table by table. Raises RunError for a broken file, naming it."""
    found = []
    for dataset in dict.fromkeys(datasets):
        for path in sorted((reported_root() / _folder_name(dataset)).glob("*.json")):
            content = read_adopted(path)
            if content["dataset"] == dataset:  # a / in a name is a _ in its folder's
                found += [Reported(dataset, content["table"], values) for values in content["rows"]]
    return found


def read_adopted(path: Path) -> dict[str, Any]:
    """What `adopt` has saved of a table: dataset, table, rows. Raises RunError for a file that does not hold them, naming it."""
    try:
        content: dict[str, Any] = read_json(path)
        _ = content["dataset"], content["table"], [dict(values) for values in content["rows"]]
    except (RunError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is not as `workbook adopt` writes it ({type(error).__name__}): adopt the table again, or delete the "
                       "file") from None
    return content


def read_table(path: Path, dataset: str) -> list[Reported]:
    """The rows of a Markdown or CSV table. Raises TableError with all that is wrong with it."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read ({error}): give a Markdown or CSV file in UTF-8") from error
    lines = _markdown_rows(text) if "|" in text else _csv_rows(text)
    if len(lines) < 2:
        raise TableError(f"{path} holds no table: a Markdown table has | between its cells, a CSV file commas, and both a row of column "
                         f"names and one row an experiment. Columns: {', '.join(COLUMNS)}")
    (_, header), *rows = lines
    wrong = _wrong_header(header)
    if wrong:
        raise TableError(f"{path} cannot be adopted:\n" + "\n".join(f"  - {words}" for words in wrong))
    found = []
    numbers: dict[str, int] = {}
    for line, cells in rows:
        problems = _problems(header, cells)
        number = cells[0] if cells else ""
        if number in numbers:
            problems.append(f"Exp num {number} is in line {numbers[number]} too. Give each experiment its own")
        numbers.setdefault(number, line)
        wrong += [f"line {line}, Exp {number}: {words}" for words in problems]
        if not problems:
            found.append(Reported(dataset, path.name, _values(header, cells)))
    if wrong:
        head = f"{path} cannot be adopted; nothing was saved. Correct these and call again:"
        raise TableError("\n".join([head, *(f"  - {words}" for words in wrong)]))
    return found


def _folder_name(dataset: str) -> str:
    return re.sub(r"[^\w.-]", "_", dataset)


def _markdown_rows(text: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of each row; the line of dashes is left out."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if "|" not in line:
            continue
        inner = re.sub(r"(?<!\\)\|\s*$", "", line.strip().removeprefix("|"))
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]
        if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            rows.append((number, cells))
    return rows


def _csv_rows(text: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text))
    return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]


def _wrong_header(header: Sequence[str]) -> list[str]:
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in NEEDED if name not in header]
    wrong = []
    if unknown:
        wrong.append(f"unknown columns: {', '.join(unknown)}. Known: {', '.join(COLUMNS)}")
    if missing:
        wrong.append(f"without the columns {', '.join(missing)} a row says nothing: add them")
    wrong += [f"the column {name} is there twice: leave one out" for name in dict.fromkeys(header) if list(header).count(name) > 1]
    return wrong


def _problems(header: Sequence[str], cells: Sequence[str]) -> list[str]:
    """What is wrong with a row, in words; a row may be shorter than the header, its last cells are blank then."""
    if len(cells) > len(header):
        return [_too_many(header, cells)]
    problems = _wrong_cells(header, cells)
    return problems or _misfits(header, cells)


def _too_many(header: Sequence[str], cells: Sequence[str]) -> str:
    """Which cell is too many: the one without which all the others are what their columns hold and fit each other."""
    count = f"{len(cells)} cells for {len(header)} columns"
    if len(cells) > len(header) + 1:
        return f"{count}: take {len(cells) - len(header)} cells out"
    without = {at: [*cells[:at], *cells[at + 1 :]] for at in range(len(cells))}
    sound = [at for at, row in without.items() if not _wrong_cells(header, row) and not _misfits(header, row)]
    alike = {tuple(without[at]) for at in sound}
    if len(alike) != 1:
        may = ", ".join(f"{at + 1} ({cells[at]})" for at in sound) or "none alone"
        return f"{count}: one is too many, and it cannot be told which (without it the row would be sound: {may}). Take it out"
    at = sound[0]
    stands = header[at] if at < len(header) else "after the last column"
    row = ", ".join(f"{name} {cell}" for name, cell in zip(header, without[at], strict=True) if cell.lower() not in BLANK)
    return (f"{count}: cell {at + 1}, '{cells[at]}' under {stands}, is too many. Without it every figure fits its column"
            f"{_sum_words(header, without[at])}, and the row is: {row}. Take it out")


def _sum_words(header: Sequence[str], cells: Sequence[str]) -> str:
    figures = _figures(header, cells)
    return " and the losses add up to val/loss" if all(name in figures for name in (*LOSSES, TOTAL)) else ""


def _wrong_cells(header: Sequence[str], cells: Sequence[str]) -> list[str]:
    wrong = []
    for name, cell in zip(header, cells, strict=False):
        if name in NEEDED and cell.lower() in BLANK:
            wrong.append(f"{name} is blank: it is needed")
        elif cell.lower() not in BLANK and (allowed := _not_allowed(name, cell)):
            wrong.append(f"{name} is '{cell}'. Allowed: {allowed}. {_what_to_do(name, cell)}")
    wrong += [f"{name} is blank: it is needed" for name in NEEDED if name in header[len(cells) :]]
    return wrong


def _what_to_do(name: str, cell: str) -> str:
    with_a_point = cell.replace(",", ".")
    if cell.count(",") == 1 and not _not_allowed(name, with_a_point):
        return f"Write it with a point: {with_a_point}"
    return "Is a cell missing, or one too many, before it?"


def _not_allowed(name: str, cell: str) -> str:
    """What a column holds, where the cell is nothing such; else empty."""
    number = _number(cell)
    if name in AP_FIGURES:
        return "" if number is not None and 0 <= number <= 1 else "a precision from 0 to 1"
    if name == "val/acc":
        return "" if number is not None and 0 <= number <= 100 else "a share in percent, 0 to 100"
    if name.startswith("val/"):
        return "" if number is not None and number >= 0 else "a loss, from 0"
    if name in ("Epoch", "Best Epoch"):
        return "" if _epochs(cell) is not None else "a whole number of epochs, or 1x"
    if name == "initial lr":
        return "" if _rate(cell) is not None else "a number above 0, such as 0.002"
    if name == "Image size":
        return "" if re.fullmatch(r"\d+(\s*[x×*,]\s*\d+)?", cell) else "pixels, such as 1024 or 1333x800"
    return "" if number is None or name == "Exp num" else "words, and this is a number"


def _misfits(header: Sequence[str], cells: Sequence[str]) -> list[str]:
    """Figures of a row that cannot stand beside each other."""
    figures = _figures(header, cells)
    wrong = []
    for lower, higher in (("val/bbox_mAP", "val/bbox_mAP_50"), ("val/bbox_mAP_75", "val/bbox_mAP_50")):
        if lower in figures and higher in figures and figures[lower] > figures[higher]:
            wrong.append(f"{lower} {figures[lower]:g} is above {higher} {figures[higher]:g}, which cannot be: correct one of them")
    if all(name in figures for name in (*LOSSES, TOTAL)):
        total = sum(figures[name] for name in LOSSES)
        if not math.isclose(total, figures[TOTAL], rel_tol=0.002, abs_tol=ROUNDING):
            wrong.append(f"the losses add up to {total:.4f}, but val/loss is {figures[TOTAL]:g}: correct the wrong one")
    named = dict(zip(header, cells, strict=False))
    epochs = _epochs(named.get("Epoch", ""))
    best = _epochs(named.get("Best Epoch", ""))
    if epochs is not None and best is not None and best > epochs:
        wrong.append(f"Best Epoch {best} is after the last one, {epochs}: correct one of them")
    return wrong


def _figures(header: Sequence[str], cells: Sequence[str]) -> dict[str, float]:
    numbers = {name: _number(cell) for name, cell in zip(header, cells, strict=False) if name.startswith("val/")}
    return {name: number for name, number in numbers.items() if number is not None}


def _values(header: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """A sound row as the comparison has it: figures as numbers, epochs whole."""
    readers: dict[str, Callable[[str], Any]] = {"Epoch": _epochs, "Best Epoch": _epochs, "initial lr": _rate}
    values: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        if cell.lower() in BLANK:
            continue
        reader = readers.get(name, _number if name.startswith("val/") else str)
        values[name] = reader(cell)
    return values


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _epochs(text: str) -> int | None:
    """`12`, or `1x` for mmdet's schedule of 12 epochs."""
    found = re.fullmatch(r"(\d+)(x?)", text)
    if not found:
        return None
    return int(found[1]) * (EPOCHS_OF_1X if found[2] else 1)


def _rate(text: str) -> float | None:
    """`0.002`, or `lr=0.002`."""
    value = _number(text.removeprefix("lr=").strip())
    return value if value is not None and value > 0 else None
