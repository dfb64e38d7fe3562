"""Work_dirs of mmdet 3 without mmdet 3, from what mmdet 3.3.0 itself has written (tests/mmdet3/, by tests/mmdet3/record.py).

Real are, for each detector: the config as its tools/train.py dumps it, the names and shapes of all weights of the model that it builds
from that config, and the detections of its own test loop with the weights below on the val images of tests/scenes.py; and the lines of a
log. Made here are the numbers of the weights, from their names alone, the same there and here, and the file around them.
"""

from __future__ import annotations

import json
import math
import re
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

RECORDED = Path(__file__).parent / "mmdet3"
DETECTORS = ("faster_rcnn", "cascade_rcnn", "retinanet", "vfnet", "detr", "deformable_detr", "deformable_detr_twostage")
CLASSES = ("square", "bar")
LAST = re.compile(r"(cls|reg|reg\.\d|reg_branches\.\d\.4|cls_branches\.\d)\.weight$")  # layers whose outputs are scores and boxes
SCENES = {"train_images": 4, "val_images": 3}  # for scenes.make_dataset


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The numbers of a weight, from its name alone; such that scores and boxes differ from query to query, and from image to image."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)  # the same in every version of numpy
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        numbers = 1.0 + 0.1 * np.abs(draw)
    elif "embed" in name:
        numbers = draw
    elif name.endswith("weight") and len(shape) > 1:
        numbers = draw * (0.4 if LAST.search(name) else 1.0) / math.sqrt(math.prod(shape[1:]))
    else:
        numbers = 0.1 * draw
    return torch.from_numpy(np.asarray(numbers)).float()


def shapes(detector: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the weights that mmdet 3.3.0's model of this detector has."""
    lines = (RECORDED / f"{detector}.weights.txt").read_text().splitlines()
    parts = (line.split(" ") for line in lines)
    return {name: tuple(map(int, sides.split("x"))) if sides else () for name, sides in parts}


def detections(detector: str) -> list[dict[str, Any]]:
    """What mmdet 3.3.0 finds on val with these weights."""
    return json.loads((RECORDED / f"{detector}.bbox.json").read_text())


def log_lines() -> str:
    """`scalars.json` of a Faster R-CNN that mmdet 3.3.0 has trained for two epochs of three steps."""
    return (RECORDED / "scalars.json").read_text()


class HistoryBuffer:
    """In the place of mmengine's, which is pickled with its methods by getattr, an array and a number of numpy."""

    def current(self) -> float:
        return 0.0

    def __init__(self) -> None:
        self._log_history = np.array([0.5, 0.25])
        self._statistics_methods = {"current": self.current}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """With an object of mmengine beside the tensors, as its runner saves every checkpoint."""
    module = ModuleType("mmengine.logging.history_buffer")
    buffer = type("HistoryBuffer", (HistoryBuffer,), {"__module__": module.__name__})
    module.HistoryBuffer = buffer  # type: ignore[attr-defined]
    packages = {name: ModuleType(name) for name in ("mmengine", "mmengine.logging")}
    sys.modules.update({**packages, module.__name__: module})
    try:
        hub = {"log_scalars": {"train/loss": buffer()}, "runtime_info": {"eta": np.float64(0.0)}, "resumed_keys": {}}
        torch.save({**content, "message_hub": hub}, path)
    finally:
        for name in (*packages, module.__name__):
            del sys.modules[name]


def content(detector: str, **meta: Any) -> dict[str, Any]:
    """What a checkpoint holds, but for the `message_hub`."""
    known = {"epoch": 2, "iter": 6, "experiment_name": f"{detector}_20261126_143537", "mmengine_version": "0.10.7",
             "cfg": config(detector), "dataset_meta": {"classes": CLASSES, "palette": [(220, 20, 60), (119, 11, 32)]}, **meta}
    return {"meta": known, "state_dict": {name: weight(name, shape) for name, shape in shapes(detector).items()}}


def config(detector: str) -> str:
    return (RECORDED / f"{detector}.config.txt").read_text()


def write(folder: Path, detector: str, **meta: Any) -> Path:
    """A whole work_dir: config, one checkpoint, and the log of one start."""
    started = folder / "20261126_143537" / "vis_data"
    started.mkdir(parents=True)
    (folder / f"{detector}.py").write_text(config(detector))
    (started / "config.py").write_text(config(detector))
    (started / "scalars.json").write_text(log_lines())
    (started / "20261126_143537.json").write_text(log_lines())
    (folder / "last_checkpoint").write_text("work_dirs/theirs/epoch_2.pth")
    save_checkpoint(folder / "epoch_2.pth", content(detector, **meta))
    return folder
