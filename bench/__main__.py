"""`python -m bench [ROW ...]`: the workbook against stock mmdet, row by row; `make bench` does all, the demo among them.

Writes bench/results.json, where a row that is done again replaces the old one, and the table in bench/README.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

import workbook  # noqa: F401  as in every process of a user: it says how threads wait, before torch is loaded

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
START, END = "<!-- made by make bench -->", "<!-- end -->"
PAGE = """# The workbook against stock mmdet

`make bench` makes this page and the table in the README; `python -m bench P1` does one row. Stock is mmdet's own runner, loader and
operators on the same config, weights and images, unless the row says otherwise; both sides take turns. A figure is the median, in
brackets the fastest and slowest. The seconds of every turn, with the commit they were taken at, are in
`results.json`.

{table}"""
ROWS = ("P1", "P1e", "P1s", "P1t", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14", "P15", "P16", "P17")


def main(asked: list[str]) -> None:
    if unknown := sorted(set(asked) - set(ROWS)):
        sys.exit(f"no such row: {', '.join(unknown)}. There are: {', '.join(ROWS)}")
    with tempfile.TemporaryDirectory() as folder:  # before the package is loaded: nothing of the bench belongs to the user's outputs
        os.environ.update(WORKBOOK_OUTPUTS=f"{folder}/outputs", WORKBOOK_DATA=f"{folder}/data")
        measure(asked or list(ROWS))


def measure(keys: list[str]) -> None:
    from bench import fiftyone_speed, numbers, scale, training, whole
    from bench.row import Row, machine
    from workbook.files import write_json, write_text
    from workbook.training.environment import git_commit, versions

    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    results["machine"] = machine()
    results["versions"] = versions()
    commit = git_commit()  # once: the first row changes README
    for key in keys:
        print(f"{key} ...", flush=True)
        room = next(room for room in (training, numbers, scale, whole, fiftyone_speed) if hasattr(room, key.lower()))
        rows: list[Row] = getattr(room, key.lower())()
        for row in rows:
            print(f"  {row.work}: stock {row.stock or 'none'}, ours {row.ours}; {row.figure} (target {row.target})", flush=True)
        results["rows"][key] = [dataclasses.asdict(row) | {"commit": commit} for row in rows]
        write_json(path, results)
        write_text(HERE / "README.md", PAGE.format(table=table(results)))
        before, _, rest = README.read_text().partition(START)
        write_text(README, before + START + "\n" + table(results) + END + rest.partition(END)[2])


def table(results: dict) -> str:
    """The results as Markdown, with the machine they were taken on."""
    machine = results["machine"]
    bf16 = f"{machine['gemm_bf16']:.0f} in bf16" if machine["gemm_bf16"] else "no bf16 in hardware"
    lines = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {', '.join(machine['instructions'])}, {machine['memory_gb']} GB; "
        f"a large matrix product makes {machine['gemm_fp32']:.0f} GFLOP/s in fp32, {bf16}. torch {machine['torch']}.", "",
        "| row | work | stock | ours | figure | target | met |", "|---|---|---|---|---|---|---|",
    ]
    for key in ROWS:
        for row in results["rows"].get(key, []):
            met = {True: "yes", False: "no", None: ""}[row["met"]]
            lines.append(f"| {key} | {row['work']} | {row['stock']} | {row['ours']} | **{row['figure']}** | {row['target']} | {met} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
