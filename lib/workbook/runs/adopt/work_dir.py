"""What a training of mmdet 2 leaves in its work_dir: config, checkpoints and the log of every start (mmdet 2.28, tools/train.py).

    NAME.py   epoch_N.pth   latest.pth   best_bbox_mAP_epoch_N.pth   <time>.log.json
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbook.runs.adopt.errors import AdoptError, listed
from workbook.runs.adopt.literals import read_literals

NO_FIGURES = ("time", "data_time", "memory", "mode", "epoch", "iter", "bbox_mAP_copypaste")  # in a line of the log


@dataclass(frozen=True)
class WorkDir:
    """The files of one training that are adopted, read: nothing of them was run."""

    folder: Path
    checkpoint: Path
    config_file: Path | None  # None: the config is the text in the checkpoint
    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    classes: tuple[str, ...]
    epoch: int | None  # of the checkpoint, from 1
    notes: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.checkpoint, *([self.config_file] if self.config_file else []), *logs_of(self.folder))


def is_work_dir(path: Path) -> bool:
    """Whether the path is a checkpoint of mmdet, or a folder with one: its weights say more than a file of detections beside them."""
    if path.is_file():
        return path.suffix == ".pth"
    beside = ("*.log.json", "*.py", "epoch_*.pth", "best_*.pth", "latest.pth")
    return path.is_dir() and any(path.glob("*.pth")) and any(next(path.glob(pattern), None) for pattern in beside)


def read_work_dir(path: Path) -> WorkDir:
    """path: the work_dir, or a checkpoint in it. Raises AdoptError for files that are missing, doubtful, or code."""
    folder = path if path.is_dir() else path.parent
    checkpoint = _checkpoint(folder) if path.is_dir() else path
    content = _read(checkpoint)
    meta = content.get("meta") or {}
    config_file, text = _config(folder, checkpoint, meta)
    config = read_literals(text, str(config_file or f"the config in {checkpoint}"))
    _require_mmdet_2(config, folder)
    weights = {key.removeprefix("module."): value for key, value in content["state_dict"].items()}
    raw = [key for key in weights if key.startswith("ema_")]
    notes = [f"{checkpoint.name} was saved by an EMA: its averaged weights are taken"] if raw else []
    epoch = meta.get("epoch")
    return WorkDir(folder, checkpoint, config_file, config, {key: value for key, value in weights.items() if key not in raw},
                   _classes(meta, config, checkpoint), epoch if isinstance(epoch, int) else None, tuple(notes))


def _checkpoint(folder: Path) -> Path:
    """The best one, else the last one."""
    best = sorted(folder.glob("best_*.pth"))
    if len(best) > 1:
        raise AdoptError(f"{folder} holds {len(best)} best checkpoints: {listed(file.name for file in best)}. Give one of them as PATH")
    if best:
        return best[0]
    numbered = {int(found[1]): file for file in folder.glob("epoch_*.pth") if (found := re.fullmatch(r"epoch_(\d+)\.pth", file.name))}
    if numbered:
        return numbered[max(numbered)]
    if os.path.lexists(folder / "latest.pth"):
        return folder / "latest.pth"
    raise AdoptError(f"{folder} holds no checkpoint that mmdet would have written (best_*.pth, epoch_N.pth, latest.pth), only "
                     f"{listed(sorted(file.name for file in folder.glob('*.pth')))}. Give one of them as PATH")


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise AdoptError(f"{checkpoint} is missing, or a link to a file that is: give another checkpoint as PATH") from None
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())[:200]
        raise AdoptError(f"{checkpoint} holds more than tensors and plain values, which would run code: {reason}. Save it again with its "
                         "`state_dict` and `meta` alone") from None
    except (RuntimeError, EOFError, OSError) as error:
        raise AdoptError(f"{checkpoint} cannot be read ({type(error).__name__}: {str(error)[:100]}): was it cut off?") from None
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise AdoptError(f"{checkpoint} is no checkpoint of mmdet: it holds no `state_dict`")
    return content


def _config(folder: Path, checkpoint: Path, meta: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The config file of the folder, else the text that the checkpoint holds."""
    files = sorted(folder.glob("*.py"))
    named = [file for file in files if file.name == meta.get("exp_name")]
    if len(files) == 1 or named:
        file = (named or files)[0]
        return file, file.read_text(encoding="utf-8")
    if isinstance(meta.get("config"), str):
        return None, meta["config"]
    found = f"{len(files)} configs: {listed(file.name for file in files)}. Leave the one it was trained with" if files else (
        "no config, and the checkpoint has none either. Copy the config that it was trained with beside it")
    raise AdoptError(f"{folder} holds {found}: {checkpoint.name} alone does not say which model it is of")


