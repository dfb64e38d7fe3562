"""Executing a notebook from the command: what its failing cell says reaches the person, without a traceback."""

from pathlib import Path

import pytest

from workbook.errors import RunError
from workbook.notebooks import execute_notebook


def test_the_words_of_a_failing_cell_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^no runs in .*workbook run .*\nThe notebook so far: .*5_compare.ipynb$"):
        execute_notebook("5_compare", tmp_path / "5_compare.ipynb", {})
    assert (tmp_path / "5_compare.ipynb").exists() and not (tmp_path / "5_compare.html").exists()
