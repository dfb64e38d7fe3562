"""The parameter `remedies`, its part in a run's identity, and remedies of the user's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from remedied import config_of, context_of, write_dataset
from small_run import SMALL
from workbook.data.catalog import Dataset
from workbook.errors import ParameterError
from workbook.remedies.apply import apply_remedies, changes, overridden
from workbook.remedies.registry import all_remedies, parse_remedies
from workbook.runs.folder import run_name
from workbook.training.identity import resolve
from workbook.training.parameters import check_parameters

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
OWN = README.partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "remedies"
    folder.mkdir()
    monkeypatch.setenv("WORKBOOK_REMEDIES", str(folder))
    return folder / "mine.py"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("own"))


def name(**changed: Any) -> str:
    parameters = check_parameters({**SMALL, **changed})
    return run_name(parameters.model_dump(mode="json"), "00", resolve(parameters))


def test_a_run_without_remedies_has_the_name_it_had() -> None:
    """The digits of these parameters before there was such a parameter."""
    asked = check_parameters({**SMALL, "pretrained": "none"}).model_dump(mode="json")
    before = {key: value for key, value in asked.items() if key != "remedies"}
    resolved = {"pretrained": "none", "load_from": "", "precision": "fp32"}
    assert run_name(asked, "00", resolved) == run_name(before, "00", resolved)


def test_remedies_are_part_of_a_run_and_their_order_is_not() -> None:
    assert name(remedies="soft_nms") != name()
    assert name(remedies="soft_nms,fitted_anchors") == name(remedies="fitted_anchors + soft_nms") != name(remedies="soft_nms")
    assert check_parameters({**SMALL, "remedies": "soft_nms+fitted_anchors"}).remedies == "fitted_anchors,soft_nms"


@pytest.mark.parametrize(("text", "words"), [
    ("anchors", "unknown remedy 'anchors'; known: augmentation, .*fitted_anchors.*WORKBOOK_REMEDIES"),
    ("soft_nms,soft_nms", "soft_nms is given twice"),
    ("augmentation,augmentation_from_above", "augmentation and augmentation_from_above exclude each other"),
    ("anchors,coco_start,fitted_anchors", "unknown remedy 'anchors'.*coco_start and fitted_anchors exclude each other"),
])
def test_what_cannot_be_asked_for_is_refused_at_once(text: str, words: str) -> None:
    with pytest.raises(ParameterError, match=f"remedies = .*{words}"):
        check_parameters({**SMALL, "remedies": text})


def test_an_own_remedy_is_a_file(own: Path, dataset: Dataset) -> None:
    own.write_text(OWN)
    config = config_of(dataset, "detr")
    lr = config.optimizer.lr
    [applied] = apply_remedies(config, parse_remedies("faster_learning"), context_of(dataset, "detr"))
    assert applied.changes == {"optimizer.lr": (lr, 2 * lr)}
    assert 10 <= len(OWN.strip().splitlines()) <= 20


def test_what_the_readme_lists_is_there() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \| ", README.partition("## Remedies")[2].partition("```bash")[0], re.MULTILINE))
    assert listed and listed <= {remedy.key for remedy in all_remedies()}


def test_an_own_remedy_counts_with_its_content(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.write_text(OWN)
    first = name(remedies="faster_learning")
    own.write_text(OWN.replace("2 *", "3 *"))
    assert name(remedies="faster_learning") != first
    own.write_text(OWN)
    assert name(remedies="faster_learning") == first
    monkeypatch.delenv("WORKBOOK_REMEDIES")
    with pytest.raises(ParameterError, match="unknown remedy 'faster_learning'"):
        name(remedies="faster_learning")


@pytest.mark.parametrize(("source", "words"), [
    ("import nothing_of_that_name", r"mine\.py, line 1: ModuleNotFoundError: No module named 'nothing_of_that_name'\. Mend it"),
    ("x = 1\ndef broken(:\n", r"mine\.py, line 2: SyntaxError"),
    ("x = 1", r"mine\.py: no Remedy in it"),
    (OWN.replace("families=FAMILIES", "families=('yolo',)"), r"mine\.py: faster_learning has families=\('yolo',\)\. Allowed: .*two_stage"),
    (OWN.replace('"faster_learning"', '"soft_nms"'), r"mine\.py: the key 'soft_nms' is that of a remedy of the workbook: give it another"),
    (OWN.replace('"faster_learning"', '"a b"'), r"mine\.py: the key 'a b' of its remedy is no name"),
    (OWN.replace('key="faster_learning", ', ""), r"mine\.py, line 9: TypeError: .*missing 1 required .*'key'"),
])
def test_an_own_file_that_is_broken_is_named_with_its_line(own: Path, source: str, words: str) -> None:
    own.write_text(source)
    with pytest.raises(ParameterError, match=words):
        parse_remedies("soft_nms")


def test_an_own_remedy_that_fails_is_named_with_its_line(own: Path, dataset: Dataset) -> None:
    own.write_text(OWN.replace("2 * config.optimizer.lr", "config.optimiser.lr"))
    words = r"remedy faster_learning: .*mine\.py, line 6: AttributeError.*optimiser.*Mend it, or leave faster_learning out"
    with pytest.raises(ParameterError, match=words):
        apply_remedies(config_of(dataset, "detr"), parse_remedies("faster_learning"), context_of(dataset, "detr"))


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBOOK_REMEDIES", str(tmp_path / "none"))
    with pytest.raises(ParameterError, match="WORKBOOK_REMEDIES=.*none: no such folder"):
        all_remedies()


def test_every_misfit_is_named_at_once(dataset: Dataset) -> None:
    remedies = parse_remedies("more_proposals,finer_level,soft_nms")
    with pytest.raises(ParameterError) as caught:
        apply_remedies(config_of(dataset, "detr"), remedies, context_of(dataset, "detr"))
    assert str(caught.value).count("\n  - ") == 3
    assert "finer_level: it is for detectors of the kind dense, and DETR is query" in str(caught.value)


def test_what_changed_is_told_leaf_by_leaf() -> None:
    before = {"a": {"b": 1, "c": (1, 2)}, "steps": [{"type": "x", "n": 1}, {"type": "y"}], "gone": 1}
    after = {"a": {"b": 2, "c": [1, 2], "d": {"e": 1}}, "steps": [{"type": "x", "n": 2}, {"type": "y"}]}
    assert changes(before, after) == {"a.b": (1, 2), "a.d": (None, {"e": 1}), "steps.0.n": (1, 2), "gone": (1, None)}
    assert changes({"steps": before["steps"]}, {"steps": []}) == {"steps": (before["steps"], [])}


def test_an_override_that_a_remedy_changes_too_is_refused(dataset: Dataset) -> None:
    config = config_of(dataset, "faster_rcnn")
    applied = apply_remedies(config, parse_remedies("soft_nms"), context_of(dataset, "faster_rcnn"))
    assert overridden({"model.test_cfg.rcnn.score_thr": 0.1}, applied) == []
    [words] = overridden({"model.test_cfg.rcnn.nms.type": "nms"}, applied)
    assert "the override model.test_cfg.rcnn.nms.type and the remedy soft_nms both set" in words
    assert overridden({"model.test_cfg.rcnn.nms": {}}, applied)


def test_an_override_that_each_head_of_a_cascade_keeps_is_not_lost(dataset: Dataset) -> None:
    config = config_of(dataset, "faster_rcnn")
    head, sampler = config.model.roi_head.bbox_head, config.model.train_cfg.rcnn.sampler
    head.fc_out_channels, sampler.num = 256, 128
    applied = apply_remedies(config, parse_remedies("refined_boxes"), context_of(dataset, "faster_rcnn"))
    kept = {"model.roi_head.bbox_head.fc_out_channels": 256, "model.train_cfg.rcnn.sampler.num": 128}
    assert overridden(kept, applied) == []
    assert [head.fc_out_channels for head in config.model.roi_head.bbox_head] == [256] * 3
    [words] = overridden({**kept, "model.roi_head.bbox_head.loss_bbox.loss_weight": 2.0}, applied)
    assert "the override model.roi_head.bbox_head.loss_bbox.loss_weight and the remedy refined_boxes both set" in words
