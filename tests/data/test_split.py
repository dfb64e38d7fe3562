"""The split: every class and size in its share, nothing on both sides, nothing lost."""

import errno
import json
import random
import shutil
from collections import Counter

import pytest

from bad_inputs import ordinary_user
from small_dataset import annotation, load, picture, save, write_dataset
from workbook.data.catalog import find_dataset
from workbook.data.checks import check_dataset
from workbook.data.reading import DataError, content_hash, read_coco
from workbook.data.split import split

SIDES = {"small": 8.0, "medium": 40.0}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Sixty images, four scenes of fifteen; three classes, of which `rare` has ten objects and `once` a single one."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    folder = write_dataset(tmp_path / "pets", images=1)
    (folder / "val.json").unlink()
    rng, annotations = random.Random(5), []
    for image in range(1, 61):
        crowd = 25 if image == 30 else rng.randint(0, 4)  # one image holds many
        classes = [1] * crowd + [2] * rng.randint(0, 2) + [3] * (image % 6 == 0) + [4] * (image == 7)
        for class_ in classes:
            side = SIDES[rng.choice(sorted(SIDES))]
            annotations.append(annotation(len(annotations) + 1, image, [1.0, 1.0, side, side], class_))
        picture(image).save(folder / "images" / f"{image}.png")
    images = [{"id": number, "file_name": f"{number}.png", "width": 64, "height": 48, "scene": f"s{number % 4}"}
              for number in range(1, 61)]
    categories = [{"id": number, "name": name} for number, name in enumerate(("many", "some", "rare", "once"), start=1)]
    save(folder, "train", {"info": {"year": 2020}, "licenses": ["mine"], "images": images, "annotations": annotations,
                           "categories": categories})
    return folder


def images_of(folder, side):
    return {image["id"] for image in read_coco(folder / f"{side}.json")["images"]}


def labels(folder, side):
    return Counter((a["category_id"], a["area"]) for a in read_coco(folder / f"{side}.json")["annotations"])


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_every_class_and_size_comes_out_in_its_share(share, folder):
    split("pets", val_share=share)
    whole, val = labels(folder, "all"), labels(folder, "val")
    for label, count in whole.items():
        assert abs(val[label] - share * count) <= max(1, 0.06 * count), label
    assert abs(len(images_of(folder, "val")) - share * 60) <= 3
    assert 4 in {class_ for class_, _ in labels(folder, "train")}  # a single one is to be learned, not measured


def test_it_is_better_than_chance(folder):
    whole, annotations = labels(folder, "train"), load(folder, "train")["annotations"]

    def worst(chosen):
        val = Counter((a["category_id"], a["area"]) for a in annotations if a["image_id"] in chosen)
        return max(abs(val[label] - 0.2 * count) / count for label, count in whole.items() if count > 5)
    by_chance = [worst(set(random.Random(seed).sample(range(1, 61), 12))) for seed in range(20)]
    split("pets")
    assert worst(images_of(folder, "val")) <= min(by_chance) < 0.3 * max(by_chance)


def test_nothing_is_lost_and_nothing_is_on_both_sides(folder):
    before = (folder / "train.json").read_bytes()
    paths = split("pets")
    assert paths == (folder / "train.json", folder / "val.json")
    assert (folder / "all.json").read_bytes() == before
    whole, train, val = (read_coco(folder / f"{name}.json") for name in ("all", "train", "val"))
    for table in ("images", "annotations"):
        parts = sorted(train[table] + val[table], key=lambda entry: entry["id"])
        assert parts == sorted(whole[table], key=lambda entry: entry["id"])
    assert train["categories"] == val["categories"] == whole["categories"] and train["licenses"] == ["mine"]
    assert [problem for problem in check_dataset("pets") if problem.level == "error"] == []
    assert find_dataset("pets").classes == ("many", "some", "rare", "once")


def test_the_files_say_how_they_were_made(folder):
    split("pets", seed=3)
    for side in ("train", "val"):
        content = read_coco(folder / f"{side}.json")
        assert content["info"] == {"year": 2020, "split": {
            "val_share": 0.2, "seed": 3, "group_by": "", "of": content_hash(read_coco(folder / "all.json")),
            "hash": content_hash(content)}}


