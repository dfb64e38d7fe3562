"""Work_dirs of mmdet that cannot be adopted: what is wrong, and a part of what is said."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

import mmdet3_work_dir
from bad_adoptions import OTHER_TOOLS, REFUSED, Row
from mmdet_work_dir import NARROW, own_config, saved
from scenes import make_dataset
from workbook.training.adopt import adopt_work_dir

CLASSES = ("dog", "cat")
Break = Callable[[Path], Any]


@cache
def _sound() -> tuple[str, str, dict[str, Any]]:
    """The config, and the checkpoint of epoch 3, of a narrow Faster R-CNN with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = own_config("faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py", make_dataset(root, "scenes"), CLASSES, 128, NARROW)
        saved(config, root / "work", CLASSES)
        text = (root / "work" / "theirs.py").read_text()
        return folder, text.replace(folder, "theirs"), torch.load(root / "work" / "epoch_3.pth", weights_only=True)


def _row(wrong: str, says: str, *breaks: Break) -> Row:
    def arrange(place: Any) -> None:
        _, text, content = _sound()
        work = place.root / "theirs"
        work.mkdir()
        (work / "narrow.py").write_text(text)
        torch.save(content, work / "epoch_3.pth")
        for break_it in breaks:
            break_it(work)

    return OTHER_TOOLS, wrong, lambda place: adopt_work_dir(place.root / "theirs", "pets"), says, REFUSED, arrange


def _config(change: Callable[[str], str]) -> Break:
    def write(work: Path) -> None:
        file = next(work.glob("*.py"))
        text = file.read_text()
        assert change(text) != text
        file.write_text(change(text))

    return write


def _replaced(old: str, new: str) -> Break:
    return _config(lambda text: text.replace(old, new))


def _added(line: str) -> Break:
    return _config(lambda text: f"{text}\n{line}\n")


def _checkpoint(change: Callable[[dict[str, Any]], Any]) -> Break:
    """change: the content → another one, or None when it has changed it in place."""
    def write(work: Path) -> None:
        content = torch.load(work / "epoch_3.pth", weights_only=True)
        torch.save(change(content) or content, work / "epoch_3.pth")

    return write


def _row_3(wrong: str, says: str, *breaks: Break, detector: str = "retinanet", path: str = "", **meta: Any) -> Row:
    """Of mmdet 3. path: a file of the work_dir that is asked for instead of the whole."""
    def arrange(place: Any) -> None:
        work = mmdet3_work_dir.write(place.root / "theirs", detector, **{"dataset_meta": {"classes": CLASSES}, **meta})
        for break_it in breaks:
            break_it(work)

    return OTHER_TOOLS, wrong, lambda place: adopt_work_dir(place.root / "theirs" / path, "pets"), says, REFUSED, arrange


def _checkpoint_3(change: Callable[[dict[str, Any]], Any]) -> Break:
    def write(work: Path) -> None:
        content = mmdet3_work_dir.content("retinanet", dataset_meta={"classes": CLASSES})
        change(content)
        mmdet3_work_dir.save_checkpoint(work / "epoch_2.pth", content)

    return write


def _as_iterations(work: Path) -> None:
    (work / "epoch_2.pth").rename(work / "iter_500.pth")


def _without(key: str) -> Break:
    return _checkpoint(lambda content: content["meta"].pop(key) and None)


def _cut(work: Path) -> None:
    whole = (work / "epoch_3.pth").read_bytes()
    (work / "epoch_3.pth").write_bytes(whole[:9999])


class _Code:
    def __reduce__(self) -> Any:
        return print, ("this is code",)


