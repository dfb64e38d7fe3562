"""Detections of others as runs: figures against pycocotools, ids and classes against the truth they were made from."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from small_dataset import annotation, load, save, write_dataset
from workbook.errors import RunError
from workbook.files import read_json
from workbook.runs.adopt.adopt import adopt_run
from workbook.runs.adopt.errors import AdoptError
from workbook.runs.folder import read_log, runs_root
from workbook.runs.listing import list_runs

Entry = dict[str, Any]
IMAGES = 12


@pytest.fixture(autouse=True)
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images; their ids are far from the numbers in their names."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    folder = write_dataset(tmp_path / "data" / "pets", IMAGES)
    content = load(folder, "val")
    for image in content["images"]:
        (folder / "images" / image["file_name"]).rename(folder / "images" / f"{image['id']:03}.png")
        image.update(file_name=f"{image['id']:03}.png", id=500 + image["id"])
    for number, entry in enumerate(content["annotations"]):
        entry.update(image_id=500 + entry["image_id"], bbox=[5.0 + number, 6.0, 20.0, 10.0], area=200.0)
    save(folder, "val", content)
    return folder


def detections(pets: Path) -> list[Entry]:
    """Every object of val, some by two pixels beside it, in falling certainty; and a false one an image."""
    content = load(pets, "val")
    found = []
    for number, entry in enumerate(content["annotations"]):
        x, y, width, height = entry["bbox"]
        shift = 2.0 * (number % 3)
        found.append({"image_id": entry["image_id"], "category_id": entry["category_id"], "bbox": [x + shift, y, width, height],
                      "score": 0.9 - number / 100})
    false = [{"image_id": image["id"], "category_id": 1, "bbox": [40.0, 30.0, 15.0, 12.0], "score": 0.5} for image in content["images"]]
    return found + false


def put(path: Path, entries: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    return path


def pycocotools_figures(pets: Path, entries: list[Entry]) -> list[float]:
    """AP, AP50, AP75, AP_s."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(pets / "val.json"))
        results = truth.loadRes(json.loads(json.dumps(entries)))  # it writes into what it is given
        engine = COCOeval(truth, results, "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return list(engine.stats[:4])


def changed(pets: Path, change: Callable[[Entry], Entry]) -> list[Entry]:
    return [{**entry, **change(entry)} for entry in detections(pets)]


def test_the_figures_are_those_of_pycocotools(pets: Path, tmp_path: Path) -> None:
    entries = detections(pets)
    path = put(tmp_path / "yolo.json", entries)
    before = path.read_bytes()
    run = adopt_run(path, "pets").run
    metrics = run.metrics()
    ours = [metrics[key] for key in ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s")]
    np.testing.assert_allclose(ours, pycocotools_figures(pets, entries), atol=1e-9)
    assert 0 < ours[0] < 1
    assert read_json(run.folder / "predictions.json") == entries
    assert run.name.startswith("adopted-yolo-")
    assert run.record["origin"]["files"].keys() == {str(path)}
    assert path.read_bytes() == before


def test_the_same_content_is_the_same_folder_and_other_content_is_another(pets: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "yolo.json", detections(pets))
    first = adopt_run(path, "pets")
    record = (first.run.folder / "run.json").read_bytes()
    again = adopt_run(path, "pets")
    assert (first.was_there, again.was_there, again.run) == (False, True, first.run)
    assert (first.run.folder / "run.json").read_bytes() == record
    assert again.notes == first.notes
    other = adopt_run(put(path, detections(pets)[1:]), "pets")
    assert other.run.folder != first.run.folder
    assert sorted(run.record["number"] for run in list_runs()) == [1, 2]


def test_a_broken_write_leaves_no_folder(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "yolo.json", detections(pets))
    monkeypatch.setattr("workbook.runs.adopt.adopt._record", _fail)
    with pytest.raises(RunError, match="cannot write the run folder"):
        adopt_run(path, "pets")
    assert not [entry for entry in runs_root().iterdir() if entry.is_dir()]


def _fail(*given: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("change", "words"), [
    (lambda entry: {"image_id": entry["image_id"] - 500}, "image_id as the stem of the file name"),
    (lambda entry: {"image_id": f"{entry['image_id'] - 500:03}"}, "image_id as the stem of the file name"),
    (lambda entry: {"image_id": 1, "file_name": f"{entry['image_id'] - 500:03}.png"}, "images by file_name"),
    (lambda entry: {"image_id": 1, "file_name": f"/elsewhere/{entry['image_id'] - 500:03}.jpg"}, "images by file_name"),
    (lambda entry: {"category_id": {1: 0, 7: 1}[entry["category_id"]]}, "category_id as the place of the class, from 0"),
    (lambda entry: {"category_id": {1: 1, 7: 2}[entry["category_id"]]}, "category_id as the place of the class, from 1"),
    (lambda entry: {"category_id": 0, "category_name": {1: "dog", 7: "cat"}[entry["category_id"]]}, "classes by category_name"),
])
def test_ids_of_other_tools_become_those_of_val(
    pets: Path, tmp_path: Path, change: Callable[[Entry], Entry], words: str,
) -> None:
    adopted = adopt_run(put(tmp_path / "yolo.json", changed(pets, change)), "pets")
    assert read_json(adopted.run.folder / "predictions.json") == detections(pets)
    assert words in adopted.notes[0]


def test_stems_are_believed_where_they_score_better_than_ids(pets: Path, tmp_path: Path) -> None:
    """ultralytics wrote the number of a file; here it is the id of another image as well."""
    content = load(pets, "val")
    for entry in content["annotations"]:
        entry["image_id"] = 513 - entry["image_id"]
    for image in content["images"]:
        image["id"] = 513 - image["id"]
    save(pets, "val", content)
    stems = [{**entry, "image_id": 13 - entry["image_id"]} for entry in detections(pets)]
    adopted = adopt_run(put(tmp_path / "yolo.json", stems), "pets")
    assert read_json(adopted.run.folder / "predictions.json") == detections(pets)
    assert "stem of the file name" in adopted.notes[0] and "otherwise image_id as in val.json" in adopted.notes[0]


def contiguous(pets: Path) -> None:
    """Three classes with the ids 1, 2 and 3; objects of the first two."""
    for split in ("train", "val"):
        content = load(pets, split)
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(("dog", "cat", "owl"), start=1)]
        for entry in content["annotations"]:
            entry["category_id"] = {1: 1, 7: 2}[entry["category_id"]]
        save(pets, split, content)


def test_a_shift_of_the_classes_is_found_by_their_ap(pets: Path, tmp_path: Path) -> None:
    contiguous(pets)
    content = load(pets, "val")
    for entry in content["annotations"]:
        entry["category_id"] += 1
    save(pets, "val", content)
    shifted = changed(pets, lambda entry: {"category_id": 2 if entry["score"] == 0.5 else entry["category_id"] - 1})
    expected = [{**entry, "category_id": entry["category_id"] + 1} for entry in shifted]
    adopted = adopt_run(put(tmp_path / "yolo.json", shifted), "pets")
    assert read_json(adopted.run.folder / "predictions.json") == expected
    assert "from 0: AP" in adopted.notes[0]
    assert "otherwise image_id as in val.json and category_id as in val.json: AP 0.0" in adopted.notes[0]


def test_another_order_of_the_classes_is_said_and_stays_with_the_run(pets: Path, tmp_path: Path) -> None:
    swapped = changed(pets, lambda entry: {"category_id": 8 - entry["category_id"]})
    adopted = adopt_run(put(tmp_path / "yolo.json", swapped), "pets")
    warning, = adopted.run.record["warnings"]
    assert "the classes seem to be in another order: with dog as cat, cat as dog, AP is" in warning
    assert warning in adopted.notes


def test_the_right_order_is_not_doubted(pets: Path, tmp_path: Path) -> None:
    assert adopt_run(put(tmp_path / "yolo.json", detections(pets)), "pets").run.record["warnings"] == []


def test_boxes_at_the_border_are_no_corners(pets: Path, tmp_path: Path) -> None:
    """A detector may reach a little beyond its image."""
    content = load(pets, "val")
    for entry in content["annotations"]:
        entry.update(bbox=[30.0, 20.0, 34.0, 28.0], area=952.0)
    save(pets, "val", content)
    wide = [{**entry, "bbox": [30.0, 20.0, 36.0, 30.0]} for entry in detections(pets)]
    assert adopt_run(put(tmp_path / "yolo.json", wide), "pets").run.metrics()["bbox_mAP"] > 0.1


@pytest.mark.parametrize(("file", "name", "kind"), [
    ("predictions.json", "adopted-train3-", "COCO results"), ("r50.bbox.json", "adopted-train3-", "mmdet"),
    ("inference/coco_instances_results.json", "adopted-train3-", "detectron2"), ("result.json", "adopted-train3-", "COCO results"),
])
def test_a_folder_with_results_is_named_for_itself(pets: Path, tmp_path: Path, file: str, name: str, kind: str) -> None:
    put(tmp_path / "train3" / file, detections(pets))
    run = adopt_run(tmp_path / "train3", "pets").run
    assert run.name.startswith(name) and run.record["origin"]["kind"] == kind


def test_a_run_without_a_model_says_what_it_is_good_for(pets: Path, tmp_path: Path) -> None:
    from workbook.runs.load import load_trained
    from workbook.search.question import ask_question
    from workbook.training.evaluate import evaluate_run
    from workbook.training.rerun import rerun

    run = adopt_run(put(tmp_path / "yolo.json", detections(pets)), "pets").run
    for ask in (load_trained, lambda run: ask_question(run, "small"), evaluate_run, rerun):
        with pytest.raises(RunError, match=r"was adopted from .*yolo\.json,? and (has no model, which .* needs|.* trains like it)"):
            ask(run)


def test_a_run_without_a_model_is_diagnosed_by_its_detections(pets: Path, tmp_path: Path) -> None:
    from workbook.diagnosis import store
    from workbook.views.diagnosis.summary import summarize

    entries = detections(pets)
    run = adopt_run(put(tmp_path / "yolo.json", entries), "pets").run
    found = store.load_or_diagnose(run)
    assert found.trace["detected"].all() and len(found.trace) == len(load(pets, "val")["annotations"])
    assert store.load(run).waterfall == found.waterfall and not found.disagreement
    assert "Made from detections alone" in summarize(found, "all") and str(tmp_path / "yolo.json") in summarize(found, "all")


def test_a_class_of_val_without_objects_is_no_obstacle(pets: Path, tmp_path: Path) -> None:
    contiguous(pets)
    run = adopt_run(put(tmp_path / "yolo.json", detections(pets)), "pets").run
    assert run.metrics()["per_class"]["owl"]["bbox_mAP"] is None


def test_images_whose_names_collide_are_listed(pets: Path, tmp_path: Path) -> None:
    content = load(pets, "val")
    content["images"].append({**content["images"][0], "id": 900, "file_name": "more/001.png"})
    content["annotations"].append(annotation(99, 900, [5.0, 6.0, 20.0, 10.0]))
    save(pets, "val", content)
    (pets / "images" / "more").mkdir()
    (pets / "images" / "more" / "001.png").write_bytes((pets / "images" / "001.png").read_bytes())
    stems = changed(pets, lambda entry: {"image_id": entry["image_id"] % 500 % 399})
    with pytest.raises(AdoptError, match=r"1 of the 12 images of the results fit several of val\.json: 1 may be 001\.png or more/001\.png"):
        adopt_run(put(tmp_path / "yolo.json", stems), "pets")
    assert not runs_root().exists()


# ---- YOLO's text files -----------------------------------------------------------------------------------------------


def as_texts(pets: Path, folder: Path, order: tuple[str, ...] = ("dog", "cat")) -> Path:
    """The detections as `yolo predict save_txt save_conf` writes them: a file an image that has any, six digits."""
    val = load(pets, "val")
    names = {category["id"]: category["name"] for category in val["categories"]}
    images = {image["id"]: image for image in val["images"]}
    lines: dict[str, list[str]] = {}
    for entry in detections(pets):
        image = images[entry["image_id"]]
        x, y, width, height = entry["bbox"]
        box = ((x + width / 2) / image["width"], (y + height / 2) / image["height"], width / image["width"], height / image["height"])
        line = " ".join([str(order.index(names[entry["category_id"]])), *(f"{side:.6g}" for side in box), f"{entry['score']:.6g}"])
        lines.setdefault(Path(image["file_name"]).stem, []).append(line)
    folder.mkdir(parents=True)
    for stem, of_image in lines.items():
        (folder / f"{stem}.txt").write_text("\n".join(of_image) + "\n")
    return folder


@pytest.mark.parametrize("given", ["predict3", "predict3/labels"])
def test_text_files_of_yolo_are_the_detections_they_were_made_from(pets: Path, tmp_path: Path, given: str) -> None:
    as_texts(pets, tmp_path / "predict3" / "labels")
    adopted = adopt_run(tmp_path / given, "pets")
    found = {(e["image_id"], e["category_id"], round(e["score"], 4)): e["bbox"] for e in read_json(adopted.run.folder / "predictions.json")}
    expected = {(e["image_id"], e["category_id"], round(e["score"], 4)): e["bbox"] for e in detections(pets)}
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], abs=1e-3) for key in found)
    assert "category_id as the place of the class, from 0" in adopted.notes[0]
    assert not (adopted.run.folder / "log.jsonl").exists()


