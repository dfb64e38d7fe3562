"""Data, outputs or the whole workbook moved to another place: a finished run finds its data by name and content, or says why not."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from small_dataset import picture
from trained_run import ASKED, DATASET, Trained
from workbook.browse.samples import read_runs
from workbook.diagnosis.store import load_or_diagnose
from workbook.errors import RunError
from workbook.runs.data import run_config
from workbook.runs.folder import Run
from workbook.runs.listing import finished_run, list_runs
from workbook.runs.load import load_trained
from workbook.runs.samples import samples_of
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
from workbook.training.train import train
from workbook.views.compare.tables import comparison
from workbook.views.run.pictures import detections


@dataclass(frozen=True)
class Moved:
    """The finished run in `outputs`, its config as a training at `old` wrote it; `new` may hold its data. `old` is not there."""

    run: Run
    old: Path
    new: Path

    @property
    def folder(self) -> Path:
        return self.new / DATASET


@pytest.fixture
def moved(tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Moved:
    run = trained.copy(tmp_path / "outputs")
    found = Moved(run, tmp_path / "old", tmp_path / "new")
    path = run.folder / "config.py"
    path.write_text(path.read_text().replace(str(trained.data), str(found.old)))
    assert str(found.old) in path.read_text()
    shutil.copytree(trained.data, found.new)
    monkeypatch.setenv("WORKBOOK_DATA", str(found.new))
    return found


def paths(run: Run) -> set[str]:
    data = run_config(run).data
    return {str(data[split][key]) for split in ("train", "val") for key in ("ann_file", "img_prefix")}


def below(folder: Path) -> set[str]:
    return {str(folder / name) for name in ("train.json", "val.json", "images")}


def refused(run: Run) -> str:
    with pytest.raises(RunError) as said:
        run_config(run)
    return str(said.value)


# ---- found -----------------------------------------------------------------------------------------------------------


def test_data_that_were_moved_are_found_by_name_and_content(moved: Moved) -> None:
    assert paths(moved.run) == below(moved.folder)


def test_data_where_they_were_are_taken_from_there(moved: Moved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    moved.new.rename(moved.old)
    for root in (moved.old, tmp_path / "empty"):
        monkeypatch.setenv("WORKBOOK_DATA", str(root))
        assert paths(moved.run) == below(moved.old / DATASET)


def test_a_label_that_was_mended_in_its_place_is_taken(moved: Moved) -> None:
    """The diagnosis is then made anew, and says in what it is another."""
    shutil.copytree(moved.new, moved.old)
    change_a_box(moved.old / DATASET)
    assert paths(moved.run) == below(moved.old / DATASET)


def test_images_that_were_moved_apart_are_found(moved: Moved) -> None:
    """The annotations are where they were, a disk with the images is gone."""
    shutil.copytree(moved.new, moved.old)
    shutil.rmtree(moved.old / DATASET / "images")
    assert paths(moved.run) == below(moved.folder)


def test_a_linked_data_folder_is_as_good(moved: Moved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(moved.new)
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "link"))
    assert paths(moved.run) == below(tmp_path / "link" / DATASET)


def test_everything_works_with_data_and_outputs_moved(
    moved: Moved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole workbook on another machine: listed, shown, compared, diagnosed, browsed, evaluated, and trained again."""
    (tmp_path / "outputs").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "elsewhere"))
    (run,) = list_runs()
    assert run == finished_run() and run.folder.is_relative_to(tmp_path / "elsewhere")
    assert list(comparison([run])["run"]) == [run.name]
    assert samples_of(run, {}).figures["bbox_mAP"].values[0] == pytest.approx(run.metrics()["bbox_mAP"], abs=1e-9)
    plt.close(detections(run))
    assert load_trained(run)[0].CLASSES
    diagnosis = load_or_diagnose(run, device="cpu")
    assert diagnosis.disagreement == () and diagnosis.images_dir == moved.folder / "images"
    assert read_runs([run])[0].diagnosis.ground_truth["images"]
    assert train(prepare(check_parameters(ASKED))) == run
    assert f"already done: {run.folder}" in capsys.readouterr().out


def test_a_diagnosis_that_was_made_before_the_move_is_still_current(moved: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_or_diagnose(moved.run, device="cpu")
    moved.new.rename(moved.old)
    monkeypatch.setattr("workbook.diagnosis.store.diagnose", lambda *_, **__: pytest.fail("it was made again"))
    assert load_or_diagnose(moved.run, device="cpu").made_from == before.made_from


def test_comparing_needs_no_images(moved: Moved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a laptop that has the annotations and the outputs of a cluster."""
    shutil.rmtree(moved.folder / "images")
    moved.new.rename(moved.old)
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "empty"))
    samples_of(moved.run, {})
    assert "images is missing" in refused(moved.run)


# ---- not found -------------------------------------------------------------------------------------------------------


def change_a_box(folder: Path) -> None:
    content = json.loads((folder / "val.json").read_text())
    content["annotations"][0]["bbox"][0] += 1
    (folder / "val.json").write_text(json.dumps(content))


def test_data_that_are_nowhere_are_described_and_the_advice_leads_out(
    moved: Moved, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "empty"))
    said = refused(moved.run)
    digits = moved.run.record["data"]["hash"][:8]
    assert f"{moved.old / DATASET / 'val.json'} is missing: {moved.run.name} was trained on '{DATASET}'" in said
    assert f"(4 train and 2 val images, data hash {digits}) there, and {tmp_path / 'empty' / DATASET} is not there either" in said
    assert "set WORKBOOK_DATA to the folder that holds" in said
    monkeypatch.setenv("WORKBOOK_DATA", str(moved.new))
    assert paths(moved.run) == below(moved.folder)


def test_other_data_under_the_name_are_refused_and_described(moved: Moved) -> None:
    change_a_box(moved.folder)
    said = refused(moved.run)
    assert "holds other data (4 train and 2 val images, data hash " in said and "or train again on this one" in said
    assert said.count(moved.run.record["data"]["hash"][:8]) == 1


def test_another_image_is_other_data(moved: Moved) -> None:
    picture(5, 128, 96).save(next((moved.folder / "images").iterdir()))
    assert "holds other data" in refused(moved.run)


def test_missing_images_are_counted_and_copying_them_leads_out(moved: Moved) -> None:
    images = sorted((moved.folder / "images").iterdir())
    contents = [path.read_bytes() for path in images[:2]]
    for path in images[:2]:
        path.unlink()
    assert f"of the 6 images of {moved.folder} 2 are missing, the first {images[0].name}. Copy them to {images[0].parent}" in \
        refused(moved.run)
    for path, content in zip(images[:2], contents, strict=True):
        path.write_bytes(content)
    assert paths(moved.run) == below(moved.folder)


def test_annotations_that_cannot_be_read_are_said_to_be_so(moved: Moved) -> None:
    (moved.folder / "val.json").write_text("{")
    assert "cannot be used: " in refused(moved.run) and "val.json is not valid JSON" in refused(moved.run)


def test_a_record_that_does_not_say_its_data_finds_nothing_by_chance(moved: Moved) -> None:
    """It was broken off before, or is of somebody else; a name alone is no proof."""
    for data in (None, {}, {"name": DATASET}, {"name": "../new/" + DATASET, "hash": moved.run.record["data"]["hash"]}, "pets"):
        moved.run.update(data=data)
        assert "val.json is missing" in refused(moved.run)
