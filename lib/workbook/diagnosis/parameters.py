"""What may be asked of a diagnosis."""

from __future__ import annotations

from pydantic import Field

from workbook.parameters import Asked, Number
from workbook.runs.parameters import RunName


class DiagnosisParameters(Asked):
    """The parameters of `3_diagnose.ipynb`."""

    run: RunName = Field("", description="a run's name or folder; empty for the newest finished one")
    other: RunName = Field("", description="a second run on the same val images to set beside it; empty for none")
    iou: Number = Field(0.5, gt=0, lt=1, description="from this overlap on a box fits its object in the trace")
