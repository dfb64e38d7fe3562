"""What a diagnosis is made from: the files, the versions and the code that it depends on, told by their hashes."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmcv import Config

import workbook
from workbook.data.images import image_files
from workbook.data.reading import read_coco
from workbook.errors import RunError
from workbook.models.device import has_bf16
from workbook.models.weights import sha256
from workbook.runs.folder import Run, has_detections_alone
from workbook.training.environment import versions

# What computes a diagnosis: rooms, and single modules, of the package.
CODE = (
    "diagnosis", "evaluation", "models", "data/mmdet_dataset.py", "data/windows.py", "data/tiles.py", "data/decoded.py",
    "training/loader.py",
)


@dataclass(frozen=True)
class MadeFrom:
    """Everything that a diagnosis depends on, taken before it is made. The files are told by their sha256."""

    iou: float
    device: str
    precision: str
    versions: dict[str, str]
    code: str
    checkpoint: str  # empty where only detections are at hand
    predictions: str
    val: str
    train: str
    pictures: str

    @property
    def fingerprint(self) -> str:
        """All of it in 16 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MadeFrom:
        """What `to_json` gave. Raises KeyError for a field that is missing."""
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        """Its fields and the fingerprint."""
        return {**asdict(self), "fingerprint": self.fingerprint}

    def changed(self, other: MadeFrom) -> list[str]:
        """The fields, except where it was computed, in which `other` differs."""
        mine, theirs = asdict(self), asdict(other)
        return [name for name in mine if name not in ("device", "precision") and mine[name] != theirs[name]]


def take_fingerprint(run: Run, config: Config, iou: float, device: torch.device) -> MadeFrom:
    """What a diagnosis made now would be made from. Raises RunError for a file that is missing."""
    trained_in = (run.record.get("settings") or {}).get("precision", "fp32")
    files = {
        "predictions": run.folder / "predictions.json", "val": Path(config.data.val.ann_file), "train": Path(config.data.train.ann_file),
    }
    checkpoint = "" if has_detections_alone(run) else _hash(run.best_checkpoint)
    return MadeFrom(
        iou=float(iou), device=str(device), precision=trained_in if has_bf16(device) else "fp32", versions=versions(),
        code=_code(), checkpoint=checkpoint, **{name: _hash(path) for name, path in files.items()}, pictures=_pictures(config),
    )


def _pictures(config: Config) -> str:
    """The images of val by name and content, as 16 hex digits."""
    names = sorted(str(image["file_name"]) for image in read_coco(Path(config.data.val.ann_file))["images"])
    files = image_files(Path(config.data.val.img_prefix), names)
    return hashlib.sha256(json.dumps([[name, file.sha256] for name, file in files.items()]).encode()).hexdigest()[:16]


@cache
def _code() -> str:
    """The code that computes a diagnosis, as 16 hex: its statements, without comments and docstrings."""
    package = Path(workbook.__file__).parent
    digest = hashlib.sha256()
    for name in CODE:
        path = package / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(statements(source.read_text()).encode())
    return digest.hexdigest()[:16]


def statements(source: str) -> str:
    """What the code does, as text: comments, blank lines and docstrings are gone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _hash(path: Path) -> str:
    if not path.is_file():
        raise RunError(f"{path} is missing: the run or its dataset was moved or changed by hand. Put it back, or delete the run "
                       "folder and train again")
    return sha256(path)[:16]
