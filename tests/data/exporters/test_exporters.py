"""There and back, and FiftyOne in the middle: what it writes is read here, what is written here it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foreign
import with_fiftyone
from foreign import CLASSES, PHOTOS
from small_dataset import annotation, load, save, write_dataset
from workbook.data.exporters.command import export_dataset
from workbook.data.importers.command import import_dataset
from workbook.data.reading import DataError
from workbook.files import outputs_root

FORMATS = ("yolo", "voc", "coco")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def pets(data: Path) -> Path:
    """A dataset with a sub-folder, a crowd, a truncated object, a mask, a class without objects before the others, and a test set."""
    folder = write_dataset(data / "pets")
    (folder / "images" / "garden").mkdir()
    (folder / "images" / "train_3.png").rename(folder / "images" / "garden" / "train 3.png")
    content = load(folder, "train")
    content["images"][2]["file_name"] = "garden/train 3.png"
    content["annotations"] += [
        annotation(11, 3, [0.0, 0.0, 30.5, 20.25], iscrowd=1),
        annotation(12, 3, [10.125, 20.0, 12.0, 9.5], truncated=1, pose="Left"),
        annotation(13, 1, [30.0, 30.0, 10.0, 10.0], segmentation=[[30, 30, 40, 30, 40, 40, 30, 40]])]
    for split in ("train", "val"):
        content = content if split == "train" else load(folder, "val")
        content["categories"] = [{"id": 3, "name": "zebra"}, {"id": 7, "name": "cat"}, {"id": 1, "name": "dog"}]
        save(folder, split, content)
    test = {**load(folder, "val"), "images": [{**load(folder, "val")["images"][0], "file_name": "last.png"}]}
    test["annotations"] = [entry for entry in test["annotations"] if entry["image_id"] == test["images"][0]["id"]]
    foreign.picture(77).save(folder / "images" / "last.png")
    save(folder, "test", test)
    return folder


def objects(folder: Path, split: str) -> dict[str, list[tuple[Any, ...]]]:
    """File name → class, corners to a thousandth of a pixel, crowd, and what is known of its visibility."""
    content = load(folder, split)
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    files = {entry["id"]: entry["file_name"] for entry in content["images"]}
    found: dict[str, list[tuple[Any, ...]]] = {name: [] for name in files.values()}
    for entry in content["annotations"]:
        box = tuple(round(value, 3) for value in entry["bbox"])
        known = (entry["iscrowd"], entry.get("truncated", 0), entry.get("pose", ""))
        found[files[entry["image_id"]]].append((names[entry["category_id"]], box, *known))
    return found


def class_names(folder: Path) -> list[str]:
    return [entry["name"] for entry in sorted(load(folder, "train")["categories"], key=lambda entry: entry["id"])]


@pytest.mark.parametrize("to", FORMATS)
def test_there_and_back_loses_only_what_is_named(to: str, data: Path) -> None:
    source = pets(data)
    done = export_dataset("pets", to)
    made = import_dataset(done.folder, "back")
    assert made.imported.format == to and [p for p in made.problems if p.level == "error"] == []
    assert class_names(made.folder) == class_names(source) == ["dog", "zebra", "cat"]
    for split in ("train", "val", "test"):
        mine = objects(source, split)
        if to == "yolo":  # it has neither crowds nor words for how much is visible
            mine = {name: [(*known[:2], 0, 0, "") for known in found if not known[2]] for name, found in mine.items()}
        assert objects(made.folder, split) == mine
    lost = " ".join(done.notes)
    assert ("crowds" in lost, "masks" in lost, "key truncated" in lost) == {
        "yolo": (True, True, True), "voc": (True, True, False), "coco": (False, False, False)}[to]
    for path in (source / "images").rglob("*.png"):
        there = next(path for path in done.folder.rglob(path.name))
        assert there.read_bytes() == path.read_bytes() and not there.is_symlink()


def test_coco_is_written_with_every_key(data: Path) -> None:
    source = pets(data)
    done = export_dataset("pets", "coco")
    for split in ("train", "val", "test"):
        assert json.loads((done.folder / "annotations" / f"instances_{split}.json").read_text()) == load(source, split)


def test_yolo_clips_what_sticks_out_and_says_so(data: Path) -> None:
    folder = write_dataset(data / "pets")
    content = load(folder, "train")
    content["annotations"][0]["bbox"] = [-2.0, 40.0, 20.0, 10.0]
    save(folder, "train", content)
    done = export_dataset("pets", "yolo")
    row = (done.folder / "labels" / "train_1.txt").read_text().splitlines()[0].split()
    assert [float(word) for word in row[1:]] == pytest.approx([9 / 64, 44 / 48, 18 / 64, 8 / 48])
    assert "clipped" in done.notes[0] and done.notes[0].endswith("1 (train_1.png)")


def test_what_an_export_of_another_machine_has_left_goes_after_a_day(data: Path) -> None:
    write_dataset(data / "pets")
    exports = outputs_root() / "exports"
    (old := exports / ".x.12345678.1-1.partial").mkdir(parents=True)
    os.utime(old, (0, 0))
    export_dataset("pets", "yolo")
    assert os.listdir(exports) == ["pets-yolo"]


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_the_bar_is_not_full_before_the_labels_are_written(to: str, data: Path, capfd: pytest.CaptureFixture) -> None:
    write_dataset(data / "pets")
    export_dataset("pets", to)
    said = capfd.readouterr().err
    assert "writing labels of train: 100%" in said and "writing labels of val: 100%" in said


def test_an_export_is_refused_and_leaves_nothing(data: Path) -> None:
    folder = write_dataset(data / "pets")
    with pytest.raises(DataError, match="unknown format. Known: yolo, voc, coco"):
        export_dataset("pets", "kitti")
    export_dataset("pets", "yolo")
    with pytest.raises(DataError, match="is there already, and is not overwritten"):
        export_dataset("pets", "yolo")
    content = load(folder, "train")
    (folder / "images" / "train_1.jpg").write_bytes((folder / "images" / "train_2.png").read_bytes())
    (folder / "images" / "train_2.png").unlink()
    content["images"][1]["file_name"] = "train_1.jpg"
    save(folder, "train", content)
    with pytest.raises(DataError, match=r"train_1.jpg and train_1.png would share them: rename one of each"):
        export_dataset("pets", "voc")
    (folder / "images" / "train_1.jpg").unlink()
    with pytest.raises(DataError, match="train_1.jpg, image 2 of train.json: the file is missing"):
        export_dataset("pets", "coco")
    exports = Path(os.environ["WORKBOOK_OUTPUTS"]) / "exports"
    assert [path.name for path in exports.iterdir()] == ["pets-yolo"]


# ---- FiftyOne --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder, with theirs/ and ours/, and what FiftyOne's importers have read of ours."""
    root = tmp_path_factory.mktemp("fiftyone")
    photos = [{"path": str(photo.write(root / "photos")), "split": photo.split, "width": photo.width, "height": photo.height,
               "boxes": [(CLASSES[number], box) for number, box in photo.boxes]} for photo in PHOTOS]
    foreign.put(root / "photos.json", json.dumps(photos))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_DATA", str(root / "data"))
        patch.setenv("WORKBOOK_OUTPUTS", str(root / "outputs"))
        import_dataset(foreign.coco2017(root / "coco2017"), "mine", copy=True)
        for to in FORMATS:
            made = export_dataset("mine", to)
            (root / "ours").mkdir(exist_ok=True)
            made.folder.rename(root / "ours" / to)
        done = subprocess.run([sys.executable, with_fiftyone.__file__, root, root / "photos.json"], capture_output=True, text=True,
                              timeout=300)
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout.splitlines()[-1])


