"""A run with remedies: its steps follow them, its record says what they changed, and what does not fit never starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remedied import write_dataset
from small_run import SMALL
from workbook.errors import ParameterError
from workbook.files import outputs_root
from workbook.runs.config import read_config
from workbook.runs.folder import read_log
from workbook.runs.load import load_trained
from workbook.sweep.command import split
from workbook.sweep.plan import kind_of, make_plan
from workbook.training.job import Job, prepare
from workbook.training.parameters import check_parameters
from workbook.training.train import train
from workbook.views.compare.differences import differences
from workbook.views.compare.tables import comparison
from workbook.views.run.tables import outline


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    write_dataset(tmp_path / "data")


def job(remedies: str = "", **changed: Any) -> Job:
    return prepare(check_parameters({**SMALL, "dataset": "mixed", "epochs": 1, "batch_size": 1, "remedies": remedies, **changed}))


def test_steps_record_and_table_follow_the_remedies() -> None:
    """Two images of train have objects; one of them has a small one, comes three times, and every epoch comes twice."""
    plain, asked = job(), job("soft_nms+small_oversampled+longer_training")
    assert (plain.epochs, plain.steps_an_epoch, plain.remedies) == (1, 2, ())
    assert (asked.epochs, asked.steps_an_epoch) == (2, 4)
    run, other = train(asked), train(plain)
    assert max(row["step"] for row in read_log(run.folder / "log.jsonl")) == 8 == run.record["iterations"]
    changed = {one["key"]: one["changes"] for one in run.record["remedies"]}
    assert list(changed) == ["small_oversampled", "soft_nms", "longer_training"] and other.record["remedies"] == []
    assert changed["soft_nms"] == {"model.test_cfg.rcnn.nms.type": {"before": "nms", "after": "soft_nms"}}
    assert changed["small_oversampled"] == {"data.train.small_repeats": {"before": None, "after": 3}}
    assert changed["longer_training"]["runner.max_epochs"] == {"before": 1, "after": 2}
    table = comparison([run, other]).set_index("run")["remedies"]
    assert (table[run.name], table[other.name]) == ("small_oversampled,soft_nms,longer_training", None)
    words = "The remedies differ: small_oversampled,soft_nms,longer_training"
    assert any(words in sentence for sentence in differences([run, other]))
    assert run.record["identity"]["remedies"] == table[run.name] and "remedies" not in other.record["identity"]


def test_a_run_with_code_of_its_own_is_read_again() -> None:
    """Assigner, transform and head are registered for whoever reads the run."""
    run = train(job("nwd_assigner,augmentation_from_above"))
    model, config = load_trained(run)
    assert type(model.rpn_head.assigner).__name__ == "SmallByRankAssigner"
    assert "workbook.data.quarter_turn" in read_config(run.folder / "config.py").custom_imports.imports
    assert any(step.type == "RandomQuarterTurn" for step in config.data.train.pipeline)


@pytest.mark.parametrize(("asked", "words"), [
    ({"remedies": "finer_level,two_stage_queries"}, "do not fit this run:\n  - finer_level: .*dense.*\n  - two_stage_queries: .*query"),
    ({"remedies": "coco_start"}, "coco_start: .*load_from is empty. Download https://"),
    ({"remedies": "soft_nms", "overrides": f"{SMALL['overrides']} model.test_cfg.rcnn.nms.type=nms"},
     "the override model.test_cfg.rcnn.nms.type and the remedy soft_nms both set"),
])
def test_what_does_not_fit_never_starts(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        job(**asked)
    assert not outputs_root().exists()


def test_what_has_nothing_to_do_is_a_warning() -> None:
    asked = job("more_proposals", overrides="model.test_cfg.rpn.nms_pre=4000 model.test_cfg.rpn.max_per_img=4000")
    assert "the remedy more_proposals changes nothing in the config here" in asked.warnings
    assert "changes nothing here" in outline(asked).to_html()


def test_a_sweep_takes_several_choices_of_remedies() -> None:
    values = split("remedies", ",soft_nms,soft_nms+keep_more")
    assert values == ["", "soft_nms", "soft_nms+keep_more"]
    plan = make_plan([{**SMALL, "dataset": "mixed", "remedies": values}])
    assert [entry.varies for entry in plan] == ["remedies=none", "remedies=soft_nms", "remedies=keep_more,soft_nms"]
    assert len({entry.run.name for entry in plan}) == 3 == len({entry.kind for entry in plan})
    before = {key: value for key, value in plan[0].parameters.model_dump(mode="json").items() if key != "remedies"}
    assert kind_of(before) == plan[0].kind, "runs from before there were remedies still say how long one takes"