def test_the_folder_and_its_labels_are_one_run(pets: Path, tmp_path: Path) -> None:
    as_texts(pets, tmp_path / "predict3" / "labels")
    first, second = (adopt_run(tmp_path / given, "pets") for given in ("predict3", "predict3/labels"))
    assert second.was_there and first.run.folder == second.run.folder and first.run.record["parameters"]["backbone"] == "predict3"


def test_images_without_a_detection_are_counted_and_detections_that_fit_nothing_are_doubted(pets: Path, tmp_path: Path) -> None:
    folder = as_texts(pets, tmp_path / "labels")
    gone = sorted(folder.iterdir())[:3]
    for file in gone:
        file.unlink()
    assert any(f"3 of {IMAGES} val images have no detection: {gone[0].stem}.png" in note for note in adopt_run(folder, "pets").notes)
    for file in folder.iterdir():  # the confidence in the second column
        file.write_text("".join(f"{line.split()[0]} {line.split()[5]} {' '.join(line.split()[1:5])}\n" for line in file.open()))
    assert any("nearly no detection fits an object of val" in note for note in adopt_run(folder, "pets").notes)


def test_classes_in_another_order_than_val_s_are_said(pets: Path, tmp_path: Path) -> None:
    adopted = adopt_run(as_texts(pets, tmp_path / "labels", order=("cat", "dog")), "pets")
    assert any("the classes seem to be in another order: with dog as cat, cat as dog" in note for note in adopted.notes)


