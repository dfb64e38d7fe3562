"""Names, classes, hash and counts of a dataset."""

import json
import os
import shutil

import pytest

from small_dataset import annotation, load, picture, save, write_dataset
from workbook.data import catalog
from workbook.data.catalog import data_root, find_dataset, summary
from workbook.data.reading import DataError
from workbook.evaluation.coco_metrics import evaluate


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    return write_dataset(tmp_path / "pets")


def test_a_dataset_has_its_paths_and_its_classes_by_id(folder):
    dataset = find_dataset("pets")
    assert dataset.classes == ("dog", "cat")  # ids 1 and 7, though the file lists 7 first
    assert (dataset.train_json, dataset.val_json, dataset.images_dir) == (
        folder / "train.json", folder / "val.json", folder / "images")
    assert dataset.folder == data_root() / "pets" and len(dataset.hash) == 64


def test_without_the_variable_data_lies_beside_lib(monkeypatch):
    monkeypatch.delenv("WORKBOOK_DATA", raising=False)
    assert data_root().name == "data" and (data_root().parent / "lib" / "workbook" / "data" / "catalog.py").is_file()


def test_an_unknown_dataset_lists_those_there_are(folder):
    write_dataset(folder.parent / "birds")
    with pytest.raises(DataError, match=r"no dataset 'fish'.*There are: birds, pets. Embedded: tree_crowns"):
        find_dataset("fish")


@pytest.mark.parametrize("name", ["../pets", "/etc", "..", ".", "", ".hidden", "a/b", "a\\b", "C:pets", "a\0b", None])
def test_a_name_cannot_leave_the_data_folder(name, folder):
    with pytest.raises(DataError, match="give the name of a folder in .*, not a path"):
        find_dataset(name)


def test_what_is_missing_is_named_with_what_to_do(folder):
    (folder / "val.json").unlink()
    with pytest.raises(DataError, match=r"val.json is missing: `workbook split pets` makes it from train.json"):
        find_dataset("pets")
    (folder / "train.json").unlink()
    with pytest.raises(DataError, match=r"train.json is missing: a dataset is pets/train.json"):
        find_dataset("pets")


@pytest.mark.parametrize("table, entry", [("categories", {"name": "dog"}), ("categories", 5), ("images", {"id": 1})])
def test_broken_entries_are_left_to_the_check(table, entry, folder):
    content = load(folder, "train")
    content[table].append(entry)
    save(folder, "train", content)
    with pytest.raises(DataError, match="broken entries: `workbook check pets` lists them"):
        find_dataset("pets")


def test_the_hash_is_that_of_the_content(folder):
    before = find_dataset("pets").hash
    shutil.copytree(folder, folder.parent / "copy")
    assert find_dataset("copy").hash == before  # the name and the place have no influence
    content = load(folder, "train")
    (folder / "train.json").write_text(json.dumps({**content, "info": "another"}, indent=4, sort_keys=True))
    os.utime(folder / "images" / "train_1.png")
    (folder / "images" / "not_listed.png").write_bytes(b"")
    assert find_dataset("pets").hash == before
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "copy", folder, ignore=shutil.ignore_patterns(".*"))
    assert find_dataset("pets").hash == before  # without what was remembered of the images


@pytest.mark.parametrize("change", ["image", "box", "class", "val", "order", "missing"])
def test_the_hash_tells_every_change(change, folder):
    before = find_dataset("pets").hash
    train, val = load(folder, "train"), load(folder, "val")
    if change == "image":
        picture(77).save(folder / "images" / "train_2.png")
    elif change == "box":
        train["annotations"][0]["bbox"][0] += 0.5
    elif change == "class":
        train["categories"][0]["name"] = "lynx"
    elif change == "val":
        val["annotations"].pop()
    elif change == "order":
        train["images"].reverse()
    else:
        (folder / "images" / "val_1.png").unlink()
    save(folder, "train", train)
    save(folder, "val", val)
    assert find_dataset("pets").hash != before


def test_the_summary_counts_as_the_evaluation_does(folder):
    val = load(folder, "val")
    sides = [(10, 10), (32, 32), (32, 32), (40, 40), (96, 96), (100, 100), (200, 60)]  # borders belong to both sizes
    val["annotations"] = [annotation(number, 1, [0, 0, *side]) for number, side in enumerate(sides, start=1)]
    val["annotations"] += [annotation(90, 2, [0.0, 0.0, 9.0, 9.0], iscrowd=1), annotation(91, 2, [0.0, 0.0, 9.0, 9.0])]
    del val["annotations"][0]["iscrowd"]
    save(folder, "val", val)
    counts = evaluate(folder / "val.json", []).counts
    dataset = find_dataset("pets")
    assert summary(dataset) == {
        "name": "pets", "hash": dataset.hash, "classes": ["dog", "cat"], "train_images": 3, "val_images": 3,
        "train_objects": 4, "val_objects": counts["truths"], "val_small": counts["small"],
        "val_medium": counts["medium"], "val_large": counts["large"]}
    assert (counts["truths"], counts["small"], counts["medium"], counts["large"]) == (8, 4, 4, 3)


def test_an_embedded_dataset_is_made_when_asked_for_and_an_incomplete_one_is_named(folder, monkeypatch):
    monkeypatch.setitem(catalog.EMBEDDED, "tree_crowns", write_dataset)
    assert find_dataset("tree_crowns").classes == ("dog", "cat")
    (data_root() / "tree_crowns" / "val.json").unlink()
    with pytest.raises(DataError, match="is incomplete: delete it"):
        find_dataset("tree_crowns")


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot write to .*file: .*set WORKBOOK_DATA to another folder"):
        find_dataset("tree_crowns")
