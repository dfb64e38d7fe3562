"""Images without objects: left out as mmdet does, or trained on; the steps are those that happen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.datasets import build_dataset

from run_folders import write_run
from scenes import make_dataset
from small_run import SMALL
from workbook.data.catalog import Dataset
from workbook.errors import ParameterError
from workbook.models.config import build_model
from workbook.models.detectors import DETECTORS
from workbook.runs.folder import identity, read_log, run_name
from workbook.sweep.plan import asked_runs
from workbook.training.job import Job, prepare
from workbook.training.parameters import Parameters, check_parameters
from workbook.training.train import train
from workbook.views.compare.differences import differences
from workbook.views.compare.tables import COLUMNS, comparison
from workbook.views.run import tables


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Five train images, three of them without an object."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    made = make_dataset(tmp_path / "data", "scenes", train_images=5, val_images=1, width=64, height=64, sizes=("small",))
    content = json.loads(made.train_json.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in (2, 4)]
    made.train_json.write_text(json.dumps(content))
    return made


def job(**changed: Any) -> Job:
    return prepare(check_parameters({**SMALL, "image_size": 64, **changed}))


@pytest.mark.parametrize(("empty_images", "steps"), [("left_out", 1), ("used", 3)])
def test_the_steps_are_those_that_happen(empty_images: str, steps: int, capsys: pytest.CaptureFixture) -> None:
    asked = job(empty_images=empty_images)
    run = train(asked)
    lines = [line for line in read_log(run.folder / "log.jsonl") if line["mode"] == "train"]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, steps), (2, 2 * steps)]
    assert run.record["iterations"] == 2 * steps == 2 * asked.steps_an_epoch
    words = "left out of 5 train images: 3 without objects (empty_images=used learns from them what is background)"
    assert (words in capsys.readouterr().out) == (words in tables.outline(asked).to_html()) == (empty_images == "left_out")
    assert run.record["warnings"] == [], "it is no difference between runs"


@pytest.mark.parametrize(("changed", "words"), [
    ({"batch_size": 3}, "scenes has 2 training images with objects. Allowed: 1 to 2 (left out of 5 train images: 3 without objects"),
    ({"batch_size": 6, "empty_images": "used"}, "scenes has 5 training images. Allowed: 1 to 5"),
    ({"empty_images": "yes"}, "unknown empty_images 'yes'. Known: left_out, used"),
    ({"empty_images": True}, "empty_images = True: text is needed"),
    ({"empty_images": ""}, "unknown empty_images ''. Known: left_out, used"),
    ({"overrides": "data.train.filter_empty_gt=False"}, "use the parameter empty_images instead"),
])
def test_what_cannot_be_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        job(**changed)
    assert words in str(caught.value)


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_learns_from_an_image_without_objects(detector: str) -> None:
    asked = job(detector=detector, backbone="resnet18", recipe="seed", pretrained="none", overrides="", empty_images="used")
    dataset = build_dataset(asked.config.data.train)
    assert len(dataset) == 5 and not len(dataset[0]["gt_bboxes"].data)
    torch.manual_seed(0)
    model = build_model(asked.config)
    item = {key: container.data for key, container in dataset[0].items()}
    loss, parts = model._parse_losses(model.forward_train(
        img=item["img"][None], img_metas=[item["img_metas"]], gt_bboxes=[item["gt_bboxes"]], gt_labels=[item["gt_labels"]]))
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert parts["loss"] > 0 and all(gradient.isfinite().all() for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0


def test_a_run_that_leaves_them_out_has_the_name_that_it_had_before() -> None:
    now = check_parameters(SMALL).model_dump(mode="json")
    before = {key: value for key, value in now.items() if key != "empty_images"}
    assert run_name(now, "00") == run_name(before, "00") and identity(now, "00") == identity(before, "00")
    used = {**now, "empty_images": "used"}
    assert run_name(used, "00") != run_name(now, "00") and identity(used, "00")["empty_images"] == "used"


def test_a_sweep_takes_both() -> None:
    grid = {**SMALL, "image_size": "64", "empty_images": ["left_out", "used"]}
    assert [asked.empty_images for asked in asked_runs([grid])] == ["left_out", "used"]
    assert Parameters().empty_images == "left_out"


def test_the_table_has_a_column_for_it_where_runs_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is from before there was such a parameter."""
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    old = write_run(tmp_path / "outputs")
    same = write_run(tmp_path / "outputs", hour=1, parameters={"empty_images": "left_out", "seed": 1})
    other = write_run(tmp_path / "outputs", hour=2, parameters={"empty_images": "used"})
    assert list(comparison([old, same]).columns) == list(COLUMNS)
    assert comparison([old, other])["empty images"].tolist() == ["left_out", "used"]
    assert differences([old, other]) == ["The use of images without objects differs: left_out (Exp 1), used (Exp 3)."]
    assert not any("without objects" in sentence for sentence in differences([old, same]))
