"""mmdet's CocoDataset with three promises that it does not make: label order, ground truth in validation, one parse of
a file. And images with small objects may come several times an epoch."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.datasets.builder import DATASETS

from workbook.data.images import LEAVES, LINKED, leaves_folder, linked_out
from workbook.data.reading import Coco, DataError, is_crowd, read_coco
from workbook.data.windows import Window
from workbook.evaluation.sizes import size_of


@DATASETS.register_module()
class OrderedCocoDataset(CocoDataset):
    """Label i is `classes[i]`. mmdet numbers the categories as the file happens to list them, so train and val could differ.

    small_repeats: how often an epoch shows each image with a small object (COCO's, by annotation area). `data_infos` lists every
    image once all the same; `len` and the index of an item count what an epoch shows.
    """

    def __init__(self, *arguments: Any, small_repeats: int = 1, **named: Any) -> None:
        super().__init__(*arguments, **named)
        times = [small_repeats if small_repeats > 1 and self._has_small(id_) else 1 for id_ in self.img_ids]
        self.shown = np.repeat(np.arange(len(times)), times)  # [items of an epoch], the place of each in data_infos

    def __len__(self) -> int:
        return len(self.shown) if hasattr(self, "shown") else len(self.data_infos)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return super().__getitem__(self.shown[index])

    def _has_small(self, image_id: int) -> bool:
        objects = (a for a in self.coco.imgToAnns[image_id] if not is_crowd(a))
        return any(size_of(a["area"]) == "small" for a in objects)

    def load_annotations(self, ann_file: str) -> list[dict[str, Any]]:
        """One dict an image, `filename` among its keys, from the tables that `read_coco` has parsed, which stay as
        they are."""
        self.coco = indexed(read_coco(Path(ann_file)))
        ids = {category["name"]: category["id"] for category in self.coco.dataset["categories"]}
        self.cat_ids = [ids[name] for name in self.CLASSES]
        self.cat2label = {category: label for label, category in enumerate(self.cat_ids)}
        self.img_ids = self.coco.get_img_ids()
        infos = [{**self.coco.imgs[id_], "filename": self.coco.imgs[id_]["file_name"]} for id_ in self.img_ids]
        require_inside(Path(self.img_prefix or ""), [info["filename"] for info in infos])
        return infos

    def with_truth(self, index: int) -> dict[str, Any]:
        """The image through the pipeline together with its ground truth, also in test mode where mmdet leaves it out."""
        return self.prepare_train_img(index)

    def shown_boxes(self, index: int) -> list[tuple[dict[str, Any], np.ndarray]]:
        """Each view of image `index` that training shows: its entry with the view's size, and its objects [n, 4], xyxy."""
        return [(self.data_infos[index], self.get_ann_info(index)["bboxes"])]

    def pre_pipeline(self, results: dict[str, Any]) -> None:
        """What mmdet adds for the pipeline, and the dataset itself, for a transform that shows more than one image."""
        super().pre_pipeline(results)
        results["dataset"] = self

    def windows(self, index: int) -> list[Window]:
        """The windows in which the image is tested beside its whole: none here, see tiles.WindowedValDataset."""
        return []

    def window_items(self, index: int) -> Iterator[tuple[Window, dict[str, Any]]]:
        """Each of these windows, and what the pipeline makes of it, without ground truth; one at a time, for there may be many."""
        return iter(())


def indexed(tables: Coco) -> COCO:
    """pycocotools' view of parsed tables. Raises DataError when annotations share an id: its index would lose one."""
    coco = COCO()
    coco.dataset = tables
    with contextlib.redirect_stdout(io.StringIO()):  # it announces every step
        coco.createIndex()
    coco.img_ann_map = coco.imgToAnns
    coco.cat_img_map = coco.catToImgs
    if len(coco.anns) < len(tables["annotations"]):
        raise DataError("annotations share an id, but each must have one of its own: `workbook check` names them")
    return coco


def require_inside(images_dir: Path, file_names: list[str]) -> None:
    """Raises DataError for the first name that leaves the folder: a val file may have come with a run, from somebody
    else."""
    for name in file_names:
        if leaves_folder(name):
            raise DataError(f"{name}: {LEAVES}")
    for name in sorted(linked_out(images_dir, file_names)):
        raise DataError(f"{name}: {LINKED}")


def resized_meta(dataset: OrderedCocoDataset, info: dict[str, Any]) -> dict[str, Any]:
    """`scale_factor`, `img_shape` and `pad_shape` that the dataset's Resize and Pad give to an image of this size."""
    shape = (info["height"], info["width"], 3)
    results = {"img": np.zeros(shape, np.uint8), "img_fields": ["img"], "bbox_fields": [], "img_shape": shape}
    results["pad_shape"] = results["img_shape"]
    for transform in dataset.pipeline.transforms:
        if type(transform).__name__ in ("Resize", "Pad"):
            results = transform(results)
    return {"scale_factor": np.ones(4, np.float32), **results}


def let_through(dataset: OrderedCocoDataset, index: int, annotations: list[dict[str, Any]]) -> np.ndarray:
    """[annotations] bool: mmdet's loader lets it through. Asked one by one, for it does not say which it leaves out."""
    info = dataset.data_infos[index]
    return np.array([len(dataset._parse_ann_info(info, [a])["bboxes"]) == 1 for a in annotations])
