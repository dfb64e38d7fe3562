"""What else than the backbone differs, of run folders with known differences."""

from pathlib import Path

import pytest

from run_folders import write_run
from workbook.runs.folder import create_run
from workbook.views.compare.differences import differences
from workbook.views.compare.summary import summarize


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    return tmp_path


def test_nothing_differs_between_two_backbones_of_one_recipe(root):
    runs = [write_run(root, backbone=name, hour=hour) for hour, name in enumerate(("resnet18", "swin_t"))]
    assert differences(runs) == []
    assert "Nothing but the backbone differs" in summarize(runs)


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
    ({"parameters": {"devices": 2}}, "The devices differ: 1 (Exp 1), 2 (Exp 2)."),
    ({"record": {"git_commit": "0123abc+changes"}}, "The git commit differs: 0123abc (Exp 1), 0123abc+changes (Exp 2)."),
    ({"record": {"git_commit": None}}, "The git commit differs: 0123abc (Exp 1), none (Exp 2)."),
    ({"record": {"versions": {"torch": "2.12.0", "mmdet": "2.28.2"}}}, "The version of torch differs: 2.11.0 (Exp 1), 2.12.0 (Exp 2)."),
    ({"record": {"settings": {"precision": "fp32", "float32_matmul_precision": "high"}}},
     "The torch setting float32_matmul_precision differs: highest (Exp 1), high (Exp 2)."),
    ({"record": {"files": {"imagenet-r18.pth": "11" * 32, "coco.pth": "44" * 32}}},
     "The start weights' contents differ: 33333333 (Exp 1), 44444444 (Exp 2)."),
    ({"record": {"warnings": ["taken up at step 40 where something else was: versions torch: 2.11.0 → 2.12.0"]}},
     "Exp 2 warns: taken up at step 40 where something else was: versions torch: 2.11.0 → 2.12.0."),
])
def test_each_other_difference_is_named_and_no_winner_is(root, change, sentence):
    same = {"files": {"imagenet-r18.pth": "11" * 32, "coco.pth": "33" * 32}, "model": {"weights": "imagenet-r18.pth"},
            "settings": {"precision": "fp32", "float32_matmul_precision": "highest"}}
    change = {**change, "record": {**same, **change.get("record", {})}, "parameters": {"devices": 1, **change.get("parameters", {})}}
    first = write_run(root, backbone="resnet18", parameters={"devices": 1}, record=same)
    runs = [first, write_run(root, backbone="swin_t", hour=1, **change)]
    assert differences(runs) == [sentence]
    assert "no backbone is named the better one" in summarize(runs)


def test_differences_group_experiments_and_tell_what_is_not_finished(root):
    runs = [write_run(root, backbone=f"timm/net{hour}", hour=hour, parameters={"seed": hour == 3}) for hour in range(5)]
    runs.append(write_run(root, backbone="swin_t", hour=9, status="failed", parameters={"seed": 0}))
    assert differences(runs) == [
        "The seed differs: no (Exp 1-3, 5), yes (Exp 4), 0 (Exp 6).",
        "Exp 6 is not finished: failed after 2 of 2 epochs (RuntimeError: the loss is not finite at step 40)."]


def test_what_a_broken_off_run_has_not_written_is_no_difference(root):
    done = write_run(root, backbone="resnet18", maps=(0.1, 0.2, 0.3))
    asked = {**done.record["parameters"], "backbone": "swin_t"}
    assert differences([done, create_run(asked, "5f" * 32)]) == [
        "Exp 2 is not finished: running after 0 of 3 epochs."]


def test_a_sentence_names_five_values_and_counts_the_others(root):
    runs = [write_run(root, hour=seed, parameters={"seed": seed}) for seed in range(8)]
    assert differences(runs) == [
        "The seed differs: 0 (Exp 1), 1 (Exp 2), 2 (Exp 3), 3 (Exp 4), 4 (Exp 5) and 3 more."]


def test_the_weights_of_a_backbone_are_another_s_own_but_must_agree_within_one(root):
    def run(backbone, digest, hour, seed=0):
        return write_run(root, backbone=backbone, hour=hour, parameters={"seed": seed},
                         record={"model": {"weights": f"{backbone}.pth"}, "files": {f"{backbone}.pth": digest * 32}})

    runs = [run("resnet18", "11", 0), run("swin_t", "22", 1), run("swin_t", "33", 2, seed=1)]
    assert differences(runs[:2]) == []
    assert differences(runs, but="seed") == ["The contents of the weights of swin_t differ: 22222222 (Exp 2), 33333333 (Exp 3)."]


def test_another_machine_and_its_instructions_are_no_difference(root):
    runs = [write_run(root, backbone=name, hour=hour, record={"hardware": {"cpu": cpu}, "settings": {
        "precision": "fp32", "cpu_capability": cpu}}) for hour, (name, cpu) in enumerate((("resnet18", "AVX2"), ("swin_t", "AVX512")))]
    assert differences(runs) == []


def test_a_warning_that_all_runs_share_still_names_no_winner(root):
    runs = [write_run(root, backbone=name, hour=hour, record={"warnings": ["the warm-up takes <all> of the steps"]})
            for hour, name in enumerate(("resnet18", "swin_t"))]
    assert differences(runs) == ["Exp 1-2 warns: the warm-up takes &lt;all&gt; of the steps."]
    assert "Nothing but" not in summarize(runs)


def test_numbers_in_sentences_are_those_of_all_runs(root):
    write_run(root, backbone="resnet50")
    runs = [write_run(root, backbone=name, hour=hour, parameters={"batch_size": hour}) for hour, name in ((1, "resnet18"), (2, "swin_t"))]
    assert differences(runs) == ["The batch size differs: 1 (Exp 2), 2 (Exp 3)."]
