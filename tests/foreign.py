"""One little data set as other programs write it, byte by byte where they are known, for the importers to read.

Three train images and one of val: a PNG with three objects, a JPEG that EXIF turns, one without an object. The
classes are numbered against the alphabet, so that their order shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bad_data import exif, image_bytes
from small_dataset import picture

CLASSES = ("zebra", "ant", "moth")
XYWH = tuple[float, float, float, float]


@dataclass(frozen=True)
class Photo:
    """`width` and `height` of the upright image; boxes are class number and x, y, width, height in pixels."""

    stem: str
    suffix: str
    split: str
    width: int
    height: int
    boxes: tuple[tuple[int, XYWH], ...]
    orientation: int = 1

    @property
    def name(self) -> str:
        return self.stem + self.suffix

    def write(self, folder: Path) -> Path:
        """The file; two photos of one content would be found by the check."""
        folder.mkdir(parents=True, exist_ok=True)
        seed = PHOTOS.index(self) + 1
        if self.orientation == 1:
            picture(seed, self.width, self.height).save(folder / self.name)
        else:  # stored lying on the side
            content = image_bytes(picture(seed, self.height, self.width), "JPEG", exif=exif(self.orientation), quality=95)
            (folder / self.name).write_bytes(content)
        return folder / self.name


PHOTOS = (
    Photo("one", ".png", "train", 64, 48, ((0, (5.25, 6.5, 20.5, 10.0)), (2, (30.0, 20.0, 30.5, 24.25)), (0, (1.0, 30.0, 12.0, 16.0)))),
    Photo("two 2", ".jpg", "train", 48, 80, ((1, (4.0, 50.25, 30.0, 22.5)),), orientation=6),
    Photo("three", ".png", "train", 70, 40, ()),
    Photo("four", ".png", "val", 64, 64, ((1, (10.5, 10.0, 40.0, 44.0)), (2, (0.0, 0.0, 9.0, 8.0)), (0, (50.0, 50.0, 13.0, 14.0)))),
)


def of_split(split: str) -> list[Photo]:
    return [photo for photo in PHOTOS if photo.split == split]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# ---- YOLO ------------------------------------------------------------------------------------------------------------


def yolo_rows(photo: Photo) -> str:
    """Six digits, as ultralytics' and Roboflow's converters write."""
    rows = [(number, (x + w / 2) / photo.width, (y + h / 2) / photo.height, w / photo.width, h / photo.height)
            for number, (x, y, w, h) in photo.boxes]
    return "".join(f"{number} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n" for number, cx, cy, w, h in rows)


def ultralytics(folder: Path) -> Path:
    """As the docs of ultralytics 8 have it (coco8.yaml): names by number, no text for an image without objects."""
    for photo in PHOTOS:
        photo.write(folder / "images" / photo.split)
        if photo.boxes:
            put(folder / "labels" / photo.split / f"{photo.stem}.txt", yolo_rows(photo))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    put(folder / "data.yaml", f"path: ../datasets/{folder.name} # dataset root dir\ntrain: images/train\nval: "
                              "images/val\ntest: # optional\n\n"
                              f"# Classes\nnames:\n{names}\n")
    return folder


def roboflow_yolo(folder: Path) -> Path:
    """A "YOLOv8" export of roboflow.com: `../train/images` beside the folder train, an empty text for an empty image."""
    for photo in PHOTOS:
        side = "valid" if photo.split == "val" else "train"
        photo.write(folder / side / "images")
        put(folder / side / "labels" / f"{photo.stem}.txt", yolo_rows(photo).rstrip("\n"))
    put(folder / "data.yaml", f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\nnames: "
                              f"{list(CLASSES)}\n\n"
                              "roboflow:\n  workspace: ws\n  project: p\n  version: 1\n  license: CC BY 4.0\n")
    put(folder / "README.roboflow.txt", "1 2 3 4 5 exported via roboflow.com\n")
    return folder


def label_studio_yolo(folder: Path) -> Path:
    """label-studio-converter 0.0.59, `convert_to_yolo`: classes.txt and notes.json, no split."""
    for photo in PHOTOS:
        photo.write(folder / "images")
        put(folder / "labels" / f"{photo.stem}.txt", yolo_rows(photo))
    put(folder / "classes.txt", "\n".join(CLASSES))
    put(folder / "notes.json", json.dumps({"categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
                                           "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"}}))
    return folder


def cvat_yolo(folder: Path) -> Path:
    """CVAT's "YOLO 1.1" (datumaro's yolo format): darknet's obj.names, labels beside the images."""
    put(folder / "obj.data", "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = "
                             "data/obj.names\nbackup = backup/\n")
    put(folder / "obj.names", "\n".join(CLASSES) + "\n")
    for photo in PHOTOS:
        side = "valid" if photo.split == "val" else "train"
        photo.write(folder / f"obj_{side}_data")
        put(folder / f"obj_{side}_data" / f"{photo.stem}.txt", yolo_rows(photo))
        with open(folder / f"{side}.txt", "a") as listing:
            listing.write(f"data/obj_{side}_data/{photo.name}\n")
    return folder


