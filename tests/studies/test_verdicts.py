"""Verdicts on run folders with real detections and val truth, planted so that the right verdict is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from measured_runs import val_truth, write_measured
from workbook.evaluation.contrast import Contrast, Part
from workbook.runs.folder import Run
from workbook.studies import verdicts
from workbook.studies.claim import Claim, Side, parse_claim
from workbook.studies.settings import StudyRun, pairs_of, settings_of, varying
from workbook.studies.verdicts import Question, Verdict, conclude, judge
from workbook.training.parameters import Parameters

A, B = "resnet18", "swin_t"


def trained(root: Path, backbone: str, share: float, seeds: int = 3, number: int = 0, **changed) -> list[StudyRun]:
    """Runs of a backbone with so many seeds that find this share of the objects."""
    found = []
    for seed in range(seeds):
        asked = Parameters(backbone=backbone, seed=seed, **changed)
        run = write_measured(root, backbone, share, seed=seed, hour=10 * number + seed, luck=100 * number + seed, parameters=changed)
        found.append(StudyRun(asked, run))
    return found


def only(runs: list[StudyRun], text: str) -> Verdict:
    _, (verdict,) = judge([parse_claim(text, [one.parameters for one in runs])], runs)
    return verdict


@pytest.fixture
def far(tmp_path: Path) -> list[StudyRun]:
    """swin_t finds far more than resnet18."""
    return [*trained(tmp_path, A, 0.3, number=1), *trained(tmp_path, B, 0.9, number=2)]


def test_a_true_lead_is_supported_and_its_opposite_contradicted(far) -> None:
    supported = only(far, f"{B} > {A} on bbox_mAP_s")
    assert (supported.verdict, supported.seeds, supported.images, supported.confounds) == ("supported", 3, 40, ())
    assert 0 < supported.low < supported.value < supported.high
    contradicted = only(far, f"{A} > {B} on bbox_mAP_s")
    assert contradicted.verdict == "contradicted" and contradicted.value == pytest.approx(-supported.value)
    assert supported.reason.startswith("swin_t less resnet18 is +0.")
    assert supported.words.startswith("supported: swin_t less resnet18 is +0.") and "(+0." in supported.words


def test_the_value_is_the_difference_of_the_means_that_the_runs_were_measured_with(far) -> None:
    figures = [one.run.metrics()["bbox_mAP"] for one in far]
    assert only(far, f"{B} > {A} on bbox_mAP").value == pytest.approx(np.mean(figures[3:]) - np.mean(figures[:3]))


def test_an_equality_is_supported_within_a_wide_margin_and_contradicted_within_a_narrow_one(tmp_path, far) -> None:
    assert only(far, f"{B} = {A} within .1 on bbox_mAP").verdict == "contradicted"
    same = [*trained(tmp_path / "same", A, 0.6, number=1), *trained(tmp_path / "same", B, 0.6, number=2)]
    assert only(same, f"{B} = {A} within .3 on bbox_mAP").verdict == "supported"
    narrow = only(same, f"{B} = {A} within .001 on bbox_mAP")
    assert narrow.verdict == "open" and narrow.low < -0.001 and narrow.high > 0.001


def test_a_small_lead_stays_open_and_says_what_would_decide_it(tmp_path) -> None:
    runs = [*trained(tmp_path, A, 0.55, number=1), *trained(tmp_path, B, 0.62, number=2)]
    verdict = only(runs, f"{B} > {A} on bbox_mAP")
    assert verdict.verdict == "open" and verdict.low < 0 < verdict.high
    assert "if this is the true difference, about " in verdict.words and verdict.words.endswith(" decide it (power 80%)")


def test_one_seed_is_about_the_two_trainings_and_two_are_too_few(tmp_path) -> None:
    one = only([*trained(tmp_path, A, 0.2, 1, 1), *trained(tmp_path, B, 0.95, 1, 2)], f"{B} > {A} on bbox_mAP")
    assert one.verdict == "open" and one.low > 0 and one.seeds == 1
    assert "this is about these two trainings and says nothing of the two settings: train at least 3 seeds of each" in one.words
    folder = tmp_path / "two"
    two = only([*trained(folder, A, 0.2, 2, 1), *trained(folder, B, 0.95, 2, 2)], f"{B} > {A} on bbox_mAP")
    assert two.verdict == "open" and "2 seeds do not show how far a seed moves a figure" in two.words


@pytest.mark.parametrize(("record", "confound"), [
    ({"versions": {"torch": "2.10.0", "mmdet": "2.28.2"}}, "version of torch: 2.10.0 and 2.11.0"),
    ({"settings": {"precision": "bf16"}}, "precision: bf16 and fp32"),
    ({"git_commit": "9999999"}, "git commit: 9999999 and 0123abc"),
    ({"optimizer": {"type": "SGD", "lr": 1e-4, "weight_decay": 0.05}}, "optimizer: SGD and AdamW"),
    ({"files": {"coco.pth": "ab" * 32}}, None),
    ({"warnings": ["taken up at step 3"]}, "a warning of one side alone: taken up at step 3"),
])
def test_a_second_difference_confounds_a_claim_about_backbones(tmp_path, record, confound) -> None:
    runs = [*trained(tmp_path, A, 0.3, number=1), *trained(tmp_path, B, 0.9, number=2)]
    for one in runs[3:]:
        one.run.update(**record)
    verdict = only(runs, f"{B} > {A} on bbox_mAP")
    if confound is None:  # weights of another backbone are no second difference
        assert verdict.verdict == "supported"
        return
    assert verdict.verdict == "confounded" and verdict.confounds == (confound,) and verdict.value > 0 and verdict.low > 0
    assert verdict.words.startswith(f"confounded, the two sides differ in more than the claim is about ({confound}): ")
    assert verdict.reason.startswith("the two sides differ in more")


def test_another_file_under_the_same_weights_is_a_second_difference(tmp_path) -> None:
    runs = [*trained(tmp_path, A, 0.3, number=1), *trained(tmp_path, B, 0.9, number=2)]
    for number, one in enumerate(runs):
        digest = ("ab" if number < 3 else "cd") * 32
        one.run.update(files={"coco.pth": digest}, parameters={**one.run.record["parameters"], "load_from": "coco.pth"})
    assert only(runs, f"{B} > {A} on bbox_mAP").confounds == ("start weights' contents: cdcdcdcd and abababab",)


def test_another_recipe_is_named_where_no_pair_has_the_same(tmp_path) -> None:
    runs = [*trained(tmp_path, A, 0.3, number=1, recipe="seed"), *trained(tmp_path, B, 0.9, number=2, recipe="finetune")]
    assert only(runs, f"{B} > {A} on bbox_mAP").confounds == ("recipe: finetune and seed",)


def test_what_a_parameter_brings_with_it_is_no_second_difference(tmp_path) -> None:
    runs = [*trained(tmp_path, A, 0.3, number=1, epochs=1), *trained(tmp_path, A, 0.9, number=2, epochs=12)]
    for one in runs[:3]:
        one.run.update(schedule="step [1]")
    assert only(runs, "epochs=12 > epochs=1 on bbox_mAP").verdict == "supported"
    runs[0].run.update(optimizer={"type": "SGD", "lr": 1e-4, "weight_decay": 0.05})
    assert only(runs, "epochs=12 > epochs=1 on bbox_mAP").verdict == "confounded"


def test_sides_are_paired_where_they_differ_in_nothing_else(tmp_path) -> None:
    longer = [*trained(tmp_path, A, 0.6, 2, 2, epochs=12), *trained(tmp_path, B, 0.9, 2, 3, epochs=12)]
    runs = [*trained(tmp_path, A, 0.3, 2, 1, epochs=1), *longer]
    settings = settings_of(runs)
    asked = [one.parameters for one in runs]
    epochs = parse_claim("epochs=12 > epochs=1 on bbox_mAP", asked)
    assert [(one.parameters.backbone, other.parameters.backbone) for one, other in pairs_of(epochs, settings)] == [(A, A)]
    backbones = parse_claim(f"{B} > {A} on bbox_mAP", asked)
    assert [(one.parameters.epochs, other.parameters.epochs) for one, other in pairs_of(backbones, settings)] == [(12, 12)]
    assert varying(runs) == {"backbone": [A, B], "epochs": ["1", "12"], "seed": ["0", "1"]}


def test_several_pairs_are_averaged(tmp_path) -> None:
    shares = {(A, 1): 0.2, (A, 12): 0.5, (B, 1): 0.5, (B, 12): 0.9}
    groups = {
        (name, epochs): trained(tmp_path, name, share, 3, number, epochs=epochs)
        for number, ((name, epochs), share) in enumerate(shares.items())
    }
    verdict = only([one for group in groups.values() for one in group], f"{B} > {A} on bbox_mAP")
    maps = {key: np.mean([one.run.metrics()["bbox_mAP"] for one in group]) for key, group in groups.items()}
    assert verdict.value == pytest.approx((maps[B, 1] - maps[A, 1] + maps[B, 12] - maps[A, 12]) / 2)
    assert verdict.verdict == "supported" and ", the mean over 2 pairs of settings" in verdict.words


def test_what_was_not_trained_or_not_finished_is_open(tmp_path) -> None:
    runs = trained(tmp_path, A, 0.5, number=1)
    missing = StudyRun(Parameters(backbone=B), Run(tmp_path / "runs" / "nothing"))
    verdict = only([*runs, missing], f"{B} > {A} on bbox_mAP")
    assert (verdict.verdict, verdict.value, verdict.words) == ("open", None, "open: no finished run of swin_t")
    broken_off = trained(tmp_path, B, 0.9, number=2)
    for one in broken_off:
        one.run.update(status="running")
    assert only([*runs, *broken_off], f"{B} > {A} on bbox_mAP").words == "open: no finished run of swin_t"


def test_few_images_and_no_objects_are_open(tmp_path) -> None:
    runs = []
    for number, (backbone, share) in enumerate(((A, 0.2), (B, 0.95))):
        for seed in range(3):
            hour = 10 * number + seed
            run = write_measured(tmp_path, backbone, share, seed=seed, hour=hour, luck=10 * hour, truth=val_truth(6))
            runs.append(StudyRun(Parameters(backbone=backbone, seed=seed), run))
    few = only(runs, f"{B} > {A} on bbox_mAP_s")
    assert few.verdict == "open" and few.low is None
    assert few.words.endswith("bbox_mAP_s rests on 18 objects in 6 images, too few for an interval")
    assert only(runs, f"{B} > {A} on bbox_mAP_m").words == "open: val has no object that bbox_mAP_m counts"


def test_other_val_images_are_never_compared(tmp_path) -> None:
    first = trained(tmp_path / "one", A, 0.3, number=1)
    folder = tmp_path / "two"
    fewer = [write_measured(folder, B, 0.9, seed=seed, truth=val_truth(30)) for seed in range(3)]
    other = [StudyRun(Parameters(backbone=B, seed=seed), run) for seed, run in enumerate(fewer)]
    verdict = only([*first, *other], f"{B} > {A} on bbox_mAP")
    assert verdict.verdict == "confounded" and verdict.value is None and "cannot be paired" in verdict.words


def made(value: float, error: float, margin: float | None = None) -> Question:
    """A question whose difference and standard error are known; its degrees of freedom are many."""
    side = Side("backbone", A)
    return Question(Claim("a claim", side, Side("backbone", B), "bbox_mAP", margin), (), (),
                    Contrast(value, Part(error**2, 1e6), (), 3, 40, 80))


@pytest.mark.parametrize(("value", "margin", "verdict"), [
    (0.03, None, "supported"), (-0.03, None, "contradicted"), (0.01, None, "open"),
    (0.0, 0.03, "supported"), (0.06, 0.03, "contradicted"), (-0.06, 0.03, "contradicted"), (0.02, 0.03, "open"), (0.04, 0.03, "open"),
])
def test_a_verdict_is_where_the_interval_lies(value, margin, verdict) -> None:
    found, = conclude([made(value, 0.01, margin)])
    half = 0.01 * stats.norm.isf(verdicts.ERROR / 2)
    assert found.verdict == verdict and (found.low, found.high) == pytest.approx((value - half, value + half), abs=1e-4)


def test_two_settings_that_never_find_anything_are_not_proven_equal() -> None:
    found, = conclude([made(0.0, 0.0, 0.03)])
    assert found.verdict == "open" and found.high == pytest.approx(1 - verdicts.ERROR ** (1 / 40)) and found.low == -found.high
    assert found.words.endswith("neither the images nor the seeds move it, so nothing says how many would decide it: take more val images")


def test_one_seed_on_one_side_alone_is_not_said_of_both() -> None:
    question = made(0.02, 0.01)
    found, = conclude([replace(question, found=Contrast(0.02, Part(1e-4, 39), (Part(1e-4, 2),), 1, 40, 80))])
    assert found.verdict == "open" and "one seed of one of the settings" in found.words and "of each," not in found.words


def test_many_claims_are_corrected_together() -> None:
    alone, = conclude([made(0.022, 0.01)])
    among = conclude([made(0.022, 0.01), *(made(0.0, 0.01) for _ in range(9))])
    assert alone.verdict == "supported" and among[0].verdict == "open"
    assert among[0].high - among[0].value == pytest.approx(0.01 * stats.norm.isf(verdicts.ERROR / 20), abs=1e-4)
    assert "corrected for 10 claims" in among[0].words and "corrected" not in alone.words


@pytest.mark.parametrize("margin", [None, 0.03])
def test_a_false_verdict_is_as_rare_as_the_page_promises(margin) -> None:
    """At the border (no difference, or just the margin) neither verdict is true; five claims a page."""
    rng = np.random.default_rng(0)
    pages = 400
    border = margin or 0.0
    wrong = 0
    for _ in range(pages):
        found = conclude([made(border + rng.normal(0, 0.01), 0.01, margin) for _ in range(5)])
        wrong += any(verdict.verdict != "open" for verdict in found)
    assert wrong <= stats.binom.isf(0.001, pages, verdicts.ERROR)


def test_a_verdict_survives_its_file() -> None:
    verdict, = conclude([made(0.03, 0.01)])
    assert Verdict.from_json(verdict.to_json()) == verdict
    assert list(verdict.to_json())[:8] == ["claim", "verdict", "value", "low", "high", "seeds", "images", "confounds"]
