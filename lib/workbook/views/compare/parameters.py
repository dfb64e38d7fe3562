"""What may be asked of a comparison."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field

from workbook.parameters import Asked, read_name
from workbook.runs.listing import list_runs
from workbook.runs.parameters import RunNames


def datasets_of_runs() -> set[str]:
    """The names of the datasets that runs were trained on; they need not lie in the data folder any more."""
    return {str(run.record["parameters"].get("dataset")) for run in list_runs()}


class ComparisonParameters(Asked):
    """The parameters of `5_compare.ipynb`."""

    runs: RunNames = Field((), description="run names, separated by commas; empty for all")
    dataset: Annotated[str, BeforeValidator(partial(read_name, there=datasets_of_runs))] = Field(
        "", description="only the runs on this dataset; empty for all")