RESULTS_CSV = """  epoch, time, train/box_loss, train/cls_loss, metrics/mAP50(B), metrics/mAP50-95(B), val/box_loss, val/cls_loss, lr/pg0
  1, 12.5, 1.70, 4.10, 0.25, 0.125, 1.50, 3.90, 0.001
  2, 24.0, 1.40, 3.00, 0.50, 0.250, 1.25,  nan, 0.001
"""


def test_the_epochs_beside_the_detections_are_kept_under_their_own_names(pets: Path, tmp_path: Path) -> None:
    put(tmp_path / "train7" / "predictions.json", detections(pets))
    (tmp_path / "train7" / "args.yaml").write_text("model: yolo11n.pt")
    (tmp_path / "train7" / "results.csv").write_text(RESULTS_CSV)
    run = adopt_run(tmp_path / "train7", "pets").run
    assert read_log(run.folder / "log.jsonl") == [
        {"mode": "train", "epoch": 1, "step": 1, "loss": pytest.approx(5.8), "loss_box": 1.7, "loss_cls": 4.1},
        {"mode": "val", "epoch": 1, "step": 1, "loss": pytest.approx(5.4), "loss_box": 1.5, "loss_cls": 3.9,
         "ultralytics_mAP50-95": 0.125, "ultralytics_mAP50": 0.25},
        {"mode": "train", "epoch": 2, "step": 2, "loss": pytest.approx(4.4), "loss_box": 1.4, "loss_cls": 3.0},
        {"mode": "val", "epoch": 2, "step": 2, "loss": 1.25, "loss_box": 1.25, "ultralytics_mAP50-95": 0.25, "ultralytics_mAP50": 0.5},
    ]


