"""The tables of a study's page: its verdicts, and where the differences come from."""

from __future__ import annotations

from pandas.io.formats.style import Styler

from workbook.studies.store import SavedStudy
from workbook.views.study.note import cause_table, verdict_table


def verdicts(study: SavedStudy) -> Styler:
    """One row a claim."""
    return _shown(verdict_table(study.verdicts).style)


def causes(study: SavedStudy, claim: str) -> Styler:
    """One row a stage of the detector, for a claim."""
    return _shown(cause_table([one for one in study.causes if one.claim == claim]).style)


def _shown(style: Styler) -> Styler:
    """Names are text, whatever they contain."""
    return style.format(escape="html").hide(axis="index").set_table_styles([{"selector": "td, th", "props": "text-align: left"}])