def _require_mmdet_2(config: Mapping[str, Any], folder: Path) -> None:
    if "train_dataloader" in config or config.get("default_scope") == "mmdet":
        raise AdoptError(f"{folder} is a work_dir of mmdet 3, whose configs are of another kind and are not read here: write its "
                         "detections with test_evaluator.format_only=True and test_evaluator.outfile_prefix=results, and adopt "
                         "results.bbox.json")
    if lacking := [key for key in ("model", "data") if not isinstance(config.get(key), dict)]:
        inherits = " It inherits from others (_base_)." if "_base_" in config else ""
        raise AdoptError(f"the config in {folder} has no {' and no '.join(lacking)}.{inherits} Copy the whole config beside the "
                         "checkpoint: mmdet writes it into the work_dir, and tools/misc/print_config.py prints it")


def _classes(meta: Mapping[str, Any], config: Mapping[str, Any], checkpoint: Path) -> tuple[str, ...]:
    given = meta.get("CLASSES") or config.get("classes") or (config["data"].get("val") or {}).get("classes")
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if not names or not all(isinstance(name, str) for name in names):
        raise AdoptError(f"neither {checkpoint} (meta.CLASSES) nor its config (classes) names the classes, so nothing says which label is "
                         "which. Add `classes = ('...', ...)`, in the order of the training, to the config beside the checkpoint")
    return names


# ---- logs ------------------------------------------------------------------------------------------------------------


def logs_of(folder: Path) -> list[Path]:
    """In the order of their starts, which their names say."""
    return sorted(folder.glob("*.log.json"))


def joined_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of all starts as a run of the workbook logs them: of an epoch that was trained twice those of the later start.

    A figure of -1 (a size without objects) is None. mmdet rounds AP to four digits, and counts AP50, AP75 and the sizes with up to 1,000
    detections an image.
    """
    by_epoch: dict[int, list[dict[str, Any]]] = {}
    for path in logs_of(folder):
        lines = [line for line in _lines(path) if "epoch" in line]
        for epoch in dict.fromkeys(line["epoch"] for line in lines):
            by_epoch[epoch] = [line for line in lines if line["epoch"] == epoch]
    steps = max((line["iter"] for lines in by_epoch.values() for line in lines if line.get("mode") == "train"), default=0)
    return [_as_ours(line, steps) for epoch in sorted(by_epoch) for line in by_epoch[epoch]]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The last line of a broken-off start may be half a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except ValueError:
            if number == len(lines):
                return
            raise AdoptError(f"{path}, line {number} is no JSON: repair it, or move the file away") from None
        if isinstance(content, dict):
            yield content


def _as_ours(line: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """steps: of an epoch, as far as lines were logged."""
    is_train = line.get("mode") == "train"
    step = (line["epoch"] - 1) * steps + line["iter"] if is_train else line["epoch"] * steps
    figures: dict[str, Any] = {key: value for key, value in line.items() if key not in NO_FIGURES and isinstance(value, int | float)}
    if not is_train:
        figures = {key: None if key.startswith("bbox_") and value == -1 else value for key, value in figures.items() if key != "lr"}
    return {"mode": "train" if is_train else "val", "epoch": line["epoch"], "step": step, **figures}


def logged(lines: Sequence[Mapping[str, Any]], epoch: int | None) -> float | None:
    """The bbox_mAP that the log has for this epoch."""
    found = [line["bbox_mAP"] for line in lines if line["mode"] == "val" and line["epoch"] == epoch and line.get("bbox_mAP") is not None]
    return found[-1] if found else None
