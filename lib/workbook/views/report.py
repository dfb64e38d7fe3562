"""One page of everything: every run, every study with its verdicts, every remedy that was proven. It needs no network.

All words that come from files (names of runs, data sets and studies, claims, errors) are escaped.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from workbook.errors import RunError
from workbook.files import outputs_root, read_json, write_text
from workbook.runs.folder import Run, now
from workbook.runs.listing import list_runs, unreadable
from workbook.runs.reported import read_adopted
from workbook.studies.store import known_studies, load_verdicts, study_folder
from workbook.studies.verdicts import Verdict
from workbook.views.compare.reported import REPORTED, with_reported
from workbook.views.compare.tables import comparison

FIGURES = ("val/bbox_mAP", "val/bbox_mAP_50", "val/bbox_mAP_75", "val/bbox_mAP_s", "val/bbox_mAP_m", "val/bbox_mAP_l")
RUN_COLUMNS = ("Exp num", "Backbone", "Detector", "dataset", "seed", "status", "Epoch", "Best Epoch", *FIGURES, "small objects in val")
SIZES = ("all", "small", "medium", "large")

# Sorts the rows of a table by the column whose head is clicked: numbers as numbers, blanks last.
SCRIPT = """
document.querySelectorAll("table.sortable").forEach(table => table.querySelectorAll("th button").forEach((button, column) => {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = table.tBodies[0];
    const falling = head.getAttribute("aria-sort") !== "descending";
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const compare = (one, other) => {
      const a = value(one), b = value(other);
      if (a === "" || b === "") return (a === "") - (b === "");
      const numbers = a !== "" && b !== "" && !isNaN(a) && !isNaN(b);
      const order = numbers ? a - b : a.localeCompare(b, undefined, {numeric: true});
      return falling ? -order : order;
    };
    [...body.rows].sort(compare).forEach(row => body.append(row));
  });
}));
"""
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, "Noto Sans CJK SC", sans-serif; margin: 2rem auto; padding: 0 1.5rem; max-width: 90rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8885; }
td { overflow-wrap: break-word; max-width: 34em; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid; }
th[aria-sort=descending] button::after { content: " \\2193"; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
.scroll { overflow-x: auto; }
.note { color: #777; }
"""


def write_report() -> Path:
    """Write outputs/index.html from what the folders hold; returns its path."""
    root = outputs_root()
    root.mkdir(parents=True, exist_ok=True)
    path = root / "index.html"
    write_text(path, page(root))
    return path


def page(root: Path) -> str:
    """The HTML. root: the folder of everything that is made; links are relative to it."""
    parts = [
        "<h1>The backbone workbook</h1>",
        f'<p class="note">Made by <code>workbook report</code>, {html.escape(now())}. Click a head to sort.</p>',
        "<h2>Studies</h2>", _studies(root), "<h2>Remedies that were proven</h2>", _remedies(root), "<h2>Runs</h2>", _runs(root),
    ]
    body = "\n".join(parts)
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>The backbone workbook</title>\n'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n'
            "</body></html>\n")


def _runs(root: Path) -> str:
    """Every run with its figures and links to its pages, and the folders that cannot be read, with the reasons."""
    runs = {run.name: run for run in list_runs()}
    table = comparison(list(runs.values()))
    try:
        shown = with_reported(table, sorted({str(name) for name in table["dataset"].dropna()} | set(_reported_datasets(root))))
        broken = ""
    except RunError as error:
        shown, broken = table, f"No row of an adopted table is shown: {error}"
    notes = list(filter(None, [unreadable(), broken]))
    rows = []
    for row in shown.to_dict("records"):
        run_of_row = runs.get(str(row["run"]))
        status = _status(row, run_of_row)
        cells = [_cell(status if name == "status" else row[name]) for name in RUN_COLUMNS]
        rows.append([*cells, _links(run_of_row, root) if run_of_row else _text(str(row["run"]))])
    words = [f'<p class="note">{html.escape(note)}</p>' for note in notes]
    heads = [name.removeprefix("val/bbox_") for name in RUN_COLUMNS]
    if not rows:
        return "\n".join(["<p>No runs yet.</p>", *words])
    return "\n".join([_table([*heads, "run and its pages"], rows), *words])


