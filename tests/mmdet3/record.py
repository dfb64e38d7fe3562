"""What mmdet 3.3.0 itself writes, for tests/mmdet3_work_dir.py. To be run where mmdet 3.3.0, mmengine 0.10 and mmcv 2.1 are installed:

    python tests/mmdet3/record.py DATASET FOLDER    DATASET: of tests/scenes.py with SCENES of mmdet3_work_dir; FOLDER: for what it writes
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import mmdet
from mmengine.config import Config
from mmengine.runner import Runner

sys.path.insert(0, str(Path(__file__).parents[1]))
from mmdet3_work_dir import CLASSES, weight  # noqa: E402

SHIPPED = Path(mmdet.__file__).parent / ".mim" / "configs"
SCALE = (151, 130)  # 128 x 96 becomes 151 x 113
BACKBONE = {"model.backbone.depth": 18, "model.backbone.base_channels": 8}
NARROW = {**BACKBONE, "model.neck.in_channels": [8, 16, 32, 64], "model.neck.out_channels": 32}
ROI = {**NARROW, "model.rpn_head.in_channels": 32, "model.rpn_head.feat_channels": 32,
       "model.roi_head.bbox_roi_extractor.out_channels": 32, "model.test_cfg.rpn.max_per_img": 50, "model.test_cfg.rcnn.max_per_img": 10}
DENSE = {**NARROW, "model.bbox_head.in_channels": 32, "model.bbox_head.feat_channels": 32, "model.test_cfg.max_per_img": 10}
QUERIES = {**BACKBONE, "model.num_queries": 20, "model.test_cfg.max_per_img": 10}
CODERS = {**QUERIES, "model.neck.out_channels": 32, "model.bbox_head.embed_dims": 32, "model.positional_encoding.num_feats": 16}
LEVELS = {"model.neck.in_channels": [16, 32, 64]}
CHOSEN: dict[str, tuple[str, dict[str, Any]]] = {
    "faster_rcnn": ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", ROI),
    "cascade_rcnn": ("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py", ROI),
    "retinanet": ("retinanet/retinanet_r50_fpn_1x_coco.py", DENSE),
    "vfnet": ("vfnet/vfnet_r50_fpn_1x_coco.py", DENSE),
    "detr": ("detr/detr_r50_8xb2-150e_coco.py", {**CODERS, "model.neck.in_channels": [64]}),
    "deformable_detr": ("deformable_detr/deformable-detr_r50_16xb2-50e_coco.py", {**CODERS, **LEVELS}),
    "deformable_detr_twostage": ("deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py", {**QUERIES, **LEVELS}),
}


def dicts(value: Any) -> list[Any]:
    own = [value] if isinstance(value, dict) else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return own + [found for item in inner for found in dicts(item)]


def narrow(name: str, data: Path) -> Config:
    """The shipped config, on the dataset, with few channels, layers and queries."""
    path, options = CHOSEN[name]
    config = Config.fromfile(str(SHIPPED / path))
    config.merge_from_dict(options)
    config.model.backbone.init_cfg = None
    for part in dicts(config.model):
        if "num_classes" in part:
            part["num_classes"] = len(CLASSES)
        if part.get("type") == "Shared2FCBBoxHead":
            part.update(in_channels=32, fc_out_channels=32)
        if "layer_cfg" in part:
            part["num_layers"] = 2
        if "embed_dims" in part and config.model.neck.out_channels == 32:
            part["embed_dims"] = 32
        if "feedforward_channels" in part:
            part["feedforward_channels"] = 48
    for side, split in (("train", "train"), ("val", "val"), ("test", "val")):
        loader = config[f"{side}_dataloader"]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(ann_file=f"{split}.json", data_root=str(data), data_prefix=dict(img="images/"),
                              metainfo=dict(classes=CLASSES))
        for step in loader.dataset.pipeline:
            if step.type == "Resize":
                step.scale = SCALE
        if side == "train":
            loader.dataset.pipeline = loader.dataset.pipeline[:2]  # the rest is long, and is not read
        else:
            config[f"{side}_evaluator"].ann_file = str(data / f"{split}.json")
    for key in [key for key in config if key.endswith("_pipeline")]:
        config.pop(key)
    return config


def record(name: str, data: Path, folder: Path) -> None:
    config = narrow(name, data)
    text = config.pretty_text.replace(str(data), "data/scenes")
    with tempfile.TemporaryDirectory() as work:
        config.work_dir, config.visualizer.name = work, name
        config.test_evaluator.outfile_prefix = f"{work}/found"
        runner = Runner.from_cfg(config)
        state = runner.model.state_dict()
        runner.model.load_state_dict({key: weight(key, tuple(value.shape)) for key, value in state.items()})
        runner.test()
        found = json.loads(Path(work, "found.bbox.json").read_text())
    for entry in found:
        entry["bbox"] = [round(number, 4) for number in entry["bbox"]]
        entry["score"] = round(entry["score"], 7)
    lines = [f"{key} {'x'.join(map(str, value.shape))}" for key, value in state.items()]
    (folder / f"{name}.weights.txt").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.config.txt").write_text(text)
    (folder / f"{name}.bbox.json").write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")


if __name__ == "__main__":
    for detector in CHOSEN:
        record(detector, Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
