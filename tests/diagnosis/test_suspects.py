"""Suspect labels on planted ones: a label that was taken away, and one that was changed, by a real detector's script."""

import numpy as np
import pandas as pd
import pytest
from mmcv import Config

from planted import CLASSES, Answer, Scene, scripted_rcnn, write_scenes
from workbook.browse.samples import Browsed, prediction_labels, truth_labels
from workbook.diagnosis.diagnosis import counted_truth, diagnose
from workbook.diagnosis.store import Kept, detection_table
from workbook.diagnosis.suspects import NO_LABEL, OTHER_CLASS, find_suspects
from workbook.diagnosis.waterfall import NOW
from workbook.runs.folder import Run
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
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, Browsed]:
    """The diagnosis as the notebook has it, and as FiftyOne is given it."""
    folder = tmp_path_factory.mktemp("scenes")
    dataset = write_scenes(folder, [SCENE])
    found, truth, run = diagnose(scripted_rcnn([SCENE]), dataset), counted_truth(dataset), Run(folder)
    now = found.detections[NOW]
    kept = Kept(run, Config(), found.trace, found.reach, detection_table(truth, now, found.false_positives, 0.5), found.waterfall)
    return kept, Browsed(run, "run", truth, folder, 0.5, found.trace.set_index("annotation_id"), found.waterfall["stages"], now)


def test_the_forgotten_and_the_changed_label_are_named_and_no_other(planted: tuple[Kept, Browsed]) -> None:
    table = suspects(planted[0])
    assert table[["why", "says", "label"]].to_numpy().tolist() == [[OTHER_CLASS, "owl", "dog"], [NO_LABEL, "cat", ""]]
    assert table["score"].tolist() == pytest.approx([0.8, 0.6], abs=1e-3)
    assert table["annotation_id"].tolist()[0] == 103 and table["bbox"][1] == pytest.approx([20, 20, 24, 24], abs=0.1)


def test_fiftyone_is_given_the_same(planted: tuple[Kept, Browsed]) -> None:
    _, browsed = planted
    assert browsed.suspects.sure == pytest.approx(0.5, abs=1e-3) and CLASSES == ("cat", "dog", "owl")
    doubted = [(box["annotation_id"], box["suspect"]) for _, box in truth_labels([browsed], "scenes") if "suspect" in box]
    forgotten = [(box["label"], round(box["confidence"], 2), box["suspect"]) for _, box in prediction_labels(browsed, "scenes")
                 if "suspect" in box]
    assert doubted == [(103, OTHER_CLASS)] and forgotten == [("cat", 0.6, NO_LABEL)]


def test_a_detector_that_finds_nothing_asks_about_nothing(planted: tuple[Kept, Browsed]) -> None:
    kept, _ = planted
    blind = kept.detections[kept.detections["outcome"] != "true"]
    assert suspects(Kept(kept.run, kept.config, kept.trace, kept.reach, blind, kept.figures)).empty


def test_a_detector_that_is_sure_of_what_is_not_there_is_asked_less() -> None:
    trace = pd.DataFrame({"named_class": [None], "class": ["cat"], "detected": [False], "named_score": [np.nan]})
    score, kind = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array(["", "background", "background", "", "background"])
    outcome = np.where(kind == "", "true", "false")
    assert find_suspects(trace, score, outcome, kind).sure == 0.9
    outcome[0], kind[0] = "false", "background"
    assert not find_suspects(trace, score, outcome, kind).unlabelled.any(), "one of four is true"
