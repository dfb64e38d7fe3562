"""What an import does with a folder: links or copies, names, splits, and nothing left of what did not end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import foreign
from foreign import CLASSES, PHOTOS
from small_dataset import load, picture
from workbook import cli
from workbook.data.checks import check_dataset
from workbook.data.importers import write as writing
from workbook.data.importers.command import import_dataset
from workbook.data.importers.formats import FORMATS, find_importer
from workbook.data.importers.source import Source, split_of_file, split_of_folder
from workbook.data.reading import DataError


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def names(folder: Path, split: str = "train") -> list[str]:
    return [entry["file_name"] for entry in load(folder, split)["images"]]


def test_images_are_one_link_and_called_by_their_path_below_it(tmp_path: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    made = import_dataset(source, "mine")
    assert (made.folder / "images").readlink() == source / "images"
    assert names(made.folder) == ["train/one.png", "train/three.png", "train/two 2.jpg"] and names(made.folder, "val") == ["val/four.png"]


def test_a_copy_has_the_same_json_and_lives_without_the_source(tmp_path: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    linked, copied = import_dataset(source, "linked"), import_dataset(source, "copied", copy=True)
    for split in ("train", "val"):
        assert load(linked.folder, split) == load(copied.folder, split)
    shutil.rmtree(source)
    assert [problem for problem in check_dataset(copied.folder) if problem.level == "error"] == []
    assert not (copied.folder / "images").is_symlink()


def test_links_in_the_source_are_copied_as_files(tmp_path: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    photo = source / "images" / "train" / "one.png"
    photo.rename(tmp_path / "elsewhere.png")
    photo.symlink_to(tmp_path / "elsewhere.png")
    made = import_dataset(source, "mine", copy=True)
    assert not (made.folder / "images" / "train" / "one.png").is_symlink()
    assert [problem for problem in made.problems if problem.level == "error"] == []


def test_folders_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    source = foreign.cvat_coco(tmp_path / "theirs")
    (source / "images" / "again").symlink_to(source)
    assert len(import_dataset(source, "mine").imported.pictures) == len(PHOTOS)


def test_the_class_order_survives_a_class_without_objects(tmp_path: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    for path in source.glob("labels/*/*.txt"):
        path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if not line.startswith("1 ")))
    made = import_dataset(source, "mine")
    assert [(entry["id"], entry["name"]) for entry in load(made.folder, "val")["categories"]] == [(1, "zebra"), (2, "ant"), (3, "moth")]
    assert {entry["category_id"] for entry in load(made.folder, "val")["annotations"]} == {1, 3}


def test_split_makes_val_as_the_command_does(tmp_path: Path) -> None:
    source = foreign.label_studio_yolo(tmp_path / "theirs")
    for number in range(4):
        picture(20 + number).save(source / "images" / f"{number}.png")
        foreign.put(source / "labels" / f"{number}.txt", "0 .5 .5 .4 .4\n1 .3 .3 .3 .3\n2 .7 .7 .3 .3\n")
    made = import_dataset(source, "mine", split=True)
    both = names(made.folder) + names(made.folder, "val")
    assert sorted(both) == sorted(names(made.folder, "all")) and names(made.folder, "val")
    assert [problem for problem in made.problems if problem.level == "error"] == []


def test_a_split_that_is_refused_leaves_the_whole_import_and_says_why(tmp_path: Path) -> None:
    source = tmp_path / "theirs"
    foreign.PHOTOS[0].write(source)
    foreign.put(source / "one.txt", foreign.yolo_rows(foreign.PHOTOS[0]))
    foreign.put(source / "classes.txt", "\n".join(CLASSES))
    made = import_dataset(source, "mine", split=True)
    assert "must stay together" in made.not_split and names(made.folder) == ["one.png"]


def test_a_dataset_that_the_workbook_split_is_imported_without_the_whole_beside_it(tmp_path: Path, data: Path) -> None:
    source = foreign.label_studio_yolo(tmp_path / "theirs")
    for number in range(4):
        picture(20 + number).save(source / "images" / f"{number}.png")
        foreign.put(source / "labels" / f"{number}.txt", "0 .5 .5 .4 .4\n1 .3 .3 .3 .3\n2 .7 .7 .3 .3\n")
    mine = import_dataset(source, "mine", split=True).folder
    assert (mine / "all.json").is_file()
    again = import_dataset(mine, "again", copy=True).folder
    for split in ("train", "val"):
        assert sorted(names(again, split)) == sorted(names(mine, split))
    (mine / "val.json").unlink()
    with pytest.raises(DataError):  # two files that list the same images
        import_dataset(mine, "third", copy=True)


def test_one_split_alone_is_train(tmp_path: Path) -> None:
    source = foreign.coco2017(tmp_path / "theirs")
    shutil.rmtree(source / "train2017")
    for path in source.glob("annotations/*train*"):
        path.unlink()
    made = import_dataset(source, "mine")
    assert names(made.folder) == ["four.png"] and "no split but val" in "\n".join(made.summary)


def test_a_test_set_is_written_beside(tmp_path: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    picture(9).save(foreign.put(source / "images" / "test" / "x", "").with_name("nine.png"))
    (source / "data.yaml").write_text((source / "data.yaml").read_text().replace("test: #", "test: images/test #"))
    made = import_dataset(source, "mine")
    assert names(made.folder, "test") == ["test/nine.png"] and "test.json is there for you" in "\n".join(made.summary)


def test_a_file_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    shutil.copyfile(source / "data.yaml", source / "other.yaml")
    with pytest.raises(DataError, match="it is one of 2 such files"):
        import_dataset(source, "mine")
    assert len(import_dataset(source / "other.yaml", "mine").imported.pictures) == len(PHOTOS)


def test_images_are_found_in_other_spellings(tmp_path: Path) -> None:
    """Case, percent-encoding, another folder, as tools on other systems write them."""
    source = foreign.cvat_coco(tmp_path / "theirs")
    content = foreign.coco(PHOTOS)
    for entry, name in zip(content["images"], ("C:\\data\\ONE.PNG", "two%202.jpg", "set1/three.png",
                                 "https://bucket.example/a/four.png?signature=" + 300 * "x"), strict=True):
        entry["file_name"] = name
    foreign.put(source / "annotations" / "instances_default.json", json.dumps(content))
    (source / "images" / "default" / "three.png").rename(source / "images" / "default" / "Three.PNG")
    assert sorted(names(import_dataset(source, "mine").folder)) == ["Three.PNG", "four.png", "one.png", "two 2.jpg"]


def test_equal_names_in_two_splits_are_told_by_their_folder(tmp_path: Path) -> None:
    source = tmp_path / "theirs"
    for number, (split, side) in enumerate((("train", "train2017"), ("val", "val2017"))):
        (source / side).mkdir(parents=True)
        picture(number).save(source / side / "000001.png")
        content = {"images": [{"id": 1, "file_name": "000001.png", "width": 64, "height": 48}], "categories": [{"id": 1, "name": "a"}],
                   "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [number, 1, 20, 20], "area": 400, "iscrowd": 0}]}
        foreign.put(source / "annotations" / f"instances_{split}2017.json", json.dumps(content))
    made = import_dataset(source, "mine")
    assert (names(made.folder), names(made.folder, "val")) == (["train2017/000001.png"], ["val2017/000001.png"])


# ---- nothing by halves -----------------------------------------------------------------------------------------------


def left(data: Path) -> list[str]:
    return sorted(path.name for path in data.iterdir()) if data.exists() else []


@pytest.mark.parametrize("copy", [False, True])
def test_an_import_that_is_stopped_or_fails_leaves_nothing(copy: bool, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    for error, raised in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), DataError)):
        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(writing, "write_json", fail)
        with pytest.raises(raised):
            import_dataset(source, "mine", copy=copy)
        assert left(data) == []


@pytest.mark.parametrize(("moment", "said"), [
    ("importers.command.write", "stopped: nothing was written"),
    ("importers.command.check_dataset", "mine is whole, and was being checked: `workbook check mine` goes on"),
])
def test_an_import_that_is_stopped_says_what_there_is(
    moment: str, said: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
) -> None:
    def stop(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    source = foreign.ultralytics(tmp_path / "theirs")
    monkeypatch.setattr(f"workbook.data.{moment}", stop)
    monkeypatch.setattr(sys, "argv", ["workbook", "import", str(source), "mine"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130 and said in capsys.readouterr().err
    assert (data / "mine").exists() == ("whole" in said)


def test_what_an_import_of_another_machine_has_left_goes_after_a_day(tmp_path: Path, data: Path) -> None:
    (old := data / ".x.12345678.1-1.partial").mkdir(parents=True)
    os.utime(old, (0, 0))
    import_dataset(foreign.ultralytics(tmp_path / "theirs"), "mine")
    assert os.listdir(data) == ["mine"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, data: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    data.write_text("a file where the folder of all data sets should be")
    with pytest.raises(DataError, match="cannot write .*data/mine: .*set WORKBOOK_DATA to another folder"):
        import_dataset(source, "mine")


def test_somebody_elses_dataset_of_the_name_is_never_touched(tmp_path: Path, data: Path) -> None:
    source = foreign.ultralytics(tmp_path / "theirs")
    (data / "mine").mkdir(parents=True)
    (data / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "gone", "tree_crowns"):
        with pytest.raises(DataError, match="there is a dataset .* already"):
            import_dataset(source, name)
    for name in ("", ".hidden", "a/b", "a@b", "c:d"):
        with pytest.raises(DataError, match="give the name of a new folder"):
            import_dataset(source, name)
    assert left(data) == ["gone", "mine"] and list((data / "mine").iterdir()) == []


def test_sigterm_ends_the_command_and_leaves_nothing(tmp_path: Path, data: Path) -> None:
    """A real process, stopped while it waits for an image that comes from a pipe."""
    source = foreign.ultralytics(tmp_path / "theirs")
    os.mkfifo(source / "images" / "train" / "slow.png")
    command = [sys.executable, "-c", "from workbook.cli import main; main()", "import", str(source), "mine"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pipe = os.open(source / "images" / "train" / "slow.png", os.O_WRONLY)  # waits until the process reads
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    os.close(pipe)
    assert process.returncode == 143 and "Traceback" not in err, out + err
    assert left(data) == []


# ---- recognising -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "split"), [
    ("train", "train"), ("val2017", "val"), ("valid", "val"), ("VisDrone2019-DET-test-dev", "test"), ("obj_train_data", "train"),
    ("validation", "val"), ("test_images", "test"), ("train_station", ""), ("trainees", ""), ("images", ""), ("train_val", "")])
def test_a_folder_is_a_split_only_when_it_says_nothing_else(folder: str, split: str) -> None:
    assert split_of_folder(folder) == split


@pytest.mark.parametrize(("stem", "split"), [
    ("instances_train2017", "train"), ("oidv6-train-annotations-bbox", "train"), ("validation-annotations-bbox", "val"), ("labels", "")])
def test_a_file_names_its_split(stem: str, split: str) -> None:
    assert split_of_file(stem) == split


def test_no_format_is_taken_for_another(tmp_path: Path) -> None:
    writers = [foreign.ultralytics, foreign.label_studio_yolo, foreign.cvat_yolo, foreign.labelimg, foreign.voc2007, foreign.coco2017,
               foreign.labelme, foreign.visdrone, foreign.dota, foreign.openimages, foreign.tensorflow_csv]
    for write in writers:
        source = Source.of(write(tmp_path / write.__name__))
        assert sum(bool(importer.matches(source)) for importer in FORMATS) == 1, write.__name__
        assert find_importer(source).needs


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_commands_print_what_was_made_and_end_with_the_checks_code(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbook", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    source = foreign.ultralytics(tmp_path / "theirs")
    code, out, _ = command("import", str(source), "mine")
    assert code == 0 and "mine: 0 errors" in out
    assert "yolo: 3 train, 1 val images, 7 objects, 0 crowds, 3 classes in this order: zebra, ant, moth" in out
    assert "note: images without a label file, taken as images without objects: 1" in out
    code, out, _ = command("export", "mine", "--to", "coco")
    assert code == 0 and Path(out.splitlines()[-1]).name == "mine-coco"
    code, _, err = command("import", str(source), "mine")
    assert code == 2 and "is not overwritten" in err and "Traceback" not in err
    shutil.rmtree(source / "labels" / "val")  # then val measures nothing
    code, out, _ = command("import", str(source), "again")
    assert code == 1 and "error: val.json: it has no object" in out
    for path in source.glob("images/*/[otf]*"):
        path.rename(source / path.name)
    foreign.put(source / "classes.txt", "zebra\n")
    foreign.put(source / "one.txt", "0 .5 .5 .4 .4\n")
    (source / "data.yaml").unlink()
    code, out, _ = command("import", str(source), "third", "--split")
    assert code == 1 and "error: not split: " in out and "`workbook split third` tries it again" in out
