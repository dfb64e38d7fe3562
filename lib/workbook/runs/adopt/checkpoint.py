"""The checkpoint of an mmdet work_dir: which of several, and what it holds, read without running anything of it."""

from __future__ import annotations

import os
import pickle
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from workbook.models.state import objects_of, stand_ins
from workbook.runs.adopt.errors import AdoptError, listed


def best_or_last(folder: Path) -> Path:
    """The best one of a work_dir, else the last one. Raises AdoptError where there are several best ones, and for names of others."""
    best = sorted(folder.glob("best_*.pth"))
    if len(best) > 1:
        raise AdoptError(f"{folder} holds {len(best)} best checkpoints: {listed(file.name for file in best)}. Give one of them as PATH")
    if best:
        return best[0]
    if numbered := _numbered(folder, "epoch"):
        return numbered[max(numbered)]
    if (folder / "last_checkpoint").is_file() and (numbered := _numbered(folder, "iter")):
        return numbered[max(numbered)]  # of mmdet 3, where its config says whether it counts epochs
    if os.path.lexists(folder / "latest.pth"):
        return folder / "latest.pth"
    raise AdoptError(f"{folder} holds no checkpoint that mmdet would have written (best_*.pth, epoch_N.pth, latest.pth), only "
                     f"{listed(sorted(file.name for file in folder.glob('*.pth')))}. Give one of them as PATH")


def _numbered(folder: Path, unit: str) -> dict[int, Path]:
    names = ((re.fullmatch(rf"{unit}_(\d+)\.pth", file.name), file) for file in folder.glob(f"{unit}_*.pth"))
    return {int(found[1]): file for found, file in names if found}


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What it holds, tensors and plain values; what mmengine and numpy write beside them (`message_hub`) is empty.

    Raises AdoptError for files that are missing, cut off, of something else, or would run code.
    """
    objects: list[str] = []
    try:
        with suppress(ValueError):  # it is cut off, which torch says better
            objects = objects_of(checkpoint)
        with torch.serialization.safe_globals(stand_ins(objects)):
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise AdoptError(f"{checkpoint} is missing, or a link to a file that is: give another checkpoint as PATH") from None
    except pickle.UnpicklingError as error:
        foreign = sorted(set(objects) - {name for _, name in stand_ins(objects)})
        reason = listed(foreign) or " ".join(str(error).split())[:200]
        raise AdoptError(f"{checkpoint} holds more than tensors and plain values, which would run code: {reason}. Save it again with its "
                         "`state_dict` and `meta` alone") from None
    except (RuntimeError, EOFError, OSError) as error:
        raise AdoptError(f"{checkpoint} cannot be read ({type(error).__name__}: {str(error)[:100]}): was it cut off?") from None
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise AdoptError(f"{checkpoint} is no checkpoint of mmdet: it holds no `state_dict`")
    return content