WORK_DIRS = [
    _row("an mmdet work_dir with two best checkpoints", "holds 2 best checkpoints: best_bbox_mAP_epoch_1.pth, best_bbox_mAP_epoch_2.pth",
         lambda work: [(work / f"best_bbox_mAP_epoch_{n}.pth").touch() for n in (1, 2)]),
    _row("an mmdet work_dir whose checkpoint was renamed", "only mine.pth. Give one of them as PATH",
         lambda work: (work / "epoch_3.pth").rename(work / "mine.pth")),
    _row("an mmdet work_dir whose latest.pth leads to nothing", "latest.pth is missing, or a link to a file that is",
         lambda work: (work / "epoch_3.pth").unlink(), lambda work: (work / "latest.pth").symlink_to("gone.pth")),
    _row("a checkpoint that would run code", "holds more than tensors and plain values, which would run code",
         _checkpoint(lambda content: content["meta"].update(hook=_Code()))),
    _row("half a checkpoint", "was it cut off?", _cut),
    _row("a checkpoint of something else", "is no checkpoint of mmdet: it holds no `state_dict`",
         _checkpoint(lambda content: {"model": {}})),
    _row("an mmdet work_dir with two configs", "holds 2 configs: a.py, narrow.py. Leave the one it was trained with",
         lambda work: (work / "a.py").write_text("a = 1"), _without("config")),
    _row("an mmdet work_dir without a config", "holds no config, and the checkpoint has none either",
         lambda work: (work / "narrow.py").unlink(), _without("config")),
    _row("a config with code", ": import os is code, which is never run here", _added("import os")),
    _row("a config with a call", ": open('y') is code, which is never run here", _added("x = dict(a=[open('y')])")),
    _row("a config that is cut off", "is no config in Python's notation", _added("x = ((")),
    _row("a config that inherits from others", "has no model and no data. It inherits from others (_base_)",
         _config(lambda text: "_base_ = ['../base.py']")),
    _row("a detector of other classes", "the detector has 3 classes (cat, dog, owl), and pets has 2",
         _checkpoint(lambda content: content["meta"].update(CLASSES=("cat", "dog", "owl")))),
    _row("a detector whose classes have no names", "names the classes, so nothing says which label is which", _without("CLASSES"),
         _config(lambda text: re.sub(r"classes=\([^)]*\),?", "", text))),
    _row("a config of another number of classes", "has num_classes [5], and 2 classes", _replaced("num_classes=2", "num_classes=5")),
    _row("a config of another backbone than the checkpoint", "is not of the model in", _replaced("depth=18", "depth=34")),
    _row("a model with a part of somebody's own", "cannot build the model", _replaced("type='FPN'", "type='MyFPN'")),
    _row("a config that tests in two sizes", "tests each image in the sizes [(128, 128), (64, 64)]",
         _replaced("img_scale=(128, 128)", "img_scale=[(128, 128), (64, 64)]")),
    _row("a config that tests flipped images too", "tests each image flipped too", _replaced("flip=False", "flip=True")),
    _row("a config that prepares images in its own way", "prepares test images with Mosaic, which is not known here",
         _replaced("type='Pad', size_divisor=32)", "type='Mosaic')")),
    _row("a log with half a line inside", "line 1 is no JSON: repair it",
         lambda work: (work / "1.log.json").write_text('{"mode\n{"epoch": 1}\n')),
    # of mmdet 3
    _row_3("an mmdet 3 work_dir with two best checkpoints", "holds 2 best checkpoints: best_coco_bbox_mAP_50_epoch_1.pth, best_coco_",
           lambda work: [(work / f"best_coco_bbox_{name}_epoch_1.pth").touch() for name in ("mAP", "mAP_50")]),
    _row_3("an mmdet 3 checkpoint that is a link to a missing file", "epoch_2.pth is missing, or a link to a file that is",
           lambda work: (work / "epoch_2.pth").unlink(), lambda work: (work / "epoch_2.pth").symlink_to("gone.pth")),
    _row_3("an mmdet 3 checkpoint that would run code", "holds more than tensors and plain values, which would run code",
           _checkpoint_3(lambda content: content["meta"].update(hook=_Code()))),
    _row_3("a training of mmdet 3 by iterations", "trains by iterations (train_cfg), and a run here counts epochs: write its detections",
           _as_iterations, _replaced("max_epochs=12, type='EpochBasedTrainLoop'", "max_iters=500, type='IterBasedTrainLoop'")),
    _row_3("an mmdet 3 checkpoint from within an epoch", "iter_500.pth was saved within an epoch", _as_iterations, path="iter_500.pth"),
    _row_3("an mmdet 3 config with code", ": lambda: 0 is code, which is never run here", _added("x = dict(a=lambda: 0)")),
    _row_3("an mmdet 3 config with imports", "line 1: from mmengine.config import read_base is code, which is never run here",
           _config(lambda text: f"from mmengine.config import read_base\n{text}")),
    _row_3("an mmdet 3 config that inherits from others", "line 1: it inherits from other files (_base_), which are code",
           _config(lambda text: f"_base_ = ['../base.py']\n{text}")),
    _row_3("an mmdet 3 config that is not whole", "has no val_dataloader: give the config that mmdet itself wrote",
           _replaced("val_dataloader", "my_dataloader")),
    _row_3("a detector of mmdet 3 that is not known here", "has a RTMDet, whose weights of mmdet 3 are not known to fit mmdet 2.28's. "
           "Known are FasterRCNN", _replaced("type='RetinaNet'", "type='RTMDet'")),
    _row_3("a backbone of mmpretrain in mmdet 3", "has parts of other packages (mmpretrain.ConvNeXt), which mmdet 2.28 has not",
           _replaced("type='ResNet'", "type='mmpretrain.ConvNeXt'")),
    _row_3("an mmdet 3 detector of other classes", "the detector has 3 classes (cat, dog, owl), and pets has 2",
           dataset_meta={"classes": ("cat", "dog", "owl")}),
    _row_3("an mmdet 3 detector whose classes have no names", "(val_dataloader.dataset.metainfo) names the classes, so nothing says",
           _config(lambda text: re.sub(r"classes=\([^)]*\)", "", text)), dataset_meta=None),
    _row_3("an mmdet 3 config of another backbone than the checkpoint", "is not of the model in", _replaced("depth=18", "depth=34")),
    _row_3("an mmdet 3 config that prepares images in its own way", "prepares val images with LetterResize (val_dataloader.dataset.",
           _replaced("type='Resize'", "type='LetterResize'")),
    _row_3("an mmdet 3 config that scales val images by a share", "does not resize val images to one size",
           _config(lambda text: re.sub(r"scale=\([^)]*\)", "scale_factor=0.5", text))),
    _row_3("an mmdet 3 config that decodes with another library", "decodes images with pillow (LoadImageFromFile), which gives other",
           _replaced("type='LoadImageFromFile'", "imdecode_backend='pillow', type='LoadImageFromFile'")),
    _row_3("an mmdet 3 config that changes images in its own way", "has MyDataPreprocessor as model.data_preprocessor",
           _replaced("type='DetDataPreprocessor'", "type='MyDataPreprocessor'")),
    _row_3("an mmdet 3 detector with another RPN", "has a FCOSHead as model.rpn_head, and RPNHead alone is known here",
           _replaced("type='RPNHead'", "type='FCOSHead'"), detector="faster_rcnn"),
    _row_3("an mmdet 3 detector of masks", "has a model.roi_head.mask_head, and a run here is of boxes alone",
           _replaced("    roi_head=dict(", "    roi_head=dict(mask_head=dict(type='FCNMaskHead'),"), detector="cascade_rcnn"),
    _row_3("a DETR of mmdet 3 without its neck's one layer", "whose model.neck is not one 1x1 convolution without norm and activation",
           _replaced("kernel_size=1", "kernel_size=3"), detector="detr"),
    _row_3("a DETR of mmdet 3 that matches in its own way", "matches queries by ClassificationCost, BBoxL1Cost, DiceCost",
           _replaced("type='IoUCost'", "type='DiceCost'"), detector="detr"),
    _row_3("a DETR of mmdet 3.0's first releases", "has no model.encoder, which the DETR of mmdet 3.0 to 3.3 has",
           _replaced("    encoder=dict(", "    encoder_cfg=dict("), detector="detr"),
    _row_3("a log of mmdet 3 with half a line inside", "line 1 is no JSON: repair it",
           lambda work: next(work.glob("*/vis_data/scalars.json")).write_text('{"lr\n{"epoch": 1}\n')),
]
