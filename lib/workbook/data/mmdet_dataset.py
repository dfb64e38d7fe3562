"""mmdet's CocoDataset with two promises it does not keep: labels follow our class order, and validation sees the truth."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.builder import DATASETS

from workbook.data.images import image_path


@DATASETS.register_module()
class OrderedCocoDataset(CocoDataset):
    """Label i is `classes[i]`. mmdet numbers the categories as the file happens to list them, so train and val could differ."""

    def load_annotations(self, ann_file: str) -> list[dict[str, Any]]:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of every step
            infos = super().load_annotations(ann_file)
        for info in infos:  # a run's val file may have come with the run, from somebody else
            image_path(Path(self.img_prefix or ""), info["filename"])
        ids = {category["name"]: category["id"] for category in self.coco.dataset["categories"]}
        self.cat_ids = [ids[name] for name in self.CLASSES]
        self.cat2label = {category: label for label, category in enumerate(self.cat_ids)}
        return infos

    def with_truth(self, index: int) -> dict[str, Any]:
        """The image through the pipeline together with its ground truth, also in test mode where mmdet leaves it out."""
        return self.prepare_train_img(index)
