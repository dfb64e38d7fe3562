"""Every way in which a dataset can be wrong, one line each: how a sound one is broken, and what the check says of it."""

from __future__ import annotations

import io
import shutil
import unicodedata

import cv2
import numpy as np
import PIL.Image

from small_dataset import HEIGHT, WIDTH, annotation, load, picture, save


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


def all_tiny(folder):
    """Every train image is 28 pixels high, and so says its entry."""
    content = load(folder, "train")
    for image in content["images"]:
        image["height"] = 28
        picture(image["id"], WIDTH, 28).save(folder / "images" / image["file_name"])
    for entry in content["annotations"]:
        entry.update(bbox=[5, 6, 20, 10], area=200)
    save(folder, "train", content)


def swap_names(folder):
    """Val's only dog and cat are something else now."""
    table("categories", [{"id": 7, "name": "cat"}, {"id": 1, "name": "bird"}], "val")(folder)


def one_class_less(folder):
    content = load(folder, "train")
    save(folder, "train", {**content, "annotations": [a for a in content["annotations"] if a["category_id"] == 1]})


def deep(folder):
    (folder / "train.json").write_text("[" * 100_000)


def link_out(folder):
    """An image that is really another file of the machine."""
    outside = folder.parent / "elsewhere.png"
    (folder / "images" / "train_1.png").rename(outside)
    (folder / "images" / "train_1.png").symlink_to(outside)


def animation() -> bytes:
    return image_bytes(picture(1), "GIF", save_all=True, append_images=[picture(9)])


def each_box(write, split="train"):
    """A breaker: bbox and area of each annotation become what `write` makes of its bbox."""
    def breaker(folder):
        content = load(folder, split)
        for a in content["annotations"]:
            a["bbox"], a["area"] = write(a["bbox"])
        save(folder, split, content)
    return breaker


def as_shares(box_xywh):
    x, y, width, height = box_xywh
    return [x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT], width * height / (WIDTH * HEIGHT)


def as_corners(box_xywh):
    x, y, width, height = box_xywh
    return [x, y, x + width, y + height], width * height


def twice(folder):
    """As two exports merged: every annotation once more, under an id of its own."""
    content = load(folder, "train")
    again = [{**a, "id": a["id"] + 100} for a in content["annotations"]]
    save(folder, "train", {**content, "annotations": content["annotations"] + again})


def grouped(folder):
    """As Roboflow writes it: class 0 is the group of the others."""
    for split in ("train", "val"):
        content = load(folder, split)
        classes = [{**category, "supercategory": "pets"} for category in content["categories"]]
        save(folder, split, {**content, "categories": [{"id": 0, "name": "pets", "supercategory": "none"}, *classes]})


def named(entry, file):
    """A breaker: the first image's entry has one name, its file another, in images/ or beside it."""
    def breaker(folder):
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        (folder / "images" / "train_1.png").rename(path)
        change("images", file_name=entry)(folder)
    return breaker