def test_epochs_that_come_later_are_added_and_nothing_else_changes(pets: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "train7" / "predictions.json", detections(pets))
    run = adopt_run(tmp_path / "train7", "pets").run
    before = {file.name: file.read_bytes() for file in run.folder.iterdir() if file.name != "run.json"}
    (path.parent / "results.csv").write_text(RESULTS_CSV)
    again = adopt_run(tmp_path / "train7", "pets")
    assert again.run == run and "the epochs of ultralytics that lie beside it now are added" in again.notes
    assert len(read_log(run.folder / "log.jsonl")) == 4 and run.record["epochs_done"] == 2
    assert "ultralytics logged mAP50-95 0.2500" in run.record["origin"]["notes"][-1] and run.record["origin"]["notes"][-1] in again.notes
    assert {file.name: file.read_bytes() for file in run.folder.iterdir() if file.name in before} == before
    assert "are added" not in " ".join(adopt_run(tmp_path / "train7", "pets").notes)


def test_the_folder_of_detectron2_and_its_inference_are_one_run(pets: Path, tmp_path: Path) -> None:
    put(tmp_path / "out" / "inference" / "coco_instances_results.json", detections(pets))
    first, second = (adopt_run(tmp_path / given, "pets") for given in ("out", "out/inference"))
    assert second.was_there and first.run == second.run and first.run.name.startswith("adopted-out-")


def test_odd_entries_are_counted(pets: Path, tmp_path: Path) -> None:
    found = [{**entry, "score": 0.5, "category_id": float(entry["category_id"])} for entry in detections(pets)]
    found[0]["bbox"] = [1.0, 2.0, 0.0, 4.0]
    notes = " ".join(adopt_run(put(tmp_path / "yolo.json", [*found, *found[:3]]), "pets").notes)
    count = len(found) + 3
    assert f"3 of {count} detections are listed twice or more" in notes and f"2 of {count} boxes have no width or no height" in notes
    assert "all scores are 0.5" in notes


def test_what_was_doubtful_heads_the_diagnosis(pets: Path, tmp_path: Path) -> None:
    """A run on some of the images: its page says so before anything else."""
    from workbook.diagnosis import store
    from workbook.views.diagnosis.summary import summarize

    few = [entry for entry in detections(pets) if entry["image_id"] % 500 % 100 <= IMAGES // 2]
    run = adopt_run(put(tmp_path / "yolo.json", few), "pets").run
    (warning,) = run.record["warnings"]
    assert "val images have no detection" in warning
    assert summarize(store.load_or_diagnose(run), "all").startswith(f"**At its adoption: {warning.partition(':')[0]}")
