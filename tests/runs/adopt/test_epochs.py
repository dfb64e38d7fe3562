"""The epochs beside adopted detections, from files that the tools themselves wrote (`logs/`).

torchvision.txt: two epochs of its reference engine; ultralytics_results.csv: the first epochs of a training with 8.4.190;
detectron2_metrics.json: by its own EventStorage and JSONWriter, 60 iterations, broken off at 35 and resumed from 30.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workbook.runs.adopt.epochs import compared, epochs_of
from workbook.runs.adopt.errors import AdoptError

LOGS = Path(__file__).parent / "logs"
CONFIG = "SOLVER:\n  IMS_PER_BATCH: 2\n  MAX_ITER: 60\n"
TRAIN = 30  # images


def beside(folder: Path, log: str, name: str, config: str = "") -> Path:
    """A file of detections in a folder with this log."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(LOGS / log, folder / name)
    if config:
        (folder / "config.yaml").write_text(config)
    return folder / "coco_instances_results.json"


def test_what_torchvision_printed(tmp_path: Path) -> None:
    found = epochs_of(beside(tmp_path, "torchvision.txt", "train.log"), TRAIN)
    assert found.tool == "torchvision" and [(line["mode"], line["epoch"], line["step"]) for line in found.lines] == [
        ("train", 1, 2), ("val", 1, 2), ("train", 2, 4), ("val", 2, 4)]
    assert found.lines[0] == {  # the means of the epoch, not the medians of its last steps
        "mode": "train", "epoch": 1, "step": 2, "loss": 1.7123, "loss_classifier": 0.6955, "loss_box_reg": 0.1028,
        "loss_objectness": 0.6913, "loss_rpn_box_reg": 0.2228}
    assert found.lines[1] == {
        "mode": "val", "epoch": 1, "step": 2, "bbox_mAP": 0.002, "bbox_mAP_50": 0.007, "bbox_mAP_75": 0.0, "bbox_mAP_s": 0.0,
        "bbox_mAP_m": 0.006, "bbox_mAP_l": None}
    assert found.last_map == 0.001


def test_masks_are_not_boxes(tmp_path: Path) -> None:
    path = beside(tmp_path, "torchvision.txt", "train.log")
    text = (tmp_path / "train.log").read_text()
    (tmp_path / "train.log").write_text(text.replace("IoU metric: bbox", "IoU metric: segm"))
    assert [line["mode"] for line in epochs_of(path, TRAIN).lines] == ["train", "train"]


def test_of_two_printed_files_the_later_one_has_the_epoch(tmp_path: Path) -> None:
    path = beside(tmp_path, "torchvision.txt", "1.log")
    again = (LOGS / "torchvision.txt").read_text().partition("Epoch: [1]")
    (tmp_path / "2.log").write_text((again[1] + again[2]).replace("0.5303", "9.9"))
    (tmp_path / "notes.txt").write_text("Epoch: early\n")
    lines = epochs_of(path, TRAIN).lines
    assert [(line["mode"], line["epoch"]) for line in lines] == [("train", 1), ("val", 1), ("train", 2), ("val", 2)]


def test_detectron2_s_iterations_are_epochs_by_the_batch_of_its_config(tmp_path: Path) -> None:
    found = epochs_of(beside(tmp_path, "detectron2_metrics.json", "metrics.json", CONFIG), TRAIN)
    assert found.tool == "detectron2" and [(line["mode"], line["epoch"], line["step"]) for line in found.lines] == [
        ("train", 2, 20), ("train", 3, 35), ("train", 3, 40), ("train", 4, 60), ("val", 4, 60)]
    assert found.lines[0] == {
        "mode": "train", "epoch": 2, "step": 20, "loss": 1.81, "loss_box_reg": 0.3, "loss_cls": 0.5525, "loss_rpn_cls": 0.5,
        "loss_rpn_loc": 0.5525, "lr": 0.02}
    assert found.lines[-1] == pytest.approx({
        "mode": "val", "epoch": 4, "step": 60, "bbox_mAP": 0.715, "bbox_mAP_50": 0.5975, "bbox_mAP_75": 0.08125, "bbox_mAP_s": None,
        "bbox_mAP_m": 0.11, "bbox_mAP_l": 0.2}, nan_ok=True)
    assert compared(found, 0.7149) == (["bbox_mAP 0.7149 here; detectron2 logged 0.7150 at its last validation"], [])
    assert "of another epoch or of other images" in compared(found, 0.5)[1][0]


def test_detectron2_s_log_lies_above_its_inference(tmp_path: Path) -> None:
    beside(tmp_path, "detectron2_metrics.json", "metrics.json", CONFIG)
    (tmp_path / "inference").mkdir()
    assert len(epochs_of(tmp_path / "inference" / "coco_instances_results.json", TRAIN).lines) == 5


