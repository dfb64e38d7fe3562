"""What a training of mmdet leaves in its work_dir: config, checkpoints and the log of every start.

    NAME.py   epoch_N.pth   latest.pth   best_bbox_mAP_epoch_N.pth        <time>.log.json                  mmdet 2.28, tools/train.py
    NAME.py   epoch_N.pth   last_checkpoint   best_coco_bbox_mAP_epoch_N.pth   <time>/vis_data/scalars.json   mmdet 3.3, mmengine 0.10

What mmdet 3 has in other words is turned into those of mmdet 2.28, which is what runs here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbook.runs.adopt.checkpoint import best_or_last, read_checkpoint
from workbook.runs.adopt.errors import DETECTIONS, AdoptError, listed
from workbook.runs.adopt.literals import WHOLE, read_literals
from workbook.runs.adopt.logs import logs_of
from workbook.runs.adopt.mmdet3_config import as_mmdet_2, classes_of, inherits, is_mmdet_3
from workbook.runs.adopt.mmdet3_detr import DETRS, as_mmdet_2_weights

MMDET_2, MMDET_3 = "mmdet 2", "mmdet 3"


@dataclass(frozen=True)
class WorkDir:
    """The files of one training that are adopted, read: nothing of them was run. Config and weights are in the words of mmdet 2.28."""

    folder: Path
    checkpoint: Path
    config_file: Path | None  # None: the config is the text in the checkpoint
    kind: str  # MMDET_2 or MMDET_3
    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    classes: tuple[str, ...]
    epoch: int | None  # of the checkpoint, from 1
    steps: int | None  # of an epoch, where the checkpoint says it
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.checkpoint, *([self.config_file] if self.config_file else []), *logs_of(self.folder))


def is_work_dir(path: Path) -> bool:
    """Whether the path is a checkpoint of mmdet, or a folder with one: its weights say more than a file of detections beside them."""
    if path.is_file():
        return path.suffix == ".pth"
    beside = ("*.log.json", "*/vis_data", "*.py", "epoch_*.pth", "best_*.pth", "latest.pth")
    return path.is_dir() and any(path.glob("*.pth")) and any(next(path.glob(pattern), None) for pattern in beside)


def read_work_dir(path: Path) -> WorkDir:
    """path: the work_dir, or a checkpoint in it. Raises AdoptError for files that are missing, doubtful, or code."""
    folder = path if path.is_dir() else path.parent
    checkpoint = best_or_last(folder) if path.is_dir() else path
    content = read_checkpoint(checkpoint)
    meta = content.get("meta") or {}
    config_file, text = _config(folder, checkpoint, meta)
    where = str(config_file or f"the config in {checkpoint}")
    config = read_literals(text, where)
    if is_mmdet_3(config):
        if line := inherits(text):
            raise AdoptError(f"{where}, line {line}: it inherits from other files (_base_), which are code and are never run here: {WHOLE}")
        config, weights, classes, notes = _of_mmdet_3(content, config, checkpoint, where)
        return WorkDir(folder, checkpoint, config_file, MMDET_3, config, weights, classes, _epoch(meta), _steps(meta), notes)
    _require_mmdet_2(config, folder)
    weights, notes = _averaged_2(_weights(content), checkpoint)
    return WorkDir(folder, checkpoint, config_file, MMDET_2, config, weights, _classes(meta, config, checkpoint), _epoch(meta), None, notes)


def _of_mmdet_3(
    content: Mapping[str, Any], config: Mapping[str, Any], checkpoint: Path, where: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor], tuple[str, ...], tuple[str, ...]]:
    """Config and weights in the words of mmdet 2.28, the classes, and notes. Of an EMA the plain weights are the averaged ones."""
    own = as_mmdet_2(config, where)
    _require_whole_epochs(checkpoint)
    # some files hold the colours too, which the config says as well (open-mmlab/mmdetection#11027)
    weights = {key: value for key, value in _weights(content).items() if not key.startswith("data_preprocessor.")}
    if own["model"]["type"] in DETRS:
        weights = as_mmdet_2_weights(weights, own["model"]["type"])
    notes = _averaged(checkpoint) if "ema_state_dict" in content else ()
    return own, weights, _classes_3(content.get("meta") or {}, config, checkpoint), notes


def _weights(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("module."): value for key, value in content["state_dict"].items()}


def _averaged_2(weights: Mapping[str, torch.Tensor], checkpoint: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """mmdet 2's EMA keeps the raw weights as `ema_...` among the averaged ones, with which it has swapped them (core/hook/ema.py)."""
    plain = {key: value for key, value in weights.items() if not key.startswith("ema_")}
    return plain, _averaged(checkpoint) if len(plain) < len(weights) else ()


