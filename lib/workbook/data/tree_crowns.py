"""The embedded dataset: tree crowns in four real aerial photos that the `deepforest` package carries, cut into tiles.

Photos and boxes: the National Ecological Observatory Network's airborne camera (10 cm a pixel), boxes by the authors of
Weinstein, Marconi, Bohlman, Zare and White 2019, "Individual tree-crown detection in RGB imagery using semi-supervised
deep learning neural networks", Remote Sensing 11(11).

The split is by place: every photo is wholly train or wholly val, so no val tile has a neighbour in train. Yellowstone
gives both (two places 13 km apart); the single tiles of OSBS (Florida) and SOAP (California) go one to each side.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import PIL.Image

from workbook.data.reading import DataError
from workbook.files import write_json
from workbook.partial import partial_of

TILE = 400  # pixels
NARROWEST = TILE // 2  # what is left at a photo's right or lower edge becomes a tile when it is this wide, else nothing
MOST_HIDDEN = 0.5  # a crown that a cut hides this much of is no object to find, but a crowd, which excuses detections
# place → (file in the package, split)
PHOTOS = {
    "yellowstone_528000_4978000": ("2019_YELL_2_528000_4978000_image_crop2.png", "train"),
    "yellowstone_541000_4977000": ("2019_YELL_2_541000_4977000_image_crop.png", "val"),
    "osbs_029": ("OSBS_029.png", "train"),
    "soap_061": ("SOAP_061.png", "val"),
}
INFO = {
    "description": "Tree crowns in aerial photos, tiles of 400 px; one class, the package's Tree, Alive and Dead",
    "source": "the files of the deepforest package (MIT licence), photos by NEON",
}


def prepare(folder: Path) -> None:
    """Write train.json, val.json and images/ into `folder`: first under a temporary name, then renamed.

    Raises DataError when the package is not installed or the folder cannot be written.
    """
    source = photos_folder()
    try:
        with partial_of(folder) as partial:
            (partial / "images").mkdir(parents=True)
            for split in ("train", "val"):
                write_json(partial / f"{split}.json", _cut_all(source, split, partial / "images"))
            partial.rename(folder)
    except OSError as error:
        raise DataError(f"cannot write the embedded dataset to {folder}: {error.strerror}. "
                        "Make it writable, or set WORKBOOK_DATA to another folder") from error


def photos_folder() -> Path:
    """Where the package keeps its photos. It is found, not imported: its own dependencies are not installed."""
    found = importlib.util.find_spec("deepforest")
    folders = [Path(place) / "data" for place in (found.submodule_search_locations or [])] if found else []
    for folder in folders:
        if all((folder / name).is_file() for name, _ in PHOTOS.values()):
            return folder
    raise DataError("the photos of tree_crowns come with the package deepforest==2.1.0, which is not installed "
                    "(or lacks them): run `make setup`")


def _cut_all(source: Path, split: str, images_dir: Path) -> dict[str, Any]:
    """The COCO content of one split; its tiles are written to `images_dir`."""
    coco: dict[str, Any] = {"info": INFO, "images": [], "annotations": [], "categories": [{"id": 1, "name": "tree"}]}
    for place, (name, of_split) in PHOTOS.items():
        if of_split != split:
            continue
        boxes_xyxy = _read_boxes((source / name).with_suffix(".xml"))
        with PIL.Image.open(source / name) as photo:
            pixels = np.asarray(photo.convert("RGB"))  # [height, width, 3]
        for left, top, right, bottom in _tiles(pixels.shape[1], pixels.shape[0]):
            file_name = f"{place}_{left:04d}_{top:04d}.png"
            PIL.Image.fromarray(pixels[top:bottom, left:right]).save(images_dir / file_name)
            image_id = len(coco["images"]) + 1
            coco["images"].append({"id": image_id, "file_name": file_name, "width": right - left,
                                   "height": bottom - top, "place": place})
            coco["annotations"] += [
                {"id": number, "image_id": image_id, "category_id": 1, **crown} for number, crown in
                enumerate(_crowns(boxes_xyxy, np.array([left, top, right, bottom])), len(coco["annotations"]) + 1)]
    return coco


def _read_boxes(path: Path) -> np.ndarray:
    """[n, 4] corners in pixels, from 0 to the photo's width and height.

    The files count pixels from 1, both ends included, as VOC does: crowns at a border have 1 there, and the width.
    """
    boxes = ElementTree.parse(path).getroot().iter("bndbox")
    corners = [[float(str(box.findtext(key))) for key in ("xmin", "ymin", "xmax", "ymax")] for box in boxes]
    return np.array(corners) - [1, 1, 0, 0]


def _tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """left, top, right, bottom of each tile, row by row; tiles do not overlap, so that no crown is counted twice."""
    lefts, tops = (range(0, length - NARROWEST + 1, TILE) for length in (width, height))
    return [(left, top, min(left + TILE, width), min(top + TILE, height)) for top in tops for left in lefts]


def _crowns(boxes_xyxy: np.ndarray, tile_xyxy: np.ndarray) -> Iterator[dict[str, Any]]:
    """`bbox`, `area` and `iscrowd` of the crowns that the tile shows, clipped to it and in its own coordinates."""
    low = np.maximum(boxes_xyxy[:, :2], tile_xyxy[:2])
    high = np.minimum(boxes_xyxy[:, 2:], tile_xyxy[2:])
    sides = high - low  # [n, 2]; negative where a crown is outside
    whole = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    for number in np.flatnonzero((sides >= 1).all(axis=1)):
        area = float(sides[number].prod())
        yield {"bbox": [*(low[number] - tile_xyxy[:2]).tolist(), *sides[number].tolist()], "area": area,
               "iscrowd": int(area <= (1 - MOST_HIDDEN) * whole[number])}
