"""The number of an experiment: given once, when its run is made, and never again."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbook.files import write_text
from workbook.runs.lease import Lease


def exp_numbers(root: Path) -> dict[str, int]:
    """Name → experiment number of every run in `root`, a folder of runs, whichever of them are shown.

    The number is written into `run.json` when a run is made, so it stays when other runs come and go, and is not used
    again. Runs without one (made before there were numbers, or copied from a folder where another has it) get the free
    numbers in the order of their start. A broken record counts as far as its number or its start can be read.
    """
    marks = sorted((_mark(path) for path in root.glob("*/run.json")), key=lambda mark: (mark[1] or "~", mark[0]))
    owners: dict[int, str] = {}
    for name, _, number in marks:
        if number:
            owners.setdefault(number, name)
    numbers = {name: number for number, name in owners.items()}
    unnumbered = [name for name, started, _ in marks if name not in numbers and started]
    free = (number for number in itertools.count(1) if number not in owners)
    return numbers | dict(zip(unnumbered, itertools.islice(free, len(unnumbered)), strict=True))


def _mark(path: Path) -> tuple[str, str, int]:
    """Name, start and number of the run of this `run.json`, a broken one too; empty and 0 where it does not say."""
    try:
        text = path.read_text(errors="replace")
        record = json.loads(text)
    except OSError:
        record = {}
    except ValueError:  # cut off: what stands before the cut is still good
        found = re.findall(r'^ "(started|number)": "?([^",\n]+)"?,$', text, re.MULTILINE)
        record = {key: int(value) if value.isdigit() else value for key, value in found}
    record = record if isinstance(record, dict) else {}
    started, number = record.get("started"), record.get("number")
    if not isinstance(started, str):
        started = ""
    if not isinstance(number, int) or number < 1:
        number = 0
    return path.parent.name, started, number


@contextmanager
def next_number(root: Path) -> Iterator[int]:
    """The number of a run that is made inside; one process at a time may make one. A number is given once, also when
    its run is gone."""
    lease = Lease(root / ".number.json")
    while lease.acquire():
        time.sleep(0.02)
    try:
        last = root / ".last_number"
        given = int(last.read_text()) if last.exists() else 0
        number = max([given, *exp_numbers(root).values()]) + 1
        yield number
        write_text(last, f"{number}\n")
    finally:
        lease.release()
