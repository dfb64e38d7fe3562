"""Every bad input and the message it gets; sound data gets none."""

import io
import json
import re
import shutil
import time

import cv2
import mmcv
import numpy as np
import PIL.Image
import pytest
from small_dataset import HEIGHT, WIDTH, annotation, coco, load, picture, save, write_dataset

from lib.data.catalog import DataError, find_dataset
from lib.data.coco import check_dataset, parse_image_size, require_sound
from lib.data.entries import entry_problems


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    return write_dataset(tmp_path / "pets")


def image_bytes(image: PIL.Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    return tags


def change(table, place=0, split="train", **values):
    """A breaker: set these keys of one entry; `...` deletes the key."""
    def breaker(folder):
        content = load(folder, split)
        entry = content[table][place]
        entry.update(values)
        content[table][place] = {key: value for key, value in entry.items() if value is not ...}
        save(folder, split, content)
    return breaker


def text(name, content):
    def breaker(folder):
        (folder / name).write_bytes(content)
    return breaker


def table(name, value, split="train"):
    def breaker(folder):
        save(folder, split, {**load(folder, split), name: value})
    return breaker


def put(content, name="train_1.png", place=0, **entry):
    """A breaker: these bytes are the image's file; keys of its entry may be given."""
    def breaker(folder):
        (folder / "images" / name).write_bytes(content)
        change("images", place, **entry)(folder)
    return breaker


def remove(name):
    def breaker(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return breaker


def rename(old, new):
    def breaker(folder):
        (folder / "images" / old).rename(folder / "images" / new)
    return breaker


def copy(old, new):
    def breaker(folder):
        shutil.copy(folder / "images" / old, folder / "images" / new)
    return breaker


def wide_pixels(highest: int) -> bytes:
    """A 16-bit PNG whose brightest value is `highest`."""
    values = np.linspace(0, highest, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    return cv2.imencode(".png", values)[1].tobytes()


def no_small(folder):
    table("annotations", [annotation(1, 1, [2, 2, 40, 40]), annotation(2, 2, [2, 2, 40, 40], 7)], "val")(folder)


def swap_names(folder):
    """Val's only dog and cat are something else now."""
    table("categories", [{"id": 7, "name": "cat"}, {"id": 1, "name": "bird"}], "val")(folder)


def one_class_less(folder):
    content = load(folder, "train")
    save(folder, "train", {**content, "annotations": [a for a in content["annotations"] if a["category_id"] == 1]})


def deep(folder):
    (folder / "train.json").write_text("[" * 100_000)


FILE_1 = ("images/train_1.png", "image 1 of train.json")
JPEG = image_bytes(picture(1), "JPEG", quality=95)
PNG = image_bytes(picture(1), "PNG")

# case → (how the sound dataset is broken, level, file, id, a part of the reason)
BAD = {
    # the files as a whole
    "no train.json": (remove("train.json"), "error", "train.json", "", "is missing: a dataset is"),
    "no val.json": (remove("val.json"), "error", "val.json", "", "is missing: `workbook split pets` makes it"),
    "no images folder": (remove("images"), "error", "images/", "", "there is no such folder"),
    "broken JSON": (text("train.json", b'{"images": [1, '), "error", "train.json", "", "is not valid JSON"),
    "empty JSON": (text("val.json", b""), "error", "val.json", "", "is not valid JSON"),
    "nested without end": (deep, "error", "train.json", "", "is not valid JSON"),
    "byte order mark": (text("train.json", b"\xef\xbb\xbf{}"), "error", "train.json", "", "is not valid JSON"),
    "not UTF-8": (text("train.json", b'{"info": "\xe9"}'), "error", "train.json", "", "is not UTF-8 text (byte 10)"),
    "a list": (text("train.json", b"[]"), "error", "train.json", "", "holds a list, not an object"),
    "a table is missing": (text("val.json", b'{"images": [], "categories": []}'), "error", "val.json", "",
                           "has no list annotations; it has: images, categories"),
    "a table is no list": (table("annotations", {}), "error", "train.json", "", "has no list annotations"),
    "no image in val": (table("images", [], "val"), "error", "val.json", "", "it lists no image"),
    "no object in val": (table("annotations", [], "val"), "error", "val.json", "", "it has no object"),
    "only crowds in train": (table("annotations", [annotation(1, 1, [1, 1, 9, 9], iscrowd=1)]), "error", "train.json",
                             "", "it has no object (crowds are none)"),
    "no category": (table("categories", []), "error", "train.json", "", "it lists no category"),
    "no small object in val": (no_small, "note", "val.json", "", "bbox_mAP_s will have no value"),
    # images
    "an image is no object": (table("images", [5]), "error", "train.json", "image at place 0 (counted from 0)",
                              "it is 5, but must be an object"),
    "an image without id": (change("images", id=...), "error", "train.json", "image at place 0 (counted from 0)",
                            "id is missing"),
    "an image's id in words": (change("images", id="one"), "error", "train.json", "image at place 0 (counted from 0)",
                               "id is 'one', but must be a whole number"),
    "an image's id twice": (change("images", 1, id=1), "error", "train.json", "image 1", "id 1 occurs 2 times"),
    "a file listed twice": (change("images", 1, file_name="train_1.png"), "error", "train.json", "image 1",
                            "file_name 'train_1.png' occurs 2 times (ids 1, 2)"),
    "no file_name": (change("images", file_name=...), "error", "train.json", "image 1", "file_name is missing"),
    "a file_name that climbs": (change("images", file_name="../images/train_1.png"), "error", "train.json", "image 1",
                                "leaves images/"),
    "an absolute file_name": (change("images", file_name="/etc/passwd"), "error", "train.json", "image 1",
                              "leaves images/"),
    "a file_name with a drive": (change("images", file_name="C:\\photos\\a.png"), "error", "train.json", "image 1",
                                 "leaves images/"),
    "no width": (change("images", width=...), "error", "train.json", "image 1", "width is missing"),
    "a height of zero": (change("images", height=0), "error", "train.json", "image 1", "height is 0, but must be"),
    "a width in words": (change("images", width="64"), "error", "train.json", "image 1", "width is '64', but must be"),
    "another size": (change("images", width=65), "error", "train.json", "image 1",
                     "train_1.png is 64x48 pixels, but the entry says 65x48"),
    "a tiny image": (put(image_bytes(picture(3, 25, 25), "PNG"), "train_3.png", 2, width=25, height=25), "note",
                     "train.json", "image 3", "it is 25x25 pixels: training leaves out images under 32"),
    # their files
    "a missing file": (remove("images/train_1.png"), "error", *FILE_1,
                       "the file is missing: copy it there"),
    "a renamed file": (rename("train_1.png", "train_1.PNG"), "error", *FILE_1,
                       "there is images/train_1.PNG: correct file_name"),
    "a file in a folder that is not there": (change("images", file_name="images/train_1.png"), "error",
                                             "images/images/train_1.png", "image 1 of train.json",
                                             "there is images/train_1.png"),
    "a name that no file can have": (change("images", file_name="a\0b"), "error", "images/a\0b", FILE_1[1],
                                     "the file is missing"),
    "a folder instead": (change("images", file_name="."), "error", "images/.", "image 1 of train.json",
                         "cannot be read: Is a directory"),
    "zero bytes": (put(b""), "error", *FILE_1, "is empty (0 bytes)"),
    "a web page": (put(b"<html>404 Not Found"), "error", *FILE_1,
                   "no image that can be read: it starts with b'<html>404 No'"),
    "a truncated PNG": (put(PNG[: len(PNG) // 2]), "error", *FILE_1,
                        "a PNG of mode RGB that cannot be decoded: it is cut off, damaged"),
    "a PNG without its end": (put(PNG[:-12]), "error", *FILE_1,
                              "cannot be decoded"),
    "a truncated JPEG": (put(JPEG[: len(JPEG) // 2]), "error", *FILE_1,
                         "cannot be decoded"),
    "32 bits": (put(image_bytes(picture(1).convert("F"), "TIFF")), "error", *FILE_1,
                "a TIFF of mode F that cannot be decoded"),
    "16 bits, all used": (put(wide_pixels(65535)), "note", *FILE_1,
                          "training keeps the upper 8: its brightest value is then 255 of 255"),
    "16 bits, 10 used": (put(wide_pixels(1023)), "error", *FILE_1, "almost black"),
    "a turned JPEG": (put(image_bytes(picture(1), "JPEG", exif=exif(6))), "error", "train.json", "image 1",
                      "is 48x64 pixels after its EXIF orientation 6, which training applies, but the entry says 64x48"),
    "an upside-down JPEG": (put(image_bytes(picture(1), "JPEG", exif=exif(3))), "note", "train.json", "image 1",
                            "is turned by its EXIF orientation 3"),
    "the same image in both": (copy("train_2.png", "val_3.png"), "error", "val.json", "image 3",
                               "val_3.png is the same image as train_2.png (image 2 of train.json)"),
    "the same image twice": (copy("train_2.png", "train_3.png"), "note", "train.json", "image 3", "it counts twice"),
    # annotations
    "an annotation without id": (change("annotations", id=...), "error", "train.json",
                                 "annotation at place 0 (counted from 0)", "id is missing"),
    "an annotation's id twice": (change("annotations", 1, id=1), "error", "train.json", "annotation 1",
                                 "id 1 occurs 2 times"),
    "an unknown image": (change("annotations", image_id=99), "error", "train.json", "annotation 1",
                         "image_id 99 is unknown: images lists 1, 2, 3"),
    "an unknown category": (change("annotations", category_id=2), "error", "train.json", "annotation 1",
                            "category_id 2 is unknown: categories lists 1, 7"),
    "no category_id": (change("annotations", category_id=...), "error", "train.json", "annotation 1",
                       "category_id is missing"),
    "no bbox": (change("annotations", bbox=...), "error", "train.json", "annotation 1", "bbox is missing"),
    "three numbers": (change("annotations", bbox=[1, 2, 3]), "error", "train.json", "annotation 1",
                      "must be four numbers"),
    "numbers as words": (change("annotations", bbox=["1", 2, 3, 4]), "error", "train.json", "annotation 1",
                         "must be four numbers"),
    "NaN in bbox": (change("annotations", bbox=[1, 2, float("nan"), 4]), "error", "train.json", "annotation 1",
                    "is not finite"),
    "infinity in bbox": (change("annotations", bbox=[float("inf"), 2, 3, 4]), "error", "train.json", "annotation 1",
                         "is not finite"),
    "a negative width": (change("annotations", bbox=[20, 20, -5, 4]), "error", "train.json", "annotation 1",
                         "negative width or height: it is x, y, width, height, not two corners"),
    "an empty box": (change("annotations", bbox=[20, 20, 0, 4]), "error", "train.json", "annotation 1", "is empty"),
    "a box outside": (change("annotations", bbox=[64, 5, 20, 10]), "error", "train.json", "annotation 1",
                      "lies outside the image of 64x48 pixels"),
    "a box mostly outside": (change("annotations", bbox=[55, 5, 20, 10]), "error", "train.json", "annotation 1",
                             "lies more than half outside"),
    "a box that sticks out": (change("annotations", bbox=[-4, 6, 20, 10]), "note", "train.json", "annotation 1",
                              "sticks out of the image of 64x48 pixels by 4"),
    "a box under a pixel": (change("annotations", bbox=[5, 6, 0.5, 10], area=5), "note", "train.json", "annotation 1",
                            "has a side under 1 pixel"),
    "no area": (change("annotations", area=...), "error", "train.json", "annotation 1", "area is missing"),
    "an area of zero": (change("annotations", area=0), "error", "train.json", "annotation 1", "area is 0, but must be"),
    "a NaN area": (change("annotations", area=float("nan")), "error", "train.json", "annotation 1", "area is nan"),
    "an area far from the box": (change("annotations", area=20), "note", "train.json", "annotation 1",
                                 "area 20 is 0.1 times bbox's 200"),
    "a mask larger than its box": (change("annotations", area=400, segmentation=[[1, 1, 2, 2, 3, 3]]), "note",
                                   "train.json", "annotation 1", "area 400 is 2 times"),
    "a strange iscrowd": (change("annotations", iscrowd="no"), "error", "train.json", "annotation 1",
                          "iscrowd is 'no'"),
    "an ignored object": (change("annotations", ignore=1), "note", "train.json", "annotation 1", 'use "iscrowd": 1'),
    # categories
    "a category without name": (change("categories", name=" "), "error", "train.json", "category 7", "name is ' '"),
    "a category's id twice": (change("categories", id=1), "error", "train.json", "category 1", "id 1 occurs 2 times"),
    "a class listed twice": (change("categories", name="dog"), "error", "train.json", "category 7",
                             "name 'dog' occurs 2 times (ids 7, 1)"),
    "a class that only val lists": (swap_names, "error", "val.json", "class bird",
                                    "train.json does not list this class, so its 2 object(s) could never be found"),
    "a class that only train lists": (swap_names, "error", "val.json", "class dog", "it does not list this class"),
    "an empty class that only val lists": (
        table("categories", [{"id": 1, "name": "dog"}, {"id": 7, "name": "cat"}, {"id": 9, "name": "bird"}], "val"),
        "note", "val.json", "class bird", "it is left out"),
    "a class without train objects": (one_class_less, "note", "train.json", "class cat", "it cannot be learned"),
    "a class without val objects": (table("annotations", [annotation(1, 1, [1, 1, 9, 9])], "val"), "note", "val.json",
                                    "class cat", "it has no object here, but 2 in train.json: it will have no AP"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_its_message(case, folder):
    breaker, level, file, id_, reason = BAD[case]
    breaker(folder)
    problems = check_dataset("pets")
    fitting = [problem for problem in problems if (problem.level, problem.file, problem.id) == (level, file, id_)
               and reason in problem.reason]
    assert len(fitting) == 1, "\n".join(map(str, problems))
    if level == "note":
        assert problems == fitting


def test_sound_data_has_no_problems(folder):
    assert check_dataset("pets") == [] == check_dataset(folder)
    require_sound(find_dataset("pets"))


FINE = {
    "gaps in the ids of categories": lambda folder: None,
    "an image without objects": table("annotations", [annotation(1, 1, [1, 1, 9, 9]),
                                                      annotation(2, 1, [1, 1, 9, 9], 7)]),
    "a crowd": change("annotations", 3, iscrowd=1),
    "no iscrowd": change("annotations", iscrowd=...),
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
    from lib.data import images
    monkeypatch.setattr(images, "_look", None)
    assert check_dataset(folder) == []
    for damage in ("", "[]", json.dumps({"read_as": [images._READ_AS, cv2.__version__], "files": {"train_1.png": 1}})):
        (folder / ".images.json").write_text(damage)
        with pytest.raises(TypeError, match="not callable"):  # it would look again
            check_dataset(folder)


def test_a_folder_that_may_not_be_written_can_be_checked(folder, monkeypatch):
    from lib.data import images

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
