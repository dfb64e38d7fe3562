"""The embedded photos: cut without loss, split by place, made once."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from workbook.data import tree_crowns
from workbook.data.catalog import find_dataset, summary
from workbook.data.checks import check_dataset
from workbook.data.reading import DataError, read_coco

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_DATA", str(tmp_path_factory.mktemp("data")))
        yield find_dataset("tree_crowns")


def photo(name: str) -> np.ndarray:
    with PIL.Image.open(tree_crowns.photos_folder() / name) as image:
        return np.asarray(image.convert("RGB"))


def test_it_is_sound_and_of_the_expected_size(dataset):
    (note,) = check_dataset(dataset.folder)
    assert note.level == "note" and note.reason.startswith("2 of 37 images have no object: training leaves them out")
    counts = summary(dataset)
    assert dataset.classes == ("tree",)
    assert (counts["train_images"], counts["val_images"]) == (37, 10)
    assert (counts["train_objects"], counts["val_objects"]) == (618, 298)
    assert counts["val_small"] >= 90 and counts["val_medium"] >= 190


def test_every_tile_is_a_piece_of_its_photo_and_no_pixel_is_in_two(dataset):
    for path in (dataset.train_json, dataset.val_json):
        for place in {image["place"] for image in read_coco(path)["images"]}:
            pixels = photo(tree_crowns.PHOTOS[place][0])
            used = np.zeros(pixels.shape[:2], dtype=int)
            for image in (image for image in read_coco(path)["images"] if image["place"] == place):
                left, top = map(int, image["file_name"].removesuffix(".png").split("_")[-2:])
                there = np.s_[top:top + image["height"], left:left + image["width"]]
                used[there] += 1
                with PIL.Image.open(dataset.images_dir / image["file_name"]) as tile:
                    assert np.array_equal(np.asarray(tile), pixels[there])
            assert used.max() == 1 and used.mean() > 0.9
            assert max(used.shape) - max(map(len, (used.any(0).nonzero()[0], used.any(1).nonzero()[0]))) < 200


def test_no_place_is_in_both_splits(dataset):
    train, val = ({image["place"] for image in read_coco(path)["images"]}
                  for path in (dataset.train_json, dataset.val_json))
    assert not train & val and train | val == set(tree_crowns.PHOTOS)


def test_the_crowns_are_the_photos_crowns_and_the_cut_ones_are_crowds(dataset):
    whole = {place: tree_crowns._read_boxes((tree_crowns.photos_folder() / name).with_suffix(".xml"))
             for place, (name, _) in tree_crowns.PHOTOS.items()}
    assert sum(map(len, whole.values())) == 951
    seen = Counter()
    for path in (dataset.train_json, dataset.val_json):
        content = read_coco(path)
        images = {image["id"]: image for image in content["images"]}
        for a in content["annotations"]:
            image = images[a["image_id"]]
            left, top = map(int, image["file_name"].removesuffix(".png").split("_")[-2:])
            x, y, width, height = a["bbox"]
            assert min(x, y) >= 0 and x + width <= image["width"] and y + height <= image["height"]
            boxes_xyxy = whole[image["place"]]
            tile_xyxy = np.array([left, top, left + image["width"], top + image["height"]])
            visible = np.clip(np.minimum(boxes_xyxy[:, 2:], tile_xyxy[2:])
                              - np.maximum(boxes_xyxy[:, :2], tile_xyxy[:2]), 0, None).prod(axis=1)
            shares = visible / (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
            same = (np.maximum(boxes_xyxy[:, :2], tile_xyxy[:2]) == [x + left, y + top]).all(axis=1)
            number = int(np.flatnonzero(same & (visible == width * height))[0])
            assert a["iscrowd"] == (shares[number] <= 0.5) and a["area"] == width * height
            seen[(image["place"], number)] += not a["iscrowd"]
    assert max(seen.values()) == 1  # no crown is asked for twice
    assert sum(seen.values()) == 916  # the other 35 lie in a strip that is left out, or were cut into small pieces


def test_corners_become_pixels_counted_from_zero():
    boxes_xyxy = tree_crowns._read_boxes(tree_crowns.photos_folder() / "OSBS_029.xml")
    assert boxes_xyxy[0].tolist() == [202, 66, 227, 90]  # the file says 203, 67, 227, 90
    assert boxes_xyxy.min() == 0 and boxes_xyxy.max() == 400


def test_it_is_made_again_to_the_byte(dataset, tmp_path):
    tree_crowns.prepare(tmp_path / "again")
    files = [path.relative_to(dataset.folder) for path in sorted(dataset.folder.rglob("*.*")) if path.name[0] != "."]
    assert len(files) == 49
    for file in files:
        assert (dataset.folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_two_processes_that_ask_at_once_both_get_it(tmp_path):
    code = "from workbook.data.catalog import find_dataset; print(find_dataset('tree_crowns').hash)"
    environment = {"WORKBOOK_DATA": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}

    def ask(_):
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(ask, range(2)))
    assert [answer.stderr for answer in answers] == ["", ""]
    assert len({answer.stdout for answer in answers}) == 1 and len(answers[0].stdout) == 65
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tree_crowns.lock", "tree_crowns"]


def test_the_package_is_found_and_not_imported(dataset):
    assert "deepforest" not in sys.modules


def test_without_the_package_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(tree_crowns.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"deepforest==2.1.0, which is not installed .*: run `make setup`"):
        find_dataset("tree_crowns")
    assert not (tmp_path / "tree_crowns").exists()


def test_a_break_leaves_nothing_half_made(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(tree_crowns, "write_json", full)
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    with pytest.raises(DataError, match="No space left on device"):
        find_dataset("tree_crowns")
    assert [path.name for path in tmp_path.iterdir()] == [".tree_crowns.lock"]
