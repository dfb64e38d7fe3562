"""The tensors of a weight file, read without running anything that is in it, under the names that a model has for them."""

from __future__ import annotations

import json
import pickletools
import shlex
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbook.models.weights import WeightsError

if TYPE_CHECKING:  # loaded where a file is read
    import torch

EXTRA = 1.1  # a file with more numbers than this share of the model's own is a larger model's
# What trainings write beside the tensors: objects of these packages are passed over. mmdet 3 writes an mmengine HistoryBuffer, with its
# methods by getattr; others numpy numbers, or the options that they were started with.
BESIDE = ("_codecs", "addict", "argparse", "collections", "datetime", "mmcv", "mmengine", "numpy", "omegaconf", "pathlib", "yacs")
BESIDE_BUILTINS = ("dict", "float", "getattr", "int", "list", "set", "str", "tuple")
DICTS = ("addict.addict.Dict", "collections.defaultdict", "mmcv.utils.config.ConfigDict", "yacs.config.CfgNode")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which trainings write the tensors
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning, before every name


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file (.safetensors, or a torch file read without running code), out of any wrapper, their
    names without what data-parallel trainings, torch.compile and Lightning put before each.

    What a training wrote beside them is passed over. Raises WeightsError when the file cannot be read, holds objects of
    another kind, or holds no tensors.
    """
    import torch

    content = _content(path)
    for wrapper in WRAPPERS:
        content = content.get(wrapper, content) if isinstance(content, dict) else content
    entries = content if isinstance(content, dict) else {}
    state = {str(name): value for name, value in entries.items() if isinstance(value, torch.Tensor)}
    if not state:
        found = f"it has: {', '.join(map(str, list(entries)[:10]))}" if entries else f"it holds a {type(content).__name__}"
        raise WeightsError(f"{path} holds no tensors by name; {found}. Write the state_dict of the model with torch.save")
    return without_prefixes(state)


def without_prefixes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, their names without the prefixes that all of them have."""
    plain = dict(state)
    while common := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in plain)]:
        plain = {name.removeprefix(common[0]): value for name, value in plain.items()}
    return plain


def backbone_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a detector's or a classifier's tensors those of its `backbone.`, under the backbone's own names; else all of
    them."""
    own = {name: value for name, value in state.items() if name.startswith("backbone.")}
    return {name.removeprefix("backbone."): value for name, value in own.items()} or dict(state)


def _content(path: Path) -> Any:
    """Everything in the file; what is known to be no tensor is empty."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        objects = objects_of(path)
        if foreign := [name for name in objects if not _is_beside(name)]:
            more = f" and {len(foreign) - 3} more" if foreign[3:] else ""
            raise WeightsError(f"{path} cannot be read as weights: it holds {', '.join(foreign[:3])}{more}, and what is no tensor may be "
                               f"code, which is never run. {_advice(path)}")
        with torch.serialization.safe_globals(stand_ins(objects)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights ({type(error).__name__}): it is damaged, or not what torch.save or "
                           "safetensors write. Copy or download it again") from error


class _Empty:
    """Stands for an object of the file: it takes what would make that object, and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _EmptyDict:
    """As `_Empty`, for a kind of dict: torch fills no other than a plain one."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def stand_ins(objects: Iterable[str]) -> list[Any]:
    """For torch.serialization.safe_globals: of these full names those that trainings write beside tensors, each as something empty."""
    return [(_EmptyDict if name in DICTS else _Empty, name) for name in objects if _is_beside(name)]


def objects_of(path: Path) -> list[str]:
    """Full names of the classes and functions in a torch file that torch itself does not read, without reading them."""
    import torch

    if zipfile.is_zipfile(path):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    names = set()
    with open(path, "rb") as file:
        for _ in range(4):  # torch's former format: a number, a version, the machine, the content
            names |= {str(argument) for code, argument, _ in pickletools.genops(file) if code.name == "GLOBAL"}
    full = {name.replace("__builtin__ ", "builtins ").replace(" ", ".") for name in names}
    return sorted(name for name in full if not name.startswith("torch.") and name != "collections.OrderedDict")


def _is_beside(name: str) -> bool:
    package, _, rest = name.partition(".")
    return package in BESIDE or (package in ("builtins", "__builtin__") and rest in BESIDE_BUILTINS)


def _advice(path: Path) -> str:
    """How to write the tensors alone: a command for a shell."""
    target = path.with_name(f"{path.stem}-tensors.pth")
    code = (f"import torch; c = torch.load({json.dumps(str(path))}, \"cpu\", weights_only=False); "
            "c = c.get(\"state_dict\", c.get(\"model\", c)) if isinstance(c, dict) else c; "
            "c = c.state_dict() if hasattr(c, \"state_dict\") else c; "
            f"torch.save({{k: v for k, v in c.items() if torch.is_tensor(v)}}, {json.dumps(str(target))})")
    return (f"If you trust its author, write the tensors alone where the file was made, for this runs its code: "
            f"python -c {shlex.quote(code)} and give {target}")


def count_numbers(state: Mapping[str, Any], without: Collection[str] = ()) -> int:
    """How many floating-point numbers the tensors hold, those of the layers named in `without` (classifiers) left out."""
    import torch

    tensors = (value for name, value in state.items() if name.rpartition(".")[0] not in without)
    return sum(value.numel() for value in tensors if isinstance(value, torch.Tensor) and value.is_floating_point())
