"""Grids of parameters: a value or a list of values for any parameter of a run, standing for every combination."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from pydantic import StrictFloat, StrictInt, StrictStr

Value = StrictStr | StrictInt | StrictFloat
Grid = Mapping[str, Value | list[Value]]


def combinations(grids: Sequence[Grid]) -> list[dict[str, Value]]:
    """Every combination of every grid, in the order in which they are written."""
    listed = [{name: value if isinstance(value, list) else [value] for name, value in grid.items()} for grid in grids]
    return [dict(zip(grid, values, strict=True)) for grid in listed for values in itertools.product(*grid.values())]
