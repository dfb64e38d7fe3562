"""Work_dirs of mmdet that cannot be adopted: what is wrong, and a part of what is said."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

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
        text = (work / "narrow.py").read_text()
        assert change(text) != text
        (work / "narrow.py").write_text(change(text))

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
    _row("a work_dir of mmdet 3", "is a work_dir of mmdet 3, whose configs are of another kind", _added("default_scope = 'mmdet'")),
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
]