def test_an_iteration_that_was_trained_again_counts_once(tmp_path: Path) -> None:
    path = beside(tmp_path, "detectron2_metrics.json", "metrics.json", CONFIG)
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iteration": 39, "total_loss": 0.5}\n{"iteration": 79, "tot')  # and half a line of a broken-off start
    lines = epochs_of(path, TRAIN).lines
    assert [line["loss"] for line in lines if line["step"] == 40] == [0.5] and lines[-1]["step"] == 60


def test_without_its_config_detectron2_s_epochs_are_not_guessed(tmp_path: Path) -> None:
    found = epochs_of(beside(tmp_path, "detectron2_metrics.json", "metrics.json"), TRAIN)
    assert not found.lines and "no config.yaml beside it" in compared(found, 0.5)[0][0]


def test_what_ultralytics_wrote(tmp_path: Path) -> None:
    found = epochs_of(beside(tmp_path, "ultralytics_results.csv", "results.csv"), TRAIN)
    assert found.tool == "ultralytics" and [(line["mode"], line["epoch"]) for line in found.lines] == [
        (mode, epoch) for epoch in (1, 2, 3) for mode in ("train", "val")]
    assert set(found.lines[0]) == {"mode", "epoch", "step", "loss", "loss_box", "loss_cls", "loss_dfl"}
    assert found.lines[0]["loss"] == pytest.approx(sum(found.lines[0][f"loss_{part}"] for part in ("box", "cls", "dfl")))
    assert set(found.lines[1]) == {*found.lines[0], "ultralytics_mAP50-95", "ultralytics_mAP50"}
    assert compared(found, 0.25)[0][0].startswith("bbox_mAP 0.2500 here; ultralytics logged mAP50-95 0.")


@pytest.mark.parametrize(("name", "text", "words"), [
    ("results.csv", "epoch,time\n1,2\n2\n", r"results\.csv, line 3: not 2 numbers"),
    ("results.csv", "a,b\n1,2\n", "has no column epoch"),
    ("metrics.json", '{"iteration": 1}\n{"iter\n{"iteration": 2}\n', r"metrics\.json, line 2 is no JSON"),
    ("metrics.json", '{"iteration": 1}\n{"loss_cls": 2}\n{"iteration": 2}\n', r"metrics\.json, line 2 has no iteration"),
    ("metrics.json", '{"iteration": 1}\n[2]\n{"iteration": 2}\n', r"metrics\.json, line 2 has no iteration"),
    ("metrics.json", '{"iteration": -1}\n', r"metrics\.json, line 1 has no iteration, a number from 0"),
    ("results.csv", "epoch,time\nnan,2\n", r"results\.csv, line 2: epoch nan is no whole number"),
    ("results.csv", "epoch,time\n1e400,2\n", r"results\.csv, line 2: epoch 1e400 is no whole number"),
])
def test_a_broken_log_is_refused_with_its_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "config.yaml").write_text(CONFIG)
    with pytest.raises(AdoptError, match=words):
        epochs_of(tmp_path / "predictions.json", TRAIN)


def test_nothing_beside_the_detections_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"bbox_mAP": 0.5}')  # of some other program
    found = epochs_of(tmp_path / "predictions.json", TRAIN)
    assert not found.lines and compared(found, 0.5) == ([], [])


def test_much_less_than_ultralytics_logged_is_doubted(tmp_path: Path) -> None:
    """Its measure is another, but not by so much: boxes of another image size."""
    (tmp_path / "results.csv").write_text("epoch,metrics/mAP50-95(B)\n1,0.05\n2,0.07\n")
    found = epochs_of(tmp_path / "predictions.json", TRAIN)
    assert compared(found, 0.06)[1] == [] and compared(found, None)[1] and "another image size" in compared(found, 0.001)[1][0]


def test_an_epoch_that_ultralytics_trained_again_counts_once(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("\ufeffepoch,train/box_loss\n1,5\n2,4\n2,3\n")
    lines = epochs_of(tmp_path / "predictions.json", TRAIN).lines
    assert [line["loss"] for line in lines if line["mode"] == "train"] == [5, 3]


@pytest.mark.parametrize("line", [
    '{"iteration": 19, "total_loss": null, "loss_cls": "x", "lr": NaN}', '{"iteration": 19, "bbox/AP": null}',
])
def test_what_is_no_number_in_detectron2_s_log_is_left_out(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.json").write_text(line + "\n")
    (tmp_path / "config.yaml").write_text('SOLVER:\n  IMS_PER_BATCH: "2"  # both\n')
    assert not epochs_of(tmp_path / "coco_instances_results.json", TRAIN).lines


def test_what_is_no_number_in_torchvision_s_log_is_left_out(tmp_path: Path) -> None:
    text = (LOGS / "torchvision.txt").read_text()
    (tmp_path / "train.log").write_text(text.replace("(1.7123)", "(nan)").replace("(0.6955)", "(...)").replace("] = 0.002", "] = 0.0.2"))
    train, val, *_ = epochs_of(tmp_path / "coco_instances_results.json", TRAIN).lines
    assert set(train) == {"mode", "epoch", "step", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"} and val["bbox_mAP"] is None
