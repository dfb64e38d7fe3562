"""What the check of a dataset says; each single bad input is a row of bad_data.py, which test_bad_inputs.py runs."""

import json
import re
import time

import cv2
import mmcv
import numpy as np
import pytest

from bad_data import BAD, change, exif, image_bytes, put, table
from small_dataset import HEIGHT, WIDTH, annotation, coco, load, picture, save, write_dataset
from workbook.data.catalog import find_dataset
from workbook.data.checks import check_dataset, require_sound
from workbook.data.entries import entry_problems
from workbook.data.parameters import parse_image_size
from workbook.data.reading import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    return write_dataset(tmp_path / "pets")


def test_sound_data_has_no_problems(folder):
    assert check_dataset("pets") == [] == check_dataset(folder)
    require_sound(find_dataset("pets"))


FINE = {
    "gaps in the ids of categories": lambda folder: None,
    "a crowd": change("annotations", 3, iscrowd=1),
    "no iscrowd": change("annotations", iscrowd=...),
    "an iscrowd of null": change("annotations", iscrowd=None),
    "a segmentation of null": change("annotations", segmentation=None),
    "an id and a size as floats": change("images", id=1.0, width=64.0, height=48.0),
    "other ids in val": lambda folder: (
        table("categories", [{"id": 3, "name": "dog"}, {"id": 2, "name": "cat"}], "val")(folder),
        table("annotations", [annotation(1, 1, [1, 1, 9, 9], 3), annotation(2, 1, [1, 1, 9, 9], 2)], "val")(folder)),
    "a box out by rounding": change("annotations", bbox=[44.5, 6, 20, 10]),
    "a mask that fills half its box": change("annotations", area=100, segmentation=[[1, 1, 2, 2, 3, 3]]),
    "CMYK": put(image_bytes(picture(1).convert("CMYK"), "JPEG")),
    "grey": put(image_bytes(picture(1).convert("L"), "PNG")),
    "a palette": put(image_bytes(picture(1).convert("P"), "PNG")),
    "transparency": put(image_bytes(picture(1).convert("RGBA"), "PNG")),
    "a turned image, said right": put(image_bytes(picture(1), "JPEG", exif=exif(6)), width=HEIGHT, height=WIDTH),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_fine_gets_no_message(case, folder):
    FINE[case](folder)
    assert check_dataset("pets") == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_one_that_mmcv_reads(kind, orientation, folder):
    put(image_bytes(picture(1), kind, exif=exif(orientation)))(folder)
    height, width = mmcv.imread(folder / "images" / "train_1.png").shape[:2]
    change("images", width=width, height=height)(folder)
    assert [problem for problem in check_dataset(folder) if problem.level == "error"] == []
    change("images", width=width + 1)(folder)
    assert "pixels" in check_dataset(folder)[0].reason


def test_mmcv_reads_cmyk_and_16_bits_as_the_same_picture():
    plain = np.asarray(picture(1), dtype=int)
    cmyk = image_bytes(picture(1).convert("CMYK"), "JPEG", quality=100)
    assert np.abs(mmcv.imfrombytes(cmyk, channel_order="rgb").astype(int) - plain).mean() < 3
    deep_png = cv2.imencode(".png", (plain[..., ::-1] * 257).astype(np.uint16))[1].tobytes()
    assert np.array_equal(mmcv.imfrombytes(deep_png, channel_order="rgb"), plain)


def test_every_problem_is_reported_at_once(folder):
    for case in ("zero bytes", "an unknown category", "no val.json"):
        BAD[case][0](folder)
    problems = check_dataset("pets")
    assert {problem.file for problem in problems} == {"images/train_1.png", "train.json", "val.json"}
    assert str(problems[0]).startswith("error: val.json: is missing")


def test_errors_stop_a_run_and_notes_do_not(folder):
    BAD["an area far from the box"][0](folder)
    require_sound(find_dataset("pets"))
    save(folder, "val", {**load(folder, "val"), "annotations": [
        annotation(number, 1, [70, 5, 9, 9]) for number in range(1, 51)]})
    with pytest.raises(DataError) as stopped:
        require_sound(find_dataset("pets"))
    lines = str(stopped.value).splitlines()
    assert lines[0] == f"{folder} cannot be used, it has 50 error(s):"
    assert len(lines) == 33 and "annotation 1:" in lines[1] and lines[31] == "  and 20 more"
    assert "`workbook check pets`" in lines[-1] and "area" not in str(stopped.value)


def test_a_file_that_was_mended_is_looked_at_again(folder):
    whole = (folder / "images" / "train_1.png").read_bytes()
    (folder / "images" / "train_1.png").write_bytes(whole[:-12] + b"\0" * 12)  # the size is the same
    assert "cannot be decoded" in check_dataset(folder)[0].reason
    (folder / "images" / "train_1.png").write_bytes(whole)
    assert check_dataset(folder) == []


def test_what_was_seen_is_remembered(folder, monkeypatch):
    check_dataset(folder)
    from workbook.data import images
    monkeypatch.setattr(images, "_read", None)
    assert check_dataset(folder) == []
    for damage in ("", "[]", json.dumps({"read_as": [images._READ_AS, cv2.__version__], "files": {"train_1.png": 1}})):
        (folder / ".images.json").write_text(damage)
        with pytest.raises(TypeError, match="not callable"):  # it would look again
            check_dataset(folder)


def test_a_folder_that_may_not_be_written_can_be_checked(folder, monkeypatch):
    from workbook.data import images

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(images, "write_json", full)
    assert check_dataset(folder) == []


def test_many_images_and_annotations_take_little_time():
    many = coco("train", images=20_000)
    start = time.perf_counter()
    assert entry_problems("train.json", many) == []
    assert time.perf_counter() - start < 5  # each annotation against each image would take a minute


@pytest.mark.parametrize("given, size", [
    (1024, (1024, 1024)), ("1024", (1024, 1024)), ("1333x800", (1333, 800)), (" 1333 X 800 ", (1333, 800)),
    ([1333, 800], (1333, 800)), ((1333, 800), (1333, 800)), (32, (32, 32)), (10_000, (10_000, 10_000)),
])
def test_image_sizes(given, size):
    assert parse_image_size(given) == size


@pytest.mark.parametrize("given, reason", [
    (31, "out of range"), ("10001", "out of range"), (0, "out of range"), (-64, "out of range"),
    ("800x8", "out of range"),
    ("large", "no image size"), ("", "no image size"), ("8x8x8", "no image size"), ([800], "no image size"),
    ([1, 2, 3], "no image size"), (True, "no image size"), (None, "no image size"), (640.0, "no image size"),
    (["800", "600"], "no image size"), ("-5", "no image size"), ({}, "no image size"),
])
def test_impossible_image_sizes(given, reason):
    with pytest.raises(ValueError, match=f"{re.escape(repr(given))} is {reason}"):
        parse_image_size(given)


def test_more_objects_than_coco_counts_in_an_image_are_noted(folder):
    boxes = [[1 + 4 * (index % 15), 1 + 4 * (index // 15), 5, 5] for index in range(150)]
    crowded = [annotation(1 + at, 1, box) for at, box in enumerate(boxes)]
    two = [annotation(200 + at, 2, box) for at, box in enumerate(boxes[:101])]
    full = [annotation(400 + at, 3, box, 7) for at, box in enumerate(boxes[:100])]
    excused = [annotation(600, 3, [1, 1, 5, 5], 7, iscrowd=1)]
    for split in ("train", "val"):
        save(folder, split, {**load(folder, split), "annotations": [*crowded, *two, *full, *excused]})
    (problem,) = check_dataset("pets")
    assert (problem.level, problem.file, problem.id) == ("note", "val.json", "class dog")
    assert "2 image(s) have more than 100 of its objects, the fullest 150" in problem.reason
    assert "into tiles" in problem.reason