def supervision_yolo(folder: Path) -> Path:
    """supervision 0.31.2, `DetectionDataset.as_yolo`: five digits, and a data.yaml without the splits."""
    for photo in PHOTOS:
        photo.write(folder / photo.split / "images")
        rows = [[number, *(f"{float(word):.5f}" for word in words)] for number, *words in map(str.split, yolo_rows(photo).splitlines())]
        put(folder / photo.split / "labels" / f"{photo.stem}.txt", "\n".join(" ".join(row) for row in rows))
    put(folder / "data.yaml", f"nc: 3\nnames: [{', '.join(CLASSES)}]\n")
    return folder


# ---- VOC -------------------------------------------------------------------------------------------------------------


def voc_xml(photo: Photo, corners: Any, source: str = "<database>Unknown</database>", size: str = "") -> str:
    """corners: x, y, w, h → xmin, ymin, xmax, ymax as this program writes them."""
    objects = ""
    for number, box in photo.boxes:
        tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners(*box), strict=True))
        objects += (f"\t<object>\n\t\t<name>{CLASSES[number]}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
                    f"\t\t<difficult>0</difficult>\n\t\t<bndbox>{tags}</bndbox>\n\t</object>\n")
    size = size or f"<width>{photo.width}</width><height>{photo.height}</height><depth>3</depth>"
    return (f"<annotation>\n\t<folder>images</folder>\n\t<filename>{photo.name}</filename>\n\t<source>{source}</source>\n"
            f"\t<size>{size}</size>\n\t<segmented>0</segmented>\n{objects}</annotation>\n")


def whole(x: float, y: float, w: float, h: float) -> tuple[int, int, int, int]:
    return round(x), round(y), round(x + w), round(y + h)


def labelimg(folder: Path) -> Path:
    """LabelImg 1.8.6: an xml beside each labelled image, whole numbers, never 0 (libs/labelFile.py, convert_points_to_bnd_box)."""
    for photo in PHOTOS:
        photo.write(folder / photo.split)
        if photo.boxes:
            xml = voc_xml(photo, lambda *box: tuple(max(value, 1) if index < 2 else value for index, value in enumerate(whole(*box))))
            put(folder / photo.split / f"{photo.stem}.xml", xml)
    put(folder / "train" / "classes.txt", "\n".join(CLASSES) + "\n")
    return folder


