"""Every object of a dataset as one table: how large it is, and how large training will see it."""

from __future__ import annotations

import pandas as pd

from workbook.data.catalog import Dataset
from workbook.data.reading import is_crowd
from workbook.evaluation.sizes import sizes_of

SMALLEST_ANCHOR = 32**2  # pixels²
REACH = ("left out: a side under 1 px before the resize", "under .3: never a positive",
         ".3 to .7: at best a weak match", ".7 or more: can be a positive")
COLUMNS = ("split", "image", "class", "area", "size", "side", "scale", "area_resized", "size_resized")


def objects(dataset: Dataset, image_size: tuple[int, int]) -> pd.DataFrame:
    """One row an object (crowds are none), before and after the resize that fits an image into `image_size`.

    Columns: split, image (file name), class, area (COCO's, pixels² of the original), size (small, medium or large),
    side (the box's shorter side in the original, pixels), scale (factor of the image), area_resized, size_resized.
    A `size` on a border is the smaller one, so that the sizes add up.
    """
    rows = []
    for split, content in (("train", dataset.train), ("val", dataset.val)):
        names = {category["id"]: category["name"] for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        for a in content["annotations"]:
            if is_crowd(a):
                continue
            image = images[a["image_id"]]
            width, height = resized_to(image["width"], image["height"], image_size)
            across, down = width / image["width"], height / image["height"]
            resized = a["area"] * across * down
            rows.append((split, image["file_name"], names[a["category_id"]], float(a["area"]), sizes_of(a["area"])[0],
                         min(a["bbox"][2:]), (across * down) ** 0.5, resized, sizes_of(resized)[0]))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    found.attrs["image_size"] = image_size
    return found


def resized_to(width: int, height: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels after the resize of training: as large as fits into `image_size`, the ratio kept.

    The arithmetic of mmcv's `rescale_size`, without the seconds that importing mmcv and torch takes. As there,
    `image_size` may lie across: its longer side bounds the image's longer side.
    """
    scale = min(max(image_size) / max(width, height), min(image_size) / min(width, height))
    return int(width * scale + 0.5), int(height * scale + 0.5)


def counts(dataset: Dataset) -> pd.DataFrame:
    """One row a split and a class, and one for `all`: images, objects, small, medium, large, crowds.

    `images` counts those with an object of the class, for `all` every image; `empty images` have no object at all.
    """
    found = objects(dataset, (1024, 1024))  # any size: only what is before the resize is counted
    rows = []
    for split, content in (("train", dataset.train), ("val", dataset.val)):
        of_split = found[found["split"] == split]
        crowds = [a["category_id"] for a in content["annotations"] if is_crowd(a)]
        ids = {category["name"]: category["id"] for category in content["categories"]}
        for name in dataset.classes:
            of_class = of_split[of_split["class"] == name]
            rows.append(_count(split, name, of_class, of_class["image"].nunique(), crowds.count(ids.get(name, -1))))
        images = len(content["images"])
        empty = images - of_split["image"].nunique()
        rows.append({**_count(split, "all", of_split, images, len(crowds)), "empty images": empty})
    return pd.DataFrame(rows).astype({"empty images": "Int64"}).set_index(["split", "class"])


def _count(split: str, name: str, found: pd.DataFrame, images: int, crowds: int) -> dict[str, object]:
    sizes = found["size"].value_counts()
    return {"split": split, "class": name, "images": images, "objects": len(found),
            **{size: int(sizes.get(size, 0)) for size in ("small", "medium", "large")}, "crowds": crowds}


def reach(found: pd.DataFrame) -> pd.DataFrame:
    """How many of the `objects` an anchor may match after the resize: one row a step; a column a split, and its share.

    A rule of thumb for mmdet's default anchors, before anything is trained: Faster R-CNN's smallest has 32² pixels
    (scale 8, stride 4). A box inside it reaches at most IoU = area / 32²; a positive needs .7, and below .3 not even
    the best anchor of an object counts. Other anchors, other detectors and objects off the anchors' grid differ:
    notebook 3 asks the assigner of the trained detector itself (`diagnosis.assignable`).
    """
    best_iou = (found["area_resized"] / SMALLEST_ANCHOR).where(found["side"] >= 1, -1.0)
    steps = pd.cut(best_iou, [-1, 0, 0.3, 0.7, float("inf")], right=False, labels=list(REACH)).astype(str)
    table = pd.crosstab(steps, found["split"]).reindex(index=list(REACH), columns=["train", "val"], fill_value=0)
    shares = (table / table.sum()).add_suffix(" share")
    return pd.concat([table, shares], axis=1).rename_axis(index="smallest anchor's best IoU", columns=None)