# pixels that FiftyOne rounds by: it writes six digits of a share, cuts VOC's corners to whole pixels
ROUNDS = {"yolo": 1e-3, "voc": 1.0, "coco": 1e-6}


@pytest.mark.parametrize("to", FORMATS)
def test_what_fiftyone_writes_is_read(to: str, fiftyone: tuple[Path, dict[str, Any]]) -> None:
    made = import_dataset(fiftyone[0] / "theirs" / to, "theirs")
    assert made.imported.format == to and [p for p in made.problems if p.level == "error"] == []
    assert list(made.imported.classes) == (sorted(CLASSES) if to == "voc" else list(CLASSES))  # VOC has no order
    for split in ("train", "val"):
        found = {Path(name).name: boxes for name, boxes in objects(made.folder, split).items()}
        assert set(found) == {photo.name for photo in foreign.of_split(split)}
        for photo in foreign.of_split(split):
            for (number, box), (name, theirs, *_) in zip(photo.boxes, found[photo.name], strict=True):
                assert name == CLASSES[number] and corners(theirs) == pytest.approx(corners(box), abs=ROUNDS[to])


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_written_fiftyone_reads(to: str, fiftyone: tuple[Path, dict[str, Any]]) -> None:
    found = {name: boxes for part in fiftyone[1][to] for name, boxes in part.items()}
    assert set(found) == {photo.name for photo in PHOTOS}
    for photo in PHOTOS:
        size = np.array([photo.width, photo.height, photo.width, photo.height])
        for (number, box), (name, shares) in zip(photo.boxes, found[photo.name], strict=True):
            assert name == CLASSES[number]
            assert corners(size * shares) == pytest.approx(corners(box), abs=1.0 if to == "voc" else 1e-6)


def corners(box_xywh: Any) -> list[float]:
    x, y, width, height = box_xywh
    return [x, y, x + width, y + height]
