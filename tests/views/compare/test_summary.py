"""What is concluded from run folders with known figures and known differences."""

import statistics
from pathlib import Path

import pytest

from run_folders import write_run
from workbook.runs.folder import create_run
from workbook.views.compare import summary as conclusions
from workbook.views.compare import tables


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    return tmp_path


def test_nothing_differs_between_two_backbones_of_one_recipe(root):
    runs = [write_run(root, backbone=name, hour=hour) for hour, name in enumerate(("resnet18", "swin_t"))]
    assert conclusions.differences(runs) == []
    assert "Nothing but the backbone differs" in conclusions.remarks(runs)


@pytest.mark.parametrize(("change", "sentence"), [
    ({"optimizer": {"type": "SGD"}}, "The optimizer differs: AdamW (Exp 1), SGD (Exp 2)."),
    ({"optimizer": {"lr": 0.002}}, "The initial lr differs: 0.0001 (Exp 1), 0.002 (Exp 2)."),
    ({"optimizer": {"weight_decay": 0.0}},
     "The optimizer settings differ: {weight_decay: 0.05} (Exp 1), {weight_decay: 0.0} (Exp 2)."),
    ({"parameters": {"batch_size": 8}}, "The batch size differs: 2 (Exp 1), 8 (Exp 2)."),
    ({"parameters": {"image_size": [800, 400]}}, "The image size differs: 400x400 (Exp 1), 800x400 (Exp 2)."),
    ({"parameters": {"pretrained": False}}, "The pretraining differs: yes (Exp 1), no (Exp 2)."),
    ({"parameters": {"epochs": 24}}, "The epochs differ: 2 (Exp 1), 24 (Exp 2)."),
    ({"parameters": {"recipe": "seed"}}, "The recipe differs: official (Exp 1), seed (Exp 2)."),
    ({"record": {"settings": {"precision": "bf16"}}}, "The precision differs: fp32 (Exp 1), bf16 (Exp 2)."),
    ({"parameters": {"seed": 1}}, "The seed differs: 0 (Exp 1), 1 (Exp 2)."),
    ({"parameters": {"load_from": "a.pth"}}, "The start weights differ: none (Exp 1), a.pth (Exp 2)."),
    ({"parameters": {"overrides": {"a.b": 3}}}, "The overrides differ: none (Exp 1), {a.b: 3} (Exp 2)."),
    ({"data": {"hash": "00" * 32}}, "The data contents differ: 5f5f5f5f (Exp 1), 00000000 (Exp 2)."),
    ({"data": {"name": "sea"}}, "The dataset differs: tree_crowns (Exp 1), sea (Exp 2)."),
    ({"detector": "vfnet"}, "The detector differs: faster_rcnn (Exp 1), vfnet (Exp 2)."),
    ({"record": {"schedule": "cosine"}}, "The lr schedule differs: step [8, 11] (Exp 1), cosine (Exp 2)."),
])
def test_each_other_difference_is_named_and_no_winner_is(root, change, sentence):
    runs = [write_run(root, backbone="resnet18"), write_run(root, backbone="swin_t", hour=1, **change)]
    assert conclusions.differences(runs) == [sentence]
    assert "no backbone is named the better one" in conclusions.remarks(runs)


def test_differences_group_experiments_and_tell_what_is_not_finished(root):
    runs = [write_run(root, backbone=f"timm/net{hour}", hour=hour, parameters={"seed": hour == 3}) for hour in range(5)]
    runs.append(write_run(root, backbone="swin_t", hour=9, status="failed", parameters={"seed": 0}))
    assert conclusions.differences(runs) == [
        "The seed differs: no (Exp 1-3, 5), yes (Exp 4), 0 (Exp 6).",
        "Exp 6 is not finished: failed after 2 of 2 epochs (RuntimeError: the loss is not finite at step 40)."]


def test_what_a_broken_off_run_has_not_written_is_no_difference(root):
    done = write_run(root, backbone="resnet18", maps=(0.1, 0.2, 0.3))
    asked = {**done.record["parameters"], "backbone": "swin_t"}
    assert conclusions.differences([done, create_run(asked, "5f" * 32)]) == [
        "Exp 2 is not finished: running after 0 of 3 epochs."]


