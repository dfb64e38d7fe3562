"""Suspect labels on planted ones: a label that was taken away, and one that was changed, by a real detector's script."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from diagnosed import diagnosed
from planted import CLASSES, Answer, Scene
from workbook.browse.samples import Browsed, object_labels, prediction_labels
from workbook.diagnosis.store import SavedDiagnosis
from workbook.diagnosis.suspects import NO_LABEL, OTHER_CLASS, find_suspects
from workbook.views.diagnosis.tables import suspects

FORGOTTEN, CHANGED = (20.0, 20.0, 44.0, 44.0), (80.0, 80.0, 110.0, 110.0)
DOUBTED, GUESSED = (20.0, 150.0, 50.0, 180.0), (200.0, 20.0, 230.0, 60.0)
RIGHT = [(150.0, 150.0 + 25 * n, 174.0, 174.0 + 25 * n) for n in range(3)]  # their scores: .7, .5, .3
SCENE = Scene(
    [*((box, "cat") for box in RIGHT), (CHANGED, "dog"), (DOUBTED, "dog")],
    [*(Answer(box, {"cat": score}) for box, score in zip(RIGHT, (0.7, 0.5, 0.3), strict=True)),
     Answer(FORGOTTEN, {"cat": 0.6}), Answer(GUESSED, {"cat": 0.4}),  # a sure detection of nothing, and one that is not sure
     Answer(CHANGED, {"owl": 0.8}), Answer(DOUBTED, {"owl": 0.45, "cat": 0.2})])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> SavedDiagnosis:
    return diagnosed(tmp_path_factory.mktemp("scenes"), [SCENE], resamples=2)


def test_the_forgotten_and_the_changed_label_are_named_and_no_other(planted: SavedDiagnosis) -> None:
    table = suspects(planted)
    assert table[["why", "says", "label"]].to_numpy().tolist() == [[OTHER_CLASS, "owl", "dog"], [NO_LABEL, "cat", ""]]
    assert table["score"].tolist() == pytest.approx([0.8, 0.6], abs=1e-3)
    assert table["annotation_id"].tolist()[0] == 103 and table["bbox"][1] == pytest.approx([20, 20, 24, 24], abs=0.1)


def test_fiftyone_is_given_the_same(planted: SavedDiagnosis) -> None:
    browsed = Browsed(planted, "run")
    assert browsed.suspects.sure == pytest.approx(0.5, abs=1e-3) and CLASSES == ("cat", "dog", "owl")
    doubted = [(box["annotation_id"], box["suspect"]) for _, box in object_labels([browsed], "scenes") if "suspect" in box]
    forgotten = [(box["label"], round(box["confidence"], 2), box["suspect"]) for _, box in prediction_labels(browsed, "scenes")
                 if "suspect" in box]
    assert doubted == [(103, OTHER_CLASS)] and forgotten == [("cat", 0.6, NO_LABEL)]


def test_a_detector_that_finds_nothing_asks_about_nothing(planted: SavedDiagnosis) -> None:
    blind = planted.detections[planted.detections["outcome"] != "true"]
    assert suspects(replace(planted, detections=blind)).empty


def test_an_object_is_asked_about_only_when_it_was_missed_for_another_class() -> None:
    detections = pd.DataFrame({"score": [0.5], "outcome": ["true"], "kind": [""]})
    cases = {"missed, another class": ("owl", False, True), "found, another class": ("owl", True, False),
             "missed, its own class": ("dog", False, False), "missed, no class": (None, False, False)}
    trace = pd.DataFrame([{"named_class": named, "class": "dog", "detected": found, "named_score": 0.9}
                          for named, found, _ in cases.values()])
    assert find_suspects(trace, detections).mislabelled.tolist() == [asked for *_, asked in cases.values()]


def test_a_detector_that_is_sure_of_what_is_not_there_is_asked_less() -> None:
    trace = pd.DataFrame({"named_class": [None], "class": ["cat"], "detected": [False], "named_score": [np.nan]})
    score, kind = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array(["", "background", "background", "", "background"])
    outcome = np.where(kind == "", "true", "false")
    table = pd.DataFrame({"score": score, "outcome": outcome, "kind": kind})
    assert find_suspects(trace, table).sure == 0.9
    table.loc[0, ["outcome", "kind"]] = ["false", "background"]
    assert not find_suspects(trace, table).unlabelled.any(), "one of four is true"
