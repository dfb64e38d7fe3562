"""Work_dirs of mmdet 2: one that its own tools/train.py leaves, and for any detector what its runner saves, with the config it dumps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mmdet
from mmcv import Config
from mmcv.runner import save_checkpoint
from mmdet.models import build_detector

from workbook.data.catalog import Dataset
from workbook.models.recipes import shipped_config

NARROW = {  # a Faster R-CNN with an eighth of the channels
    "model.backbone.depth": 18, "model.backbone.base_channels": 8, "model.neck.in_channels": [8, 16, 32, 64], "model.neck.out_channels": 32,
    "model.rpn_head.in_channels": 32, "model.rpn_head.feat_channels": 32, "model.roi_head.bbox_roi_extractor.out_channels": 32,
    "model.roi_head.bbox_head.in_channels": 32, "model.roi_head.bbox_head.fc_out_channels": 64, "model.train_cfg.rcnn.sampler.num": 64,
    "model.train_cfg.rpn_proposal.max_per_img": 200, "model.test_cfg.rpn.max_per_img": 100,
}


def own_config(shipped: str, dataset: Dataset, classes: tuple[str, ...], side: int, options: dict[str, Any]) -> Config:
    """A config of mmdet's wheel on this dataset, as a person writes one: test images of one size, no pretrained weights."""
    config = shipped_config(shipped)
    config.merge_from_dict(options)
    config.model.backbone.init_cfg = None
    for part in _dicts(config.model._to_dict() if hasattr(config.model, "_to_dict") else config.model):
        if "num_classes" in part:
            part["num_classes"] = len(classes)
    for name, split in (("train", "train"), ("val", "val"), ("test", "val")):
        config.data[name].update(ann_file=str(dataset.folder / f"{split}.json"), img_prefix=str(dataset.folder / "images"), classes=classes)
    for name in ("val", "test"):
        outer = config.data[name].pipeline[1]
        outer["img_scale"] = (side, side)
    config.data.samples_per_gpu, config.data.workers_per_gpu = 2, 0
    return config


def _dicts(value: Any) -> list[Any]:
    own = [value] if isinstance(value, dict) else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return own + [found for item in inner for found in _dicts(item)]


def train(config: Config, work_dir: Path, *more: str) -> None:
    """As a person trains with mmdet 2.28: its own program, in a process of its own, with this config."""
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    path = work_dir.parent / "narrow.py"
    config.dump(str(path))
    tool = Path(mmdet.__file__).parent / ".mim" / "tools" / "train.py"
    asked = [sys.executable, str(tool), str(path), "--work-dir", str(work_dir), "--seed", "0", *more]
    done = subprocess.run(asked, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]


def saved(config: Config, work_dir: Path, classes: tuple[str, ...], **meta: Any) -> Any:
    """The detector with random weights, saved as mmdet's runner saves one. Returns it, for its own detections."""
    work_dir.mkdir(parents=True)
    config.dump(str(work_dir / "theirs.py"))
    text = config.pretty_text
    model = build_detector(config.model)  # after the text, as tools/train.py does: heads put tensors into their configs
    model.CLASSES = classes
    model.init_weights()
    save_checkpoint(model, str(work_dir / "epoch_3.pth"), meta={"CLASSES": classes, "epoch": 3, "config": text, **meta})
    return model.eval()
