from pathlib import Path
from typing import Any

import pytest

from scenes import make_dataset
from workbook.studies.claim import parse_claim
from workbook.studies.foresight import Planned, foreseen
from workbook.training.parameters import check_parameters

ASKED = {"dataset": "scenes", "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "image_size": 64}
CLAIM = "epochs=2 > epochs=1 on bbox_mAP"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "data", "scenes", train_images=1, val_images=12, width=64, height=64, sizes=("small",))


def other(tmp_path: Path, name: str) -> str:
    make_dataset(tmp_path / "data", name, train_images=1, val_images=9, width=64, height=64, sizes=("small",))
    return name


def planned(record: dict[str, Any] | None = None, **changed: Any) -> Planned:
    parameters = check_parameters({**ASKED, **changed})
    return Planned(parameters, {"parameters": parameters.model_dump(mode="json"), **(record or {})})


def three(**changed: Any) -> list[Planned]:
    return [planned(seed=seed, **changed) for seed in range(3)]


def said(claim: str, runs: list[Planned]) -> list[str]:
    return foreseen([parse_claim(claim, [run.parameters for run in runs])], runs)


def test_nothing_is_said_of_a_claim_that_can_be_decided() -> None:
    assert said(CLAIM, three(epochs=1) + three(epochs=2)) == []


def test_too_few_seeds_are_said_with_the_side_that_has_them() -> None:
    line, = said(CLAIM, three(epochs=1) + three(epochs=2)[:2])
    assert line == f"claim '{CLAIM}' can only stay open: 2 seeds of epochs=2, and a verdict needs 3 of each setting: give seed more values"


def test_a_size_that_val_hardly_has_is_said() -> None:
    line, = said("epochs=2 > epochs=1 on bbox_mAP_l", three(epochs=1) + three(epochs=2))
    assert line.endswith("can only stay open: bbox_mAP_l rests on 0 images of val, and an interval needs 10")


def test_a_second_parameter_is_a_confound() -> None:
    line, = said(CLAIM, three(epochs=1) + three(epochs=2, batch_size=4))
    assert "will be confounded" in line and "(batch size: 4 and 2)" in line and "open" not in line


def test_a_run_that_is_done_is_compared_by_its_record() -> None:
    old, new = {"git_commit": "old", "optimizer": {"type": "SGD", "lr": .1}}, {"git_commit": "new", "optimizer": {"type": "SGD", "lr": .2}}
    runs = [planned(old if epochs == 1 else new, epochs=epochs, seed=seed) for epochs in (1, 2) for seed in range(3)]
    line, = said(CLAIM, runs)
    assert "(initial lr: 0.2 and 0.1; git commit: new and old)" in line


def test_both_are_said_of_one_claim_and_others_are_left_alone() -> None:
    runs = [*three(epochs=1), planned(epochs=2, batch_size=4), *three(epochs=1, backbone="tf_efficientnet_lite1")]
    claims = [parse_claim(text, [run.parameters for run in runs]) for text in (CLAIM, "lite1 > lite0 on bbox_mAP")]
    line, = foreseen(claims, runs)
    assert "will be confounded" in line and "even without that it can only stay open: 1 seed of epochs=2" in line


def test_two_datasets_are_a_confound_and_the_smaller_one_counts(tmp_path: Path) -> None:
    few = other(tmp_path, "few")
    line, = said(CLAIM, [run for name in ("scenes", few) for epochs in (1, 2) for run in three(dataset=name, epochs=epochs)])
    assert "will be confounded" in line and "(dataset: scenes and few, whose images cannot be paired: make a study of each)" in line
    assert line.endswith("even without that it can only stay open: bbox_mAP rests on 9 images of val, and an interval needs 10")


def test_sides_that_are_the_same_runs_are_said() -> None:
    """Two words for one precision are one run by its identity, so the plan holds it once."""
    asked = [run.parameters for precision in ("auto", "fp32") for run in three(precision=precision)]
    claim = parse_claim("precision=fp32 = precision=auto within .1 on bbox_mAP", asked)
    line, = foreseen([claim], three(precision="auto"))
    assert line.endswith("can only stay open: precision=fp32 and precision=auto are the same runs here")


def test_a_warning_of_one_side_is_a_confound_and_one_of_both_is_none() -> None:
    warm = "the warm-up takes 500 of the {} steps"
    both = [planned({"warnings": [warm.format(epochs)]}, epochs=epochs, seed=seed) for epochs in (1, 2) for seed in range(3)]
    assert said(CLAIM, both) == []
    line, = said(CLAIM, both[:3] + three(epochs=2))
    assert "(a warning of one side alone: the warm-up takes 500 of the 1 steps)" in line


def test_weights_that_are_claimed_are_no_confound() -> None:
    runs = []
    for path in ("none", "/w.pth"):
        weights = {"model": {"weights": path}, "files": {path: "b70e140b" if path != "none" else "68017ffb"}}
        runs += [planned(weights, pretrained=path, seed=seed) for seed in range(3)]
    assert said("pretrained=/w.pth > pretrained=none on bbox_mAP", runs) == []


def test_runs_that_went_on_under_other_versions_are_told_apart() -> None:
    """Where the run was taken up is a count; under which version its first part was made is none."""
    warned = "taken up at step {} where something else was: versions torch: {} → 2.2.0"
    runs = [planned({"warnings": [warned.format(epochs, "2.0.1")]}, epochs=epochs, seed=seed) for epochs in (1, 2) for seed in range(3)]
    assert said(CLAIM, runs) == []
    others = [planned({"warnings": [warned.format(2, "2.1.1")]}, epochs=2, seed=seed) for seed in range(3)]
    line, = said(CLAIM, runs[:3] + others)
    assert "2.0.1 → 2.2.0" in line and "2.1.1 → 2.2.0" in line
