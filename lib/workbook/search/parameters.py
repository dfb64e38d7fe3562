"""What may be asked of a search for remedies."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from workbook.errors import ParameterError
from workbook.evaluation.sizes import AREA_RANGES
from workbook.parameters import Asked
from workbook.runs.parameters import RunName

UNITS = {"s": 1, "m": 60, "h": 3600}


class RemedyParameters(Asked):
    """The parameters of `6_remedy.ipynb`."""

    run: RunName = Field("", description="a run's name or folder; empty for the newest finished one")
    size: str = Field("small", description="whose AP is to rise: small, medium, large or all")
    budget: str = Field("", description="the time for all of it, such as 30m or 2h; empty for as long as it takes")

    @field_validator("size")
    @classmethod
    def _size(cls, value: str) -> str:
        if value not in AREA_RANGES:
            raise ValueError(f"no such size. Allowed: {', '.join(AREA_RANGES)}")
        return value

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str) -> str:
        parse_budget(value)
        return value


def parse_budget(text: str) -> float | None:
    """`30m` → 1800 seconds; empty → None. Raises ParameterError for anything else."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found or float(found[1]) <= 0:
        raise ParameterError(f"budget={text!r}: give a number above 0 with s, m or h: 90s, 30m, 2h")
    return float(found[1]) * UNITS[found[2]]
