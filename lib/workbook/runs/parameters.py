"""How the names of runs are read."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import BeforeValidator

from workbook.parameters import read_name, read_names
from workbook.runs.listing import run_names

RunName = Annotated[str, BeforeValidator(partial(read_name, there=run_names))]
RunNames = Annotated[tuple[str, ...], BeforeValidator(partial(read_names, there=run_names))]