def _averaged(checkpoint: Path) -> tuple[str, ...]:
    return (f"{checkpoint.name} was saved by an EMA: its averaged weights are taken",)


def _epoch(meta: Mapping[str, Any]) -> int | None:
    epoch = meta.get("epoch")
    return epoch if isinstance(epoch, int) else None


def _steps(meta: Mapping[str, Any]) -> int | None:
    """Of an epoch: mmengine counts `iter` from the start of the training."""
    done, epoch = meta.get("iter"), _epoch(meta)
    return done // epoch if epoch and isinstance(done, int) else None


def _config(folder: Path, checkpoint: Path, meta: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The config file of the folder, else the text that the checkpoint holds."""
    files = sorted(folder.glob("*.py"))
    started = re.sub(r"_\d{8}_\d{6}$", ".py", str(meta.get("experiment_name")))  # mmengine: the name of the config, and a time
    named = [file for file in files if file.name in (meta.get("exp_name"), started)]
    if len(files) == 1 or named:
        file = (named or files)[0]
        return file, file.read_text(encoding="utf-8")
    text = meta.get("config") or meta.get("cfg")
    if isinstance(text, str):
        return None, text
    found = f"{len(files)} configs: {listed(file.name for file in files)}. Leave the one it was trained with" if files else (
        "no config, and the checkpoint has none either. Copy the config that it was trained with beside it")
    raise AdoptError(f"{folder} holds {found}: {checkpoint.name} alone does not say which model it is of")


def _require_mmdet_2(config: Mapping[str, Any], folder: Path) -> None:
    if lacking := [key for key in ("model", "data") if not isinstance(config.get(key), dict)]:
        inherits = " It inherits from others (_base_)." if "_base_" in config else ""
        raise AdoptError(f"the config in {folder} has no {' and no '.join(lacking)}.{inherits} Copy the whole config beside the "
                         "checkpoint: mmdet writes it into the work_dir, and tools/misc/print_config.py prints it")


def _require_whole_epochs(checkpoint: Path) -> None:
    if checkpoint.stem.startswith("iter_"):
        raise AdoptError(f"{checkpoint} was saved within an epoch, and a run here counts epochs: give an epoch_N.pth or best_*.pth, or "
                         f"{DETECTIONS}")


def _classes(meta: Mapping[str, Any], config: Mapping[str, Any], checkpoint: Path) -> tuple[str, ...]:
    given = meta.get("CLASSES") or config.get("classes") or (config["data"].get("val") or {}).get("classes")
    return _named(given, f"neither {checkpoint} (meta.CLASSES) nor its config (classes) names", "classes = ('...', ...)")


def _classes_3(meta: Mapping[str, Any], config: Mapping[str, Any], checkpoint: Path) -> tuple[str, ...]:
    seen = meta.get("dataset_meta")
    seen = seen if isinstance(seen, dict) else {}
    given = seen.get("classes") or seen.get("CLASSES") or classes_of(config)
    return _named(given, f"neither {checkpoint} (meta.dataset_meta.classes) nor its config (val_dataloader.dataset.metainfo) names",
                  "metainfo = dict(classes=('...', ...))")


def _named(given: Any, who: str, line: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if not names or not all(isinstance(name, str) for name in names):
        raise AdoptError(f"{who} the classes, so nothing says which label is which. Add `{line}`, in the order of the training, to the "
                         "config beside the checkpoint")
    return names
