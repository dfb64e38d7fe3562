"""What may be asked of browsing."""

from __future__ import annotations

from pydantic import Field

from workbook.parameters import Asked, WholeNumber, YesNo
from workbook.runs.parameters import RunNames


class BrowseParameters(Asked):
    """The parameters of `4_browse.ipynb`."""

    runs: RunNames = Field((), description="diagnosed runs on the same data, separated by commas; empty for the newest finished one")
    launch: YesNo = Field(False, description="True opens the App from the notebook, for JupyterLab")
    port: WholeNumber = Field(5151, ge=1, le=65_535, description="where the App listens, on 127.0.0.1 alone")