def test_remarks_say_how_many_small_objects_the_figures_rest_on(root):
    with_small, without = write_run(root), write_run(root, backbone="resnet18", no_small=True, hour=1)
    assert "66 small, 140 medium, 8 large; bbox_mAP_s rests on these 66;" in conclusions.remarks([with_small])
    assert "0 small" in conclusions.remarks([without]) and "bbox_mAP_s is blank" in conclusions.remarks([without])


def test_remarks_warn_of_speeds_of_different_machines(root):
    runs = [write_run(root), write_run(root, backbone="swin_t", hour=1, record={"hardware": {"device": "cuda"}})]
    assert "do not compare images/s" in conclusions.remarks(runs)
    assert "do not compare images/s" not in conclusions.remarks(runs[:1])


@pytest.mark.parametrize(("maps", "said"), [
    ({"resnet18": (0.1, 0.2, 0.3), "swin_t": (0.2, 0.25, 0.36)},
     "swin_t (Exp 4-6) is ahead of resnet18 (Exp 1-3) with 3 of 3 seeds, by +0.070 bbox_mAP on average (+0.050 to +0.100)."),
    ({"resnet18": (0.1, 0.2, 0.3), "swin_t": (0.2, 0.1, 0.36)},
     "swin_t (Exp 4-6) is ahead of resnet18 (Exp 1-3) with 2 of 3 seeds, by +0.020 bbox_mAP on average (-0.100 to +0.100): the seed "
     "decides which of the two is ahead."),
])
def test_repeats_with_other_seeds_are_compared_seed_by_seed(root, maps, said):
    runs = [write_run(root, backbone=backbone, maps=(one,), hour=10 * number + seed, parameters={"seed": seed})
            for number, (backbone, values) in enumerate(maps.items()) for seed, one in enumerate(values)]
    text = conclusions.remarks(runs[::-1])
    assert text.startswith("**Nothing but the backbone and the seed differs") and f"\n- {said}\n" in text
    assert "The seed differs" not in text
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("|")]
    swin = maps["swin_t"]
    assert rows[0] == ["mean ± s.d. of 3 seeds", "bbox_mAP"] and len(rows) == 4
    assert rows[2] == ["swin_t (Exp 4-6)", f"{statistics.mean(swin):.3f} ± {statistics.stdev(swin):.3f}"]
    assert rows[3] == ["resnet18 (Exp 1-3)", "0.200 ± 0.100"]


def test_repeats_that_are_level_have_no_winner_and_one_backbone_has_no_rival(root):
    runs = [write_run(root, backbone=backbone, hour=hour, parameters={"seed": hour % 2})
            for hour, backbone in enumerate(("resnet18", "resnet18", "swin_t", "swin_t"))]
    text = conclusions.remarks(runs)
    assert "- resnet18 (Exp 1-2) and swin_t (Exp 3-4) have the same mean bbox_mAP." in text and "ahead" not in text
    alone = conclusions.remarks(runs[:2])
    assert alone.startswith("**Nothing but the seed differs") and "| resnet18 (Exp 1-2)" in alone and "ahead" not in alone


@pytest.mark.parametrize("change", [{"parameters": {"seed": 7}}, {"parameters": {"seed": 1}, "status": "running"}])
def test_seeds_are_not_compared_unless_all_were_trained_with_the_same(root, change):
    for hour, (backbone, seed) in enumerate((("resnet18", 0), ("resnet18", 1), ("swin_t", 0))):
        write_run(root, backbone=backbone, hour=hour, parameters={"seed": seed})
    write_run(root, backbone="swin_t", hour=9, **change)
    runs = tables.select()
    assert conclusions.over_seeds(runs).empty and "The seed differs" in conclusions.remarks(runs)


def test_with_other_differences_the_seeds_are_still_told_but_no_winner(root):
    runs = [write_run(root, backbone="resnet18", hour=10 * batch + seed, parameters={"seed": seed, "batch_size": batch})
            for batch in (2, 4) for seed in (0, 1)]
    text = conclusions.remarks(runs)
    assert "no backbone is named the better one" in text and "The batch size differs: 2 (Exp 1-2), 4 (Exp 3-4)." in text
    assert "The seed differs" not in text and "of 2 seeds" in text and "is ahead of" not in text


def test_a_sentence_names_five_values_and_counts_the_others(root):
    runs = [write_run(root, hour=seed, parameters={"seed": seed}) for seed in range(8)]
    assert conclusions.differences(runs) == [
        "The seed differs: 0 (Exp 1), 1 (Exp 2), 2 (Exp 3), 3 (Exp 4), 4 (Exp 5) and 3 more."]
