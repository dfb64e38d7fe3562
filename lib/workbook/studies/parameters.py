"""What may be asked of a study that was made."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field

from workbook.parameters import Asked, read_name
from workbook.studies.store import known_studies


class StudyParameters(Asked):
    """The parameters of `7_study.ipynb`."""

    study: Annotated[str, BeforeValidator(partial(read_name, there=known_studies))] = Field(
        "", description="the name of a study, as outputs/studies has it")
