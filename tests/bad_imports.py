"""Labels of other formats that cannot be imported, and exports that are refused; rows as in `bad_inputs.Case`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
from bad_data import exif, image_bytes
from small_dataset import load, picture, save
from workbook.data.exporters.command import export_dataset
from workbook.data.importers.command import import_dataset

Row = tuple[str, str, Callable[[Any], Any], str, str, Callable[[Any], Any]]  # as bad_inputs.Case
Write = Callable[[Path], Any]
REFUSED = "refused; nothing is changed"


def _sound(folder: Path) -> None:
    """Nothing is wrong with the folder."""


def _import(wrong: str, says: str, write: Write, breaks: Callable[[Path], Any] = _sound, **asked: Any) -> Row:
    """write: makes a sound folder; breaks: what is wrong with it."""
    def arrange(place: Any) -> None:
        write(place.root / "theirs")
        breaks(place.root / "theirs")

    def ask(place: Any) -> None:
        file = asked.get("file", "")
        more = {key: value for key, value in asked.items() if key not in ("file", "name")}
        import_dataset(place.root / "theirs" / file, asked.get("name", "mine"), **more)

    return "Labels of other formats", wrong, ask, says, REFUSED, arrange


def _export(wrong: str, says: str, breaks: Callable[[Path], Any], to: str) -> Row:
    def ask(place: Any) -> None:
        export_dataset("pets", to)

    return "Labels of other formats", wrong, ask, says, REFUSED, lambda place: breaks(place.pets)


def _text(path: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: foreign.put(folder / path, text)


def _edit(path: str, before: str, after: str) -> Callable[[Path], Any]:
    def edit(folder: Path) -> None:
        text = (folder / path).read_text()
        assert before in text, text
        (folder / path).write_text(text.replace(before, after, 1))

    return edit


def _json(path: str, change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / path).read_text())
        change(content)
        (folder / path).write_text(json.dumps(content))

    return edit


def _move(path: str, target: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / path).rename(folder / target)


def _copy(path: str, target: str) -> Callable[[Path], Any]:
    return lambda folder: shutil.copyfile(folder / path, folder / target)


def _remove(path: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / path).unlink()


def _empty(folder: Path) -> None:
    folder.mkdir()


def _two_formats(folder: Path) -> None:
    foreign.ultralytics(folder)
    foreign.put(folder / "labels.json", json.dumps(foreign.coco(foreign.of_split("train"))))


def _outside(folder: Path) -> None:
    """The images of a YOLO set are links to photos elsewhere."""
    for path in sorted((folder / "images").rglob("*.*")):
        target = folder.parent / "photos" / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        path.symlink_to(target)


def _smaller(folder: Path) -> None:
    (folder / "images" / "default" / "one.png").write_bytes(image_bytes(picture(1, 32, 24), "PNG", exif=exif(1)))


def _in_no_split(folder: Path) -> None:
    foreign.PHOTOS[0].write(folder / "more")
    (folder / "more" / "one.png").rename(folder / "more" / "five.png")
    foreign.put(folder / "more" / "five.txt", "0 .5 .5 .2 .2\n")


def _same_stem(folder: Path) -> None:
    """A dataset of the workbook with a.png and a.jpg."""
    content = load(folder, "train")
    (folder / "images" / "train_2.png").unlink()
    picture(2).save(folder / "images" / "train_1.jpg")
    content["images"][1]["file_name"] = "train_1.jpg"
    save(folder, "train", content)


ONE = "labels/train/one.txt"
XML = "Annotations/one.xml"
INSTANCES = "annotations/instances_default.json"

IMPORTS: list[Row] = [
    # the folder, the format, the name
    _import("an empty folder", "theirs is empty: give the folder that holds labels and images", _empty),
    _import("a folder without labels", "no labels of a known format. Known formats:\n  - yolo: data.yaml with names, or",
            _empty, lambda folder: foreign.PHOTOS[0].write(folder)),
    _import("a folder that is not there", "there is no folder or file theirs/nowhere: give the "
                                          "folder", _empty, file="nowhere"),
    _import("an archive", "theirs/set.zip is an archive: unpack it, and import the folder", _empty,
            _text("set.zip", "PK"), file="set.zip"),
    _import("two formats that fit", "Name the one that holds your labels: --format yolo or --format "
                                    "coco", _two_formats),
    _import("an unknown format", "--format kitti: unknown format. Known: yolo, voc, coco", foreign.ultralytics,
            format_="kitti"),
    _import("a format that it is not", "no json with the lists images, annotations and "
                                       "categories", foreign.ultralytics, format_="coco"),
    _import("a name that is taken", "there is a dataset 'pets' already, data/pets, and it is not "
                                    "overwritten", foreign.ultralytics, name="pets"),
    _import("a name that is a path", "give the name of a new folder in", foreign.ultralytics, name="../mine"),
    _import("labels that were cut off", "labels.json: it is not valid JSON", _empty,
            _text("labels.json", '{"images": [')),
    _import("detections instead of labels", "it is a list of detections, which are no labels", _empty,
            _text("found.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]')),
    _import("a val set and --split", "it has a val set already: import it without --split", foreign.ultralytics,
            split=True),
    _import("images that are links, without --copy", "4 image(s) are links to files outside "
                                                     "theirs/images", foreign.ultralytics, _outside),
    _import("images outside every split", "1 image(s) are in no split, such as five.png, but others "
                                          "are", foreign.cvat_yolo, _in_no_split),
    # YOLO
    _import("a class number without a name", f"{ONE}, line 1: class 9 has no name: names lists 0 to "
                                             "2", foreign.ultralytics,
            _text(ONE, "9 .5 .5 .2 .2\n")),
    _import("several wrong lines, all at once", "3 problem(s):\n  - labels/train/one.txt, line 1", foreign.ultralytics,
            _text(ONE, "9 .5 .5 .2 .2\n0 a .5 .2 .2\n0 .5 .5 .2\n")),
    _import("a label file without its image", "labels/train/lost.txt: there is no image of this "
                                              "name", foreign.ultralytics,
            _text("labels/train/lost.txt", "0 .5 .5 .2 .2\n")),
    _import("two images with one label file", "it belongs to one.jpg and one.png: rename one of "
                                              "them", foreign.ultralytics,
            lambda folder: picture(9).save(folder / "images" / "train" / "one.jpg")),
    _import("YOLO boxes in pixels", "5 6 20 10 are no shares of the image, which lie within 0 to "
                                    "1", foreign.ultralytics,
            _text(ONE, "0 5 6 20 10\n")),
    _import("YOLO predictions with scores", "a score stands behind the box", foreign.ultralytics,
            _text(ONE, "0 .5 .5 .2 .2 .9\n")),
    _import("half a polygon", "it has 8 numbers, but a box is `class cx cy w h`, and a polygon", foreign.ultralytics,
            _text(ONE, "0 .1 .1 .2 .2 .3 .3 .4\n")),
    _import("a data.yaml whose folders are not there", "data.yaml, key train: images/gone is not "
                                                       "there", foreign.ultralytics,
            _edit("data.yaml", "images/train", "images/gone")),
    _import("a data.yaml with the same train and val", "val would measure what is learned by "
                                                       "heart", foreign.ultralytics,
            _edit("data.yaml", "images/val", "images/train")),
    _import("a data.yaml that counts other classes", "key nc: it is 4, but names lists 3", foreign.roboflow_yolo,
            _edit("data.yaml", "nc: 3", "nc: 4")),
    _import("a data.yaml that is no YAML", "data.yaml: it is not valid YAML (", foreign.ultralytics,
            _edit("data.yaml", "names:", "names: [")),
    _import("a class twice in data.yaml", "class 'zebra': it is listed twice", foreign.ultralytics,
            _edit("data.yaml", "1: ant", "1: zebra")),
    _import("YOLO labels without names", "says which class is number 0: write classes.txt", foreign.label_studio_yolo,
            _remove("classes.txt")),
    # VOC
    _import("a broken xml", f"{XML}: it is not valid XML", foreign.cvat_voc, _edit(XML, "</annotation>", "")),
    _import("an xml without its image", "the image gone.png is not there: copy it there, or delete the "
                                        "xml", foreign.cvat_voc, lambda folder: (
        _edit(XML, "one.png", "gone.png")(folder), (folder / XML).rename(folder / "Annotations" / "gone.xml"))),
    _import("corners the wrong way round", "and the second lies before the first: exchange them", foreign.cvat_voc,
            _edit(XML, "<xmin>5.25</xmin>", "<xmin>55.25</xmin>")),
    _import("an object without a box", "object 1: it has no <bndbox>", foreign.cvat_voc, lambda folder: (
        _edit(XML, "<bndbox>", "<robndbox>")(folder), _edit(XML, "</bndbox>", "</robndbox>")(folder))),
    _import("two xml of one image", "is of the same image one.png: delete the one that is wrong", foreign.cvat_voc,
            _copy(XML, "Annotations/1.xml")),
    # COCO
    _import("a COCO image that is not there", "image 1: the file 'one.png' is not there", foreign.cvat_coco,
            _remove("images/default/one.png")),
    _import("a COCO id of several images", "image 1: the id is given to several images", foreign.cvat_coco,
            _json(INSTANCES, lambda content: content["images"][1].update(id=1))),
    _import("labels for another size of the image", "it has 32x24 pixels, but the labels were made for "
                                                    "64x48", foreign.cvat_coco, _smaller),
    _import("a COCO category that is not listed", "category_id 9 is unknown: categories lists 1, 2, "
                                                  "3", foreign.cvat_coco,
            _json(INSTANCES, lambda content: content["annotations"][0].update(category_id=9))),
    _import("a COCO object without box and mask", "it has neither bbox nor segmentation", foreign.cvat_coco,
            _json(INSTANCES, lambda content: content["annotations"][0].update(bbox=[]))),
    _import("an image in two splits", "it is in train and in val: val must not hold what is trained "
                                      "on", foreign.coco2017,
            _text("annotations/instances_val2017.json", json.dumps(foreign.coco(foreign.PHOTOS[:1])))),
    # the others
    _import("a labelme shape without a label", "train/one.json, shape 1: it has no label", foreign.labelme,
            _json("train/one.json", lambda content: content["shapes"][0].update(label=""))),
    _import("an unknown category of VisDrone", "category 12 is unknown: 0 is an ignored region", foreign.visdrone,
            _text("VisDrone2019-DET-train/annotations/one.txt", "1,2,30,20,1,12,0,0\n")),
    _import("three corners in DOTA", "must be x1 y1 x2 y2 x3 y3 x4 y4 category difficult", foreign.dota,
            _text("train/labelTxt/one.txt", "1 2 3 4 5 6 plane 0\n")),
    _import("OpenImages without its images", "no image is there that a csv with the columns "
                                             "ImageID", foreign.openimages,
            lambda folder: [path.unlink() for path in folder.rglob("*.*") if path.suffix != ".csv"]),
    _import("a csv without a column", "it has no column for xmax; there are only image_path, xmin, ymin, right_edge, "
                                      "ymax, label",
            foreign.deepforest_csv, _edit("labels.csv", "xmax", "right_edge")),
    _import("a csv of shares", "lie within 0 to 1: shares of the image", foreign.deepforest_csv,
            _text("labels.csv", "image_path,xmin,ymin,xmax,ymax,label\none.png,.1,.2,.3,.4,ant\n")),
    _import("a csv with words for numbers", "labels.csv, line 2: xmin is 'left', but must be a "
                                            "number", foreign.deepforest_csv,
            _edit("labels.csv", "one.png,5.25", "one.png,left")),
    # the way back
    _export("an export to an unknown format", "--to kitti: unknown format. Known: yolo, voc, "
                                              "coco", _sound, "kitti"),
    _export("an export of two images with one label file", "train_1.jpg and train_1.png would share "
                                                           "them", _same_stem, "yolo"),
]
