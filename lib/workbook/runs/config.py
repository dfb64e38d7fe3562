"""The config of a run folder, which may be somebody else's: written as plain values, and read, never run.

Light, for those who only look at a run.
"""

from __future__ import annotations

import ast
import importlib
import pprint
from pathlib import Path
from typing import Any

from mmcv import Config

from workbook.errors import RunError
from workbook.files import write_text

# The package was called `lib` until 2026-11: runs from before name their modules so.
FORMER = {f"lib.{name}": f"workbook.{name}" for name in ("data.mmdet_dataset", "models.roi_align", "models.timm_backbone")}


def write_config(path: Path, config: Config) -> None:
    """Write the whole config as assignments of literals. mmcv's own writer takes seconds (yapf), and writes calls."""
    values = config._cfg_dict.to_dict()
    write_text(path, "".join(f"{key} = {pprint.pformat(value, width=120, sort_dicts=False)}\n" for key, value in values.items()))


def read_config(path: Path) -> Config:
    """The `config.py` of a run folder, read as plain values: mmcv's own reader would run whatever stands in it.

    Raises RunError when it is missing, or holds anything but assignments of literals and modules of the workbook to import.
    """
    values: dict[str, Any] = {}
    try:
        for statement in ast.parse(path.read_text()).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                raise ValueError(f"line {statement.lineno} is no assignment")
            values[statement.targets[0].id] = ast.literal_eval(statement.value)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: the folder was changed by hand. Restore it, or delete the folder and train again") from None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise RunError(f"{path} is not as a run writes it: cut off, changed by hand, or with code, which is never run. Restore it, or "
                       "delete the run folder and train again") from None
    modules = [FORMER.get(module, module) for module in (values.get("custom_imports") or {}).get("imports", [])]
    if modules:
        values["custom_imports"] = {**values["custom_imports"], "imports": modules}
    if foreign := [module for module in modules if not module.startswith("workbook.")]:
        raise RunError(f"{path} asks to import {', '.join(foreign)}, which is not of the workbook: nothing in it is used. "
                       "Restore it, or delete the run folder and train again")
    if "data" not in values:
        raise RunError(f"{path} holds no `data`: it is cut off. Restore it, or delete the run folder and train again")
    for module in modules:
        importlib.import_module(module)
    return Config(values)
