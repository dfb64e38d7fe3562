"""What training uses of a train.json: mmdet's rules, without building its dataset.

mmdet 2.28, datasets/coco.py: CocoDataset._filter_imgs for images, _parse_ann_info for boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from workbook.data.reading import SMALLEST_SIDE, Annotation, Coco, Image, is_crowd

LEFT_OUT, USED = "left_out", "used"  # what becomes of the train images without objects
EMPTY_IMAGES = (LEFT_OUT, USED)
SMALLEST_BOX = 1  # pixels a side


def trainable_images(coco: Coco, empty_images: str = LEFT_OUT) -> list[int]:
    """Ids of the images that training uses: no side under 32 pixels, and with an annotation of a class, where a crowd counts.

    With empty_images=used those without one, too.
    """
    with_objects = _annotated(coco)
    return [image["id"] for image in coco["images"]
            if _is_large(image) and (empty_images == USED or image["id"] in with_objects)]


def images_without_objects(coco: Coco) -> list[int]:
    """Ids of the images without an annotation that are large enough to be trained on."""
    with_objects = _annotated(coco)
    return [image["id"] for image in coco["images"] if _is_large(image) and image["id"] not in with_objects]


def small_images(coco: Coco) -> list[int]:
    """Ids of the images that training leaves out for their size."""
    return [image["id"] for image in coco["images"] if not _is_large(image)]


def left_out_words(coco: Coco, empty_images: str) -> str:
    """How many images training does not use, and why; empty where it uses all."""
    empty = images_without_objects(coco) if empty_images == LEFT_OUT else []
    counted = {
        f"without objects (empty_images={USED} learns from them what is background)": len(empty),
        f"under {SMALLEST_SIDE} px a side": len(small_images(coco)),
    }
    reasons = [f"{count} {reason}" for reason, count in counted.items() if count]
    return f"left out of {len(coco['images'])} train images: {', '.join(reasons)}" if reasons else ""


def objects_by_hindrance(coco: Coco) -> Counter[str]:
    """What keeps training from learning of an object (no crowds) → how many; under "" those that it learns from."""
    small = set(small_images(coco))
    return Counter([_hindrance(a, small) for a in coco["annotations"] if not is_crowd(a)])


def _annotated(coco: Coco) -> set[int]:
    classes = {category["id"] for category in coco["categories"]}
    return {a["image_id"] for a in coco["annotations"] if a["category_id"] in classes}


def _is_large(image: Image) -> bool:
    return min(image["width"], image["height"]) >= SMALLEST_SIDE


def _hindrance(annotation: Annotation, small: Collection[int]) -> str:
    """small: ids of the images that are left out for their size."""
    if annotation["image_id"] in small:
        return f"lie in images under {SMALLEST_SIDE} px a side"
    if annotation.get("ignore"):
        return "are marked `ignore`"
    if annotation["bbox"][2] < SMALLEST_BOX or annotation["bbox"][3] < SMALLEST_BOX:
        return f"have a side under {SMALLEST_BOX} px"
    return ""