def test_the_seed_decides(folder):
    found = []
    for seed in (0, 0, 1):
        split("pets", seed=seed)
        found.append(images_of(folder, "val"))
        (folder / "val.json").unlink()
    assert found[0] == found[1] != found[2]


def test_groups_stay_together(folder):
    split("pets", val_share=0.25, group_by="scene")
    scenes = [{image["scene"] for image in read_coco(folder / f"{side}.json")["images"]} for side in ("train", "val")]
    assert not scenes[0] & scenes[1] and len(scenes[1]) == 1


def test_images_of_the_same_bytes_stay_together(folder):
    for number in range(41, 61):
        shutil.copy(folder / "images" / f"{number - 20}.png", folder / "images" / f"{number}.png")
    split("pets")
    train, val = images_of(folder, "train"), images_of(folder, "val")
    assert all({number, number - 20} <= train or {number, number - 20} <= val for number in range(41, 61))


def test_a_val_set_is_never_overwritten_and_deleting_it_splits_anew(folder):
    original = (folder / "train.json").read_bytes()
    split("pets")
    with pytest.raises(DataError, match="val.json exists already. To split anew, delete it.* made from all.json"):
        split("pets", seed=1)
    (folder / "val.json").unlink()
    split("pets", seed=1)
    assert images_of(folder, "train") | images_of(folder, "val") == set(range(1, 61))
    assert (folder / "all.json").read_bytes() == original


def test_a_break_between_the_files_loses_nothing(folder, monkeypatch):
    from workbook.data import split as module
    write = module.write_json

    def broken(path, value):
        if path.name == "val.json":
            raise OSError(28, "No space left on device")
        write(path, value)
    monkeypatch.setattr(module, "write_json", broken)
    with pytest.raises(DataError, match="cannot write in .*pets: No space left on device. Make room there, or copy it into another folder "
                                        "and set WORKBOOK_DATA to that one"):
        split("pets")
    assert len(images_of(folder, "train")) < 60 and len(images_of(folder, "all")) == 60
    monkeypatch.undo()
    monkeypatch.setenv("WORKBOOK_DATA", str(folder.parent))
    split("pets")
    assert images_of(folder, "train") | images_of(folder, "val") == set(range(1, 61))


@pytest.mark.parametrize("edit", ["a box", "another set"])
def test_a_train_json_with_the_users_own_changes_is_not_overwritten(edit, folder):
    split("pets")
    (folder / "val.json").unlink()
    train = load(folder, "train")
    if edit == "a box":
        train["annotations"][0]["bbox"] = [3.0, 3.0, 8.0, 8.0]
    else:
        train = {**train, "info": {}, "images": train["images"][:50]}
        train["annotations"] = [a for a in train["annotations"] if a["image_id"] in {i["id"] for i in train["images"]}]
    save(folder, "train", train)
    with pytest.raises(DataError, match="train.json was changed or is of another set: delete or rename all.json"):
        split("pets")
    assert load(folder, "train") == train


def test_images_without_objects_are_divided_too_and_few_images_give_both_sides(folder):
    train = load(folder, "train")
    save(folder, "train", {**train, "annotations": [a for a in train["annotations"] if a["image_id"] <= 20]})
    split("pets")
    assert 8 <= sum(number > 20 for number in images_of(folder, "val")) <= 9
    for share in (0.01, 0.99):
        few = {**train, "images": train["images"][:3],
               "annotations": [a for a in train["annotations"] if a["image_id"] <= 3]}
        for name in ("all", "val"):
            (folder / f"{name}.json").unlink()
        save(folder, "train", few)
        split("pets", val_share=share)
        assert images_of(folder, "train") and images_of(folder, "val")