def voc2007(folder: Path) -> Path:
    """The layout of VOCdevkit: corners count from 1, both included; lists in ImageSets/Main."""
    source = "<database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation><image>flickr</image>"
    root = folder / "VOC2007"
    for photo in PHOTOS:
        photo.write(root / "JPEGImages")
        xml = voc_xml(photo, lambda x, y, w, h: (round(x) + 1, round(y) + 1, round(x + w), round(y + h)), source)
        put(root / "Annotations" / f"{photo.stem}.xml", xml)
    for split in ("train", "val"):
        put(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{photo.stem}\n" for photo in of_split(split)))
    put(root / "ImageSets" / "Main" / "trainval.txt", "".join(f"{photo.stem}\n" for photo in PHOTOS))
    return folder


def supervision_voc(folder: Path) -> Path:
    """supervision 0.31.2, `as_pascal_voc`: whole numbers, xmin and ymin count from 1."""
    for photo in PHOTOS:
        photo.write(folder / photo.split / "images")
        xml = voc_xml(photo, lambda x, y, w, h: whole(x + 1, y + 1, w - 1, h - 1), "<database>roboflow.ai</database>")
        put(folder / photo.split / "annotations" / f"{photo.stem}.xml", xml)
    return folder


def cvat_voc(folder: Path) -> Path:
    """CVAT's "PASCAL VOC 1.1" (datumaro's voc format): floats, labelmap.txt, sets by subset."""
    for photo in PHOTOS:
        photo.write(folder / "JPEGImages")
        put(folder / "Annotations" / f"{photo.stem}.xml", voc_xml(photo, lambda x, y, w, h: (x, y, x + w, y + h)))
    for split in ("train", "val"):
        put(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{photo.stem}\n" for photo in of_split(split)))
    put(folder / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\n" + "".join(f"{name}:1,2,3::\n" for name in CLASSES))
    return folder


# ---- COCO ------------------------------------------------------------------------------------------------------------


def coco(photos: Sequence[Photo], first: int = 1, prefix: str = "", group: bool = False, **more: Any) -> dict[str, Any]:
    """first: the first id of all three tables; prefix: before the names; more: keys of every annotation."""
    images = [{"id": id_, "license": 1, "file_name": prefix + photo.name, "height": photo.height, "width": photo.width}
              for id_, photo in enumerate(photos, first)]
    boxes = [(image["id"], number, box) for image, photo in zip(images, photos, strict=True) for number, box in photo.boxes]
    shift = 1 if group else first
    annotations = [{"id": id_, "image_id": image, "category_id": number + shift, "bbox": list(box), "area": box[2] * box[3],
                    "segmentation": [], "iscrowd": 0, **more} for id_, (image, number, box) in enumerate(boxes, first)]
    categories = [{"id": number + shift, "name": name, "supercategory": "animals" if group else ""} for number, name in enumerate(CLASSES)]
    if group:
        categories.insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
    return {"info": {}, "licenses": [{"id": 1, "name": "CC BY 4.0", "url": ""}], "categories": categories, "images": images,
            "annotations": annotations}


def coco2017(folder: Path) -> Path:
    """The layout of cocodataset.org, with files of the other tasks beside."""
    for split in ("train", "val"):
        for photo in of_split(split):
            photo.write(folder / f"{split}2017")
        content = json.dumps(coco(of_split(split)))
        put(folder / "annotations" / f"instances_{split}2017.json", content)
        put(folder / "annotations" / f"captions_{split}2017.json", content)
    return folder


def roboflow_coco(folder: Path) -> Path:
    """A COCO export of roboflow.com: a folder a split, ids from 0, a group as category 0."""
    for split, side in (("train", "train"), ("val", "valid")):
        for photo in of_split(split):
            photo.write(folder / side)
        put(folder / side / "_annotations.coco.json", json.dumps(coco(of_split(split), first=0, group=True)))
    return folder


def cvat_coco(folder: Path) -> Path:
    """CVAT's "COCO 1.0": annotations/instances_default.json, attributes, images beside."""
    for photo in PHOTOS:
        photo.write(folder / "images" / "default")
    put(folder / "annotations" / "instances_default.json", json.dumps(coco(PHOTOS, attributes={"occluded": False, "rotation": 0.0})))
    return folder


def label_studio_coco(folder: Path) -> Path:
    """label-studio-converter 0.0.59, `convert_to_coco`: result.json, ids from 0, names with backslashes from Windows."""
    for photo in PHOTOS:
        photo.write(folder / "images")
    put(folder / "result.json", json.dumps(coco(PHOTOS, first=0, prefix="images\\", ignore=0)))
    return folder


def labelme_coco(folder: Path) -> Path:
    """labelme's own labelme2coco.py: JPEGImages/, masks, `_background_` as class 0."""
    for photo in PHOTOS:
        photo.write(folder / "JPEGImages")
    content = coco(PHOTOS, prefix="JPEGImages/")
    for entry in content["annotations"]:
        x, y, w, h = entry.pop("bbox")
        entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        del entry["area"]
    content["categories"].insert(0, {"supercategory": None, "id": 0, "name": "_background_"})
    put(folder / "annotations.json", json.dumps(content))
    return folder


# ---- the others ------------------------------------------------------------------------------------------------------


def labelme(folder: Path) -> Path:
    """labelme 5.4: a json beside each image, rectangles from any corner, polygons; labels.txt as --labels gives it."""
    for photo in PHOTOS:
        photo.write(folder / photo.split)
        shapes = []
        for number, (x, y, w, h) in photo.boxes:
            points, form = [[x + w, y], [x, y + h]], "rectangle"
            if number == 2:
                points, form = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]], "polygon"
            shapes.append({"label": CLASSES[number], "points": points, "group_id": None, "description": "", "shape_type": form, "flags": {},
                           "mask": None})
        put(folder / photo.split / f"{photo.stem}.json", json.dumps({
            "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": photo.name, "imageData": None, "imageHeight": photo.height,
            "imageWidth": photo.width}, indent=2))
    put(folder / "labels.txt", "__ignore__\n_background_\n" + "\n".join(CLASSES) + "\n")
    return folder


VISDRONE_CLASSES = {"zebra": "car", "ant": "pedestrian", "moth": "bus"}


def visdrone(folder: Path) -> Path:
    """VisDrone2019-DET: left,top,width,height,score,category,truncation,occlusion; some lines end with a comma."""
    numbers = {"zebra": 4, "ant": 1, "moth": 9}
    for photo in PHOTOS:
        root = folder / f"VisDrone2019-DET-{photo.split}"
        photo.write(root / "images")
        boxes = [(numbers[CLASSES[number]], whole(*box)) for number, box in photo.boxes]
        rows = [f"{x1},{y1},{x2 - x1},{y2 - y1},1,{number},0,1," for number, (x1, y1, x2, y2) in boxes]
        put(root / "annotations" / f"{photo.stem}.txt", "\n".join(rows))
    return folder


def dota(folder: Path) -> Path:
    """DOTA v1.0: two lines of header, then four corners, category, difficult."""
    for photo in PHOTOS:
        photo.write(folder / photo.split / "images")
        rows = [f"{x} {y} {x + w} {y} {x + w} {y + h} {x} {y + h} {CLASSES[number]} 0" for number, (x, y, w, h) in photo.boxes]
        lines = ["imagesource:GoogleEarth", "gsd:0.146343590398", *rows]
        put(folder / photo.split / "labelTxt" / f"{photo.stem}.txt", "\n".join(lines) + "\n")
    return folder


MIDS = {"zebra": "/m/0898b", "ant": "/m/0_k2", "moth": "/m/0gqbt"}


def openimages(folder: Path) -> Path:
    """OpenImages V6: a csv a split, the whole list of classes, rows of images that were not downloaded."""
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
    for split, prefix in (("train", "oidv6-train"), ("val", "validation")):
        rows = "0000absent,xclick,/m/0898b,1,0.1,0.2,0.3,0.4,0,0,0,0,0\n"
        for photo in of_split(split):
            photo.write(folder / ("validation" if split == "val" else "train"))
            rows += "".join(f"{photo.stem},xclick,{MIDS[CLASSES[number]]},1,{x / photo.width:.6f},{(x + w) / photo.width:.6f},"
                            f"{y / photo.height:.6f},{(y + h) / photo.height:.6f},0,0,0,0,0\n" for number, (x, y, w, h) in photo.boxes)
        put(folder / f"{prefix}-annotations-bbox.csv", head + rows)
    put(folder / "class-descriptions-boxable.csv", "/m/011k07,Tortoise\n" + "".join(f"{mid},{name}\n" for name, mid in MIDS.items()))
    return folder


def tensorflow_csv(folder: Path) -> Path:
    """The csv of TensorFlow's object detection tutorials (xml_to_csv.py), and of Roboflow: corners and the size of the image."""
    for split in ("train", "val"):
        rows = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        for photo in of_split(split):
            photo.write(folder / split)
            rows += "".join(f"{photo.name},{photo.width},{photo.height},{CLASSES[number]},{','.join(map(str, whole(*box)))}\n"
                            for number, box in photo.boxes)
        put(folder / split / "_annotations.csv", rows)
    return folder


def deepforest_csv(folder: Path) -> Path:
    """DeepForest 1: image_path, corners, label; an image without trees has empty cells."""
    rows = "image_path,xmin,ymin,xmax,ymax,label\n"
    for photo in PHOTOS:
        photo.write(folder)
        rows += "".join(f"{photo.name},{x},{y},{x + w},{y + h},{CLASSES[number]}\n" for number, (x, y, w, h) in photo.boxes)
        rows += "" if photo.boxes else f"{photo.name},,,,,\n"
    put(folder / "labels.csv", rows)
    return folder