def _status(row: Mapping[Any, Any], run: Run | None) -> str:
    """The status of a run; `broken off` when it is not finished and nobody trains it."""
    if row["status"] == REPORTED or run is None:
        return str(row["status"])
    return "broken off" if row["status"] == "running" and not run.busy else str(row["status"])


def _reported_datasets(root: Path) -> list[str]:
    found = []
    for path in sorted((root / "reported").glob("*/*.json")):
        found.append(str(read_adopted(path)["dataset"]))
    return found


def _links(run: Run, root: Path) -> str:
    """The run's name and its pages, the notebooks that were executed in its folder."""
    pages = sorted(run.folder.glob("*.html"))
    links = [_link(path, path.stem, root) for path in pages]
    return _text(f"{html.escape(run.name)}{': ' if links else ''}{', '.join(links)}")


def _studies(root: Path) -> str:
    rows = []
    notes = []
    for name in known_studies():
        folder = study_folder(name)
        try:
            verdicts = load_verdicts(folder)
        except RunError as error:
            notes.append(f'<p class="note">{html.escape(str(error))}</p>')
            continue
        links = ", ".join(_link(folder / file, file, root) for file in ("7_study.html", "note.md") if (folder / file).is_file())
        rows += [_verdict_row(name, links, verdict) for verdict in verdicts] or [_no_claims(name, links)]
    if not rows:
        return "\n".join(["<p>No study has verdicts yet.</p>", *notes])
    heads = ["study", "claim", "verdict", "difference", "from", "to", "seeds", "images", "because", "pages"]
    return "\n".join([_table(heads, rows), *notes])


def _no_claims(name: str, links: str) -> list[str]:
    return [_cell(name), _cell("none: this study claims nothing"), *[_cell("")] * 7, _text(links)]


def _verdict_row(name: str, links: str, verdict: Verdict) -> list[str]:
    words = [_cell(name), _cell(verdict.claim), _cell(verdict.verdict)]
    figures = [_cell(verdict.value), _cell(verdict.low), _cell(verdict.high), _cell(verdict.seeds), _cell(verdict.images)]
    return [*words, *figures, _cell(verdict.reason), _text(links)]


def _remedies(root: Path) -> str:
    """Each proof with its sizes; one that cannot be read is named."""
    rows = []
    notes = []
    for path in sorted((root / "remedies").glob("*/proof.json")):
        try:
            rows += _proof_rows(read_json(path), path, root)
        except (RunError, KeyError, TypeError, AttributeError) as error:
            words = f"{path} is no proof of a remedy ({type(error).__name__}: {error})"
            notes.append(f'<p class="note">{html.escape(words)}</p>')
    if not rows:
        return "\n".join(["<p>None yet.</p>", *notes])
    heads = ["run", "remedy", "size", "before", "after", "difference", "from", "to", "promised", "seeds", "pages"]
    return "\n".join([_table(heads, rows), *notes])


def _proof_rows(proof: Mapping[str, Any], path: Path, root: Path) -> list[list[str]]:
    links = ", ".join(_link(page, page.stem, root) for page in sorted(path.parent.glob("*.html")))
    seeds = proof["seeds"]
    count = len(seeds) if isinstance(seeds, list) else seeds
    rows = []
    for size in [size for size in SIZES if size in proof["sizes"]]:
        of_size = proof["sizes"][size]
        figures = [_cell(of_size[key]) for key in ("before", "after", "difference", "low", "high", "promised")]
        rows.append([_cell(proof["run"]), _cell(proof["winner"]), _cell(size), *figures, _cell(count), _text(links)])
    return rows


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col"><button type="button">{html.escape(name)}</button></th>' for name in heads)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    """A cell: figures to three decimals, sorted by what they are; blank for none."""
    if value is None or (not isinstance(value, str | list) and pd.isna(value)):
        return "<td></td>"
    if isinstance(value, bool) or not isinstance(value, float | int):
        return _text(html.escape(str(value)))
    shown = f"{value:.3f}" if isinstance(value, float) else str(value)
    return f'<td class="number" data-value="{value!r}">{shown}</td>'


def _text(markup: str) -> str:
    return f"<td>{markup}</td>"


def _link(path: Path, words: str, root: Path) -> str:
    """A link from the page to a file below or beside its folder."""
    return f'<a href="{html.escape(quote(os.path.relpath(path, root)))}">{html.escape(words)}</a>'