def with_objects_in(folder, *numbers):
    """Ten images, of which these hold a small and a medium object; the user's file."""
    train = load(folder, "train")
    objects = [annotation(10 * number + size, number, [1.0, 1.0, side, side], 1 + size)
               for number in numbers for size, side in enumerate(SIDES.values())]
    content = {**train, "images": train["images"][:10], "annotations": objects}
    save(folder, "train", content)
    return content


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("numbers", [(4, 7), (1, 2), (1, 5, 10)])
def test_two_images_with_objects_give_both_sides_one(numbers, share, seed, folder):
    with_objects_in(folder, *numbers)
    split("pets", val_share=share, seed=seed)
    sides = [{a["image_id"] for a in read_coco(folder / f"{side}.json")["annotations"]} for side in ("train", "val")]
    assert all(sides) and sides[0] | sides[1] == set(numbers) and not sides[0] & sides[1]
    assert [problem for problem in check_dataset("pets") if problem.level == "error"] == []


def test_one_image_with_objects_cannot_be_divided_and_a_second_one_leads_out(folder):
    before = with_objects_in(folder, 4)
    with pytest.raises(DataError, match="only one image holds objects, 4.png.*label the objects of a second image$"):
        split("pets")
    assert load(folder, "train") == before and not (folder / "all.json").exists() and not (folder / "val.json").exists()
    with_objects_in(folder, 4, 5)
    split("pets")
    assert images_of(folder, "val")


@pytest.mark.parametrize("why", ["the same bytes", "one scene"])
def test_objects_in_images_that_must_stay_together_cannot_be_divided(why, folder):
    with_objects_in(folder, 4, 8)  # of the same scene
    if why == "the same bytes":
        shutil.copy(folder / "images" / "4.png", folder / "images" / "8.png")
    with pytest.raises(DataError, match="all objects are in images that must stay together, 4.png, 8.png.*that is none of these"):
        split("pets", group_by="scene" if why == "one scene" else "")


def test_crowds_are_no_objects_to_divide(folder):
    content = with_objects_in(folder, 4, 7)
    for a in content["annotations"]:
        a["iscrowd"] = int(a["image_id"] == 7)
    save(folder, "train", content)
    with pytest.raises(DataError, match="only one image holds objects, 4.png"):
        split("pets")


def test_a_folder_that_may_not_be_written_names_the_folder_of_the_data(folder, monkeypatch, tmp_path):
    before = (folder / "train.json").read_bytes()
    check_dataset(folder, ("train",))
    with ordinary_user(folder), pytest.raises(DataError, match="cannot write in .*pets: Permission denied. Make the folder writable, "
                                                               "or copy it into another folder and set WORKBOOK_DATA"):
        split("pets")
    assert (folder / "train.json").read_bytes() == before and not (folder / "all.json").exists()
    shutil.copytree(folder, tmp_path / "mine" / "pets")  # as the message advises
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "mine"))
    assert split("pets")[1].is_file()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT])
def test_whatever_forbids_to_write_is_said_of_the_data(number, folder, monkeypatch):
    from workbook.data import split as module

    def forbidden(*_):
        raise OSError(number, "forbidden")
    monkeypatch.setattr(module, "_copy", forbidden)
    with pytest.raises(DataError, match="cannot write in .*pets: forbidden.*WORKBOOK_DATA"):
        split("pets")


@pytest.mark.parametrize("arguments, reason", [
    ({"val_share": 0}, "val_share=0: it is the share of val"), ({"val_share": 1.0}, "more than 0 and less than 1"),
    ({"val_share": float("nan")}, "val_share=nan"),
    ({"group_by": "place"}, r"group_by=place: 60 image\(s\) have no such field.*file_name, scene"),
])
def test_impossible_arguments_are_refused(arguments, reason, folder):
    with pytest.raises(DataError, match=reason):
        split("pets", **arguments)
    assert not (folder / "all.json").exists()


def test_what_cannot_be_divided_is_refused(folder):
    train = load(folder, "train")
    save(folder, "train", {**train, "images": [{**image, "scene": "one"} for image in train["images"]]})
    with pytest.raises(DataError, match=r"all 60 image\(s\) must stay together"):
        split("pets", group_by="scene")


def test_errors_in_the_data_stop_the_split(folder):
    train = load(folder, "train")
    train["annotations"][0]["bbox"] = [1, 1, -5, 5]
    save(folder, "train", train)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(DataError, match="annotation 1: bbox .* negative"):
        split("pets")
    assert sorted(path.name for path in folder.iterdir() if path.name != ".images.json") == before
    assert json.loads((folder / "train.json").read_text()) == train