DECOMPOSED = unicodedata.normalize("NFD", "M\u00fcll.png")
COMPOSED = unicodedata.normalize("NFC", "M\u00fcll.png")
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
    "a category id as text": (change("annotations", category_id="1"), "error", "train.json", "annotation 1",
                              "category_id is '1', but must be the id of an entry in categories: write the number without quotes"),
    "a width of null": (change("images", width=None), "error", "train.json", "image 1", "width is missing"),
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
    "a file_name in the other Unicode form": (
        named(COMPOSED, f"images/{DECOMPOSED}"), "error", f"images/{COMPOSED}", FILE_1[1],
        f"there is images/{DECOMPOSED}, the same letters in the Unicode form NFD (decomposed, as macOS writes): correct file_name"),
    "a percent-encoded file_name": (named("my%20cat.png", "images/my cat.png"), "error", "images/my%20cat.png", FILE_1[1],
                                    "there is images/my cat.png: correct file_name"),
    "a file in a sub-folder": (named("train_1.png", "images/batch1/train_1.png"), "error", *FILE_1,
                               "there is images/batch1/train_1.png: correct file_name"),
    "a file with another ending": (named("train_1.jpg", "images/train_1.png"), "error", "images/train_1.jpg", FILE_1[1],
                                   "there is images/train_1.png: correct file_name"),
    "a file outside images": (named("train_1.png", "train/train_1.png"), "error", *FILE_1,
                              "there is train/train_1.png, outside images/: move it to images/train_1.png"),
    "an absolute file_name of a file that is there": (
        change("images", file_name="/home/ann/photos/train_1.png"), "error", "train.json", "image 1",
        "without '..'; there is images/train_1.png: correct file_name"),
    # boxes
    "boxes as shares of the image": (each_box(as_shares), "error", "train.json", "",
                                     "all 4 boxes lie within 0 to 1, such as annotation 1 with bbox [0.07812, 0.125, 0.3125, 0.2083]: "
                                     "shares of the image"),
    "boxes as two corners": (each_box(as_corners), "error", "train.json", "",
                             "4 of 4 fit as two corners x1, y1, x2, y2, such as annotation 1 with bbox [5, 6, 25, 16] in an image of "
                             "64x48 pixels. Write x1, y1, x2 - x1, y2 - y1"),
    "every object listed twice": (twice, "note", "train.json", "",
                                  "4 of 8 annotations repeat the box and class of another one of their image: annotation 101 that of "
                                  "annotation 1, annotation 102 that of annotation 2"),
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
                      "lies outside the image of 64x48 pixels: draw it where the object is, or delete"),
    "a box mostly outside": (change("annotations", bbox=[55, 5, 20, 10]), "error", "train.json", "annotation 1",
                             "lies more than half outside"),
    "a box that sticks out": (change("annotations", bbox=[-4, 6, 20, 10]), "note", "train.json", "annotation 1",
                              "sticks out of the image of 64x48 pixels by 4"),
    "a box under a pixel": (change("annotations", bbox=[5, 6, 0.5, 10], area=5), "note", "train.json", "annotation 1",
                            "has a side under 1 pixel"),
    "no box that is large enough": (
        table("annotations", [annotation(1, 1, [5, 6, 0.5, 10]), annotation(2, 2, [5, 6, 0.4, 0.3], 7)]), "error", "train.json", "",
        "no box is left to learn from: of 2 object(s) 2 have a side under 1 px"),
    "images without objects": (
        table("annotations", [annotation(1, 1, [5, 6, 20, 10]), annotation(2, 1, [5, 6, 20, 10], 7)]), "note", "train.json", "",
        "2 of 3 images have no object: training leaves them out, or with empty_images=used"),
    "all images too small": (all_tiny, "error", "train.json", "", "all 3 images have a side under 32 px"),
    "an area of null": (change("annotations", area=None), "error", "train.json", "annotation 1", "area is null"),
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
    "a group of classes among the classes": (grouped, "note", "train.json", "class pets",
                                             "it is a group of classes, as Roboflow writes one"),
    # what only a hostile or a broken exporter writes
    "a link that leads out": (link_out, "error", *FILE_1, "it is a link to a place outside images/"),
    "half a character": (text("train.json", b'{"images": [{"file_name": "\\ud800.png"}], "annotations": [], "categories": []}'), "error",
                         "train.json", "", "holds half a character, '\\ud800'"),
    "a negative id": (change("images", id=-1), "error", "train.json", "image at place 0 (counted from 0)",
                      "id is -1, but must be a whole number from 0"),
    "a number without end": (change("annotations", bbox=[10**400, 2, 3, 4]), "error", "train.json", "annotation 1",
                             "must be four numbers"),
    "an animation": (put(animation()), "note", *FILE_1, "a GIF of several frames or pages, of which training sees the first"),
}
