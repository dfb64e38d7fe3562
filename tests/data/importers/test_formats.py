"""The same little data set through every importer: the same boxes to half a pixel, the same classes, splits and images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

import foreign
from foreign import CLASSES, PHOTOS, Photo
from small_dataset import load
from workbook.data.importers.command import Result, import_dataset

IN_ORDER = CLASSES
BY_ALPHABET = tuple(sorted(CLASSES))


@dataclass(frozen=True)
class Format:
    """What a writer of `foreign` stands for. `exact`: pixels that a box may be off by, where the format does not round to whole ones."""

    key: str
    write: Callable[[Path], Path]
    classes: Sequence[str] = IN_ORDER
    splits: bool = True
    exact: float = 0.5
    names: dict[str, str] = field(default_factory=dict)  # class of the little data set → what it is called here
    without: tuple[str, ...] = ()  # stems of images that the format cannot list


FORMATS = {
    "ultralytics": Format("yolo", foreign.ultralytics, exact=1e-3), "roboflow_yolo": Format("yolo", foreign.roboflow_yolo, exact=1e-3),
    "label_studio_yolo": Format("yolo", foreign.label_studio_yolo, splits=False, exact=1e-3),
    "cvat_yolo": Format("yolo", foreign.cvat_yolo, exact=1e-3),
    "supervision_yolo": Format("yolo", foreign.supervision_yolo, exact=1e-3),
    "supervision_voc": Format("voc", foreign.supervision_voc, BY_ALPHABET),
    "labelimg": Format("voc", foreign.labelimg, exact=1.0),  # it never writes 0
    "voc2007": Format("voc", foreign.voc2007, BY_ALPHABET), "cvat_voc": Format("voc", foreign.cvat_voc, exact=1e-6),
    "coco2017": Format("coco", foreign.coco2017, exact=1e-6), "roboflow_coco": Format("coco", foreign.roboflow_coco, exact=1e-6),
    "cvat_coco": Format("coco", foreign.cvat_coco, splits=False, exact=1e-6),
    "label_studio_coco": Format("coco", foreign.label_studio_coco, splits=False, exact=1e-6),
    "labelme_coco": Format("coco", foreign.labelme_coco, splits=False, exact=1e-6),
    "labelme": Format("labelme", foreign.labelme, exact=1e-6),
    "visdrone": Format("visdrone", foreign.visdrone, (
        "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor"),
        names=foreign.VISDRONE_CLASSES),
    "dota": Format("dota", foreign.dota, BY_ALPHABET, exact=1e-6), "openimages": Format("openimages", foreign.openimages, exact=1e-3),
    "tensorflow_csv": Format("csv", foreign.tensorflow_csv, BY_ALPHABET, without=("three",)),
    "deepforest_csv": Format("csv", foreign.deepforest_csv, BY_ALPHABET, splits=False, exact=1e-6),
}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def boxes_by_stem(folder: Path, split: str) -> dict[str, list[tuple[str, list[float]]]]:
    """Stem of an image → class and box of its objects, in the order of the file."""
    content = load(folder, split)
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    stems = {entry["id"]: Path(entry["file_name"]).stem for entry in content["images"]}
    found: dict[str, list[tuple[str, list[float]]]] = {stem: [] for stem in stems.values()}
    for entry in content["annotations"]:
        found[stems[entry["image_id"]]].append((names[entry["category_id"]], entry["bbox"]))
    return found


def assert_same(photos: Sequence[Photo], found: dict[str, list[tuple[str, list[float]]]], form: Format) -> None:
    assert set(found) == {photo.stem for photo in photos} - set(form.without)
    for photo in photos:
        mine = sorted((form.names.get(CLASSES[number], CLASSES[number]), list(box)) for number, box in photo.boxes)
        theirs = sorted(found.get(photo.stem, []))
        assert [name for name, _ in mine] == [name for name, _ in theirs]
        corners = [np.array([[x, y, x + w, y + h] for _, (x, y, w, h) in boxes]).reshape(-1, 4) for boxes in (mine, theirs)]
        assert np.abs(corners[0] - corners[1]).max(initial=0) <= form.exact, photo.stem


@pytest.mark.parametrize("name", FORMATS)
def test_an_import_gives_the_same_boxes_classes_and_splits(name: str, tmp_path: Path, data: Path) -> None:
    form = FORMATS[name]
    made = import_dataset(form.write(tmp_path / "theirs"), "mine")
    assert made.folder == data / "mine" and made.imported.format == form.key
    assert [problem for problem in made.problems if problem.level == "error"] == []
    categories = load(made.folder, "train")["categories"]
    assert [entry["name"] for entry in sorted(categories, key=lambda entry: entry["id"])] == list(form.classes)
    if form.splits:
        for split in ("train", "val"):
            assert_same(foreign.of_split(split), boxes_by_stem(made.folder, split), form)
    else:
        assert_same(PHOTOS, boxes_by_stem(made.folder, "train"), form)
        assert not (made.folder / "val.json").exists() and "`workbook split mine` makes it" in made.summary[-1]
    for path in made.folder.glob("[a-z]*.json"):
        for entry in load(made.folder, path.stem)["images"]:
            assert (made.folder / "images" / entry["file_name"]).is_file()


@pytest.mark.parametrize("name", FORMATS)
def test_a_named_format_is_read_as_the_recognised_one(name: str, tmp_path: Path) -> None:
    source = FORMATS[name].write(tmp_path / "theirs")
    first, second = import_dataset(source, "mine"), import_dataset(source, "other", FORMATS[name].key)
    assert first.imported == second.imported


# ---- what a format has of its own ------------------------------------------------------------------------------------


def imported(folder: Path, **asked: Any) -> tuple[Result, dict[str, Any]]:
    made = import_dataset(folder, "mine", **asked)
    return made, load(made.folder, "train")


def notes(made: Result) -> str:
    return "\n".join(made.imported.notes)


def test_yolo_polygons_become_the_upright_box_with_the_polygon_as_mask(tmp_path: Path) -> None:
    folder = foreign.ultralytics(tmp_path / "theirs")
    foreign.put(folder / "labels" / "train" / "one.txt", "1 0.25 0.25 0.75 0.25 0.5 0.75\n2 0.5 0.5 0.25 0.5\n")
    made, content = imported(folder)
    mine = [entry for entry in content["annotations"] if entry["image_id"] == 1]
    assert {tuple(entry["bbox"]) for entry in mine} == {(16, 12, 32, 24), (24, 12, 16, 24)}
    triangle = next(entry for entry in mine if entry.get("segmentation"))
    assert triangle["area"] == pytest.approx(32 * 24 / 2) and triangle["segmentation"] == [[16, 12, 48, 12, 32, 36]]
    assert "polygons" in notes(made) and "without a label file" in notes(made)


def test_yolo_numbers_without_a_name_leave_no_gap_in_the_names(tmp_path: Path) -> None:
    folder = foreign.ultralytics(tmp_path / "theirs")
    text = (folder / "data.yaml").read_text().replace("  1: ant", "  5: ant")
    foreign.put(folder / "data.yaml", text)
    for path in folder.glob("labels/*/*.txt"):
        path.write_text("\n".join("5" + line[1:] if line.startswith("1 ") else line for line in path.read_text().splitlines()))
    _, content = imported(folder)
    assert [entry["name"] for entry in content["categories"]] == ["zebra", "moth", "ant"]


def test_vocs_own_corners_count_from_one_and_difficult_is_excused(tmp_path: Path) -> None:
    folder = foreign.voc2007(tmp_path / "theirs")
    path = folder / "VOC2007" / "Annotations" / "one.xml"
    path.write_text(path.read_text().replace("<difficult>0</difficult>", "<difficult>1</difficult>", 1)
                    .replace("<truncated>0</truncated>", "<truncated>1</truncated>", 1))
    made, content = imported(folder)
    first = next(entry for entry in content["annotations"] if entry["iscrowd"])
    assert (first["difficult"], first["truncated"], first["bbox"]) == (1, 1, [5, 6, 21, 10])
    assert "count from 1" in notes(made) and "taken as iscrowd" in notes(made)


def test_parts_of_a_voc_object_are_no_boxes_of_it(tmp_path: Path) -> None:
    """VOC2007 has <part> with a <bndbox> of its own inside persons."""
    folder = foreign.cvat_voc(tmp_path / "theirs")
    path = folder / "Annotations" / "two 2.xml"
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    path.write_text(path.read_text().replace("\t\t<bndbox>", f"{part}<bndbox>"))
    _, content = imported(folder)
    assert [4.0, 50.25, 30.0, 22.5] in [entry["bbox"] for entry in content["annotations"]]


def test_coco_masks_of_runs_give_boxes_and_areas_as_pycocotools_has_them(tmp_path: Path) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    folder = foreign.coco2017(tmp_path / "theirs")
    pixels = np.zeros((48, 64), np.uint8)
    pixels[10:20, 30:45] = 1
    runs = mask.encode(np.asfortranarray(pixels))
    content = foreign.coco(foreign.of_split("train"))
    content["annotations"][0].update(segmentation={"size": [48, 64], "counts": runs["counts"].decode()}, bbox=[], area=None)
    foreign.put(folder / "annotations" / "instances_train2017.json", json.dumps(content))
    made, train = imported(folder)
    assert (train["annotations"][0]["bbox"], train["annotations"][0]["area"]) == ([30, 10, 15, 10], 150)
    assert train["licenses"] == content["licenses"] and "without a box" in notes(made) and "other tasks" in notes(made)


def test_coco_ignore_is_excused_and_further_keys_stay(tmp_path: Path) -> None:
    folder = foreign.cvat_coco(tmp_path / "theirs")
    content = foreign.coco(PHOTOS, attributes={"occluded": True})
    content["annotations"][0]["ignore"] = 1
    content["images"][0]["location"] = "north"
    foreign.put(folder / "annotations" / "instances_default.json", json.dumps(content))
    made, train = imported(folder)
    assert [entry["iscrowd"] for entry in train["annotations"]][:2] == [1, 0]
    assert train["annotations"][1]["attributes"] == {"occluded": True} and train["images"][0]["location"] == "north"
    assert not any("hides it from training" in problem.reason for problem in made.problems)


def test_labelme_groups_circles_masks_and_lines(tmp_path: Path) -> None:
    folder = foreign.labelme(tmp_path / "theirs")
    shapes = [("rectangle", [[2, 2], [10, 10]], 7), ("rectangle", [[20, 20], [30, 40]], 7), ("circle", [[40, 20], [40, 30]], None),
              ("mask", [[1, 1], [8, 9]], None), ("line", [[1, 1], [8, 9]], None)]
    path = folder / "train" / "one.json"
    content = json.loads(path.read_text())
    content["shapes"] = [{"label": "ant", "points": points, "group_id": group, "shape_type": form, "flags": {}}
                         for form, points, group in shapes]
    path.write_text(json.dumps(content))
    made, train = imported(folder)
    image = next(entry["id"] for entry in train["images"] if entry["file_name"].endswith("one.png"))
    assert [entry["bbox"] for entry in train["annotations"] if entry["image_id"] == image] == [
        [2, 2, 28, 38], [30, 10, 20, 20], [1, 1, 8, 9]]
    assert "points and lines, left out: they enclose nothing: 1" in notes(made)


def test_visdrones_ignored_regions_excuse_every_class(tmp_path: Path) -> None:
    folder = foreign.visdrone(tmp_path / "theirs")
    foreign.put(folder / "VisDrone2019-DET-train" / "annotations" / "one.txt", "1,2,30,20,0,0,0,0\n5,5,20,20,0,4,0,0\n5,5,0,20,1,4,0,0\n")
    made, train = imported(folder)
    image = next(entry["id"] for entry in train["images"] if entry["file_name"].endswith("one.png"))
    mine = [entry for entry in train["annotations"] if entry["image_id"] == image]
    assert sorted(entry["category_id"] for entry in mine if entry["bbox"] == [1, 2, 30, 20]) == list(range(1, 11))
    assert all(entry["iscrowd"] for entry in mine) and len(mine) == 11 and "without width or height" in notes(made)


def test_dotas_turned_boxes_become_upright_with_their_own_area(tmp_path: Path) -> None:
    folder = foreign.dota(tmp_path / "theirs")
    foreign.put(folder / "train" / "labelTxt" / "one.txt", "gsd:0.5\n30 10 40 20 30 30 20 20 plane 1\n")
    for path in folder.glob("*/labelTxt/*.txt"):
        path.write_text(path.read_text().replace("zebra", "ship").replace("ant", "harbor").replace("moth", "plane"))
    _, train = imported(folder)
    entry = next(entry for entry in train["annotations"] if entry["iscrowd"])
    assert (entry["bbox"], entry["area"], entry["difficult"]) == ([20, 10, 20, 20], 200, 1)
    assert [item["name"] for item in train["categories"]][:7:6] == ["plane", "ship"] and len(train["categories"]) == 15
    assert next(image for image in train["images"] if image["file_name"].endswith("one.png"))["gsd"] == 0.5


def test_openimages_groups_are_crowds_and_absent_images_are_counted(tmp_path: Path) -> None:
    folder = foreign.openimages(tmp_path / "theirs")
    path = folder / "validation-annotations-bbox.csv"
    path.write_text(f"{path.read_text()}four,xclick,{foreign.MIDS['ant']},1,0,0.5,0,0.5,0,1,1,0,0\n")
    made = import_dataset(folder, "mine")
    crowd = [entry for entry in load(made.folder, "val")["annotations"] if entry["iscrowd"]]
    assert [(entry["bbox"], entry["truncated"]) for entry in crowd] == [([0, 0, 32, 32], 1)]
    assert "not there, left out: 2 (0000absent" in notes(made) and "Tortoise" not in made.imported.classes


def test_a_csv_may_have_sides_a_split_and_semicolons(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    rows = "image;x;y;w;h;label;set\n"
    for photo in PHOTOS:
        photo.write(folder)
        rows += "".join(f"{photo.name};{x};{y};{w};{h};{CLASSES[number]};{photo.split}\n" for number, (x, y, w, h) in photo.boxes)
    foreign.put(folder / "boxes.csv", rows)
    made = import_dataset(folder, "mine")
    assert_same(foreign.of_split("val"), boxes_by_stem(made.folder, "val"), FORMATS["deepforest_csv"])


# ---- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(5, 9))
def test_boxes_on_the_stored_picture_are_turned_with_it(orientation: int, tmp_path: Path) -> None:
    """A tool that does not know EXIF gives the size and the boxes of the stored picture. Pillow turns the pixels."""
    stored = np.full((48, 80, 3), 200, np.uint8)
    stored[30:40, 5:25] = (10, 20, 240)
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in (1, 2):
        PIL.Image.fromarray(stored + np.uint8(number)).save(folder / f"{number}.png", exif=foreign.exif(orientation))
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 30, 20, 10], "area": 200, "iscrowd": 0,
           "segmentation": [[5, 30, 25, 30, 25, 40, 5, 40]]}
    foreign.put(folder / "boxes.json", json.dumps({
        "images": [{"id": number, "file_name": f"{number}.png", "width": 80, "height": 48} for number in (1, 2)],
        "annotations": [box, {**box, "id": 2, "image_id": 2}], "categories": [{"id": 1, "name": "block"}]}))
    made, train = imported(folder)
    with PIL.Image.open(folder / "1.png") as image:
        upright = np.asarray(PIL.ImageOps.exif_transpose(image)).astype(int)
    rows, columns = np.nonzero(upright[..., 2] - upright[..., 0] > 100)
    wanted = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
    entry = train["annotations"][0]
    assert entry["bbox"] == wanted and (train["images"][0]["width"], train["images"][0]["height"]) == (48, 80)
    assert min(entry["segmentation"][0][::2]) == wanted[0] and max(entry["segmentation"][0][1::2]) == wanted[1] + wanted[3]
    assert "turned with it" in notes(made)
