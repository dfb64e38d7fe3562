"""Every row of docs/bad-inputs.md for real, and the images that are handled followed through the real training pipeline."""

from __future__ import annotations

import os
from pathlib import Path

import bad_inputs
import numpy as np
import pytest
from bad_data import image_bytes, wide_pixels
from bad_inputs import CASES, ELSEWHERE, IMAGES, PAGE, Place, answer, page
from small_dataset import annotation, load, picture, save, write_dataset
from trained_run import Trained

SAID: dict[str, str] = {}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained) -> Place:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    write_dataset(tmp_path / "data" / "pets")
    return Place(tmp_path, trained, monkeypatch)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.wrong)
def test_a_bad_input_gets_its_message(case: bad_inputs.Case, place: Place) -> None:
    SAID[case.wrong] = said = answer(case, place)
    assert case.says in said and bool(case.says) == bool(said), said
    assert not (place.root / "proof").exists(), "code of a file was run"


def test_the_page_shows_what_was_said() -> None:
    if len(SAID) < len(CASES):
        pytest.fail("the page is compared with what all cases say: run the whole file")
    if os.environ.get("WRITE_BAD_INPUTS"):
        PAGE.write_text(page(SAID))
    assert PAGE.read_text() == page(SAID), "run `python -m tests.bad_inputs`"


def test_there_are_enough_and_each_has_its_own_name() -> None:
    assert len(CASES) >= 40 and len({case.wrong for case in CASES}) == len(CASES)


def test_what_is_tested_elsewhere_is_there() -> None:
    for *_, file, name, words in ELSEWHERE:
        source = (Path(__file__).parent / file).read_text()
        assert f"def {name}(" in source and words in source
