"""Where pretrained weights come from, and the promise that a run never starts from random ones by accident.

Four kinds of source: a package that ships the file (offline), an official address, the Hugging Face hub (timm), or a path
the user gives. `find_weights` returns a file on this machine or raises `WeightsError` before anything trains.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickletools
import re
import shlex
import shutil
import urllib.parse
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from workbook.errors import WorkbookError

if TYPE_CHECKING:  # loaded where a file is read: the registries need only names
    import torch

SILENCE = 30  # seconds without an answer or another byte, after which an address counts as unreachable
EXTRA = 1.1  # a file with more numbers than this share of the model's own is a larger model's
# What trainings write beside the tensors: objects of these packages are passed over. mmdet 3 writes an mmengine HistoryBuffer, with its
# methods by getattr; others numpy numbers, or the options that they were started with.
BESIDE = ("_codecs", "addict", "argparse", "collections", "datetime", "mmcv", "mmengine", "numpy", "omegaconf", "pathlib", "yacs")
BESIDE_BUILTINS = ("dict", "float", "getattr", "int", "list", "set", "str", "tuple")
DICTS = ("addict.addict.Dict", "collections.defaultdict", "mmcv.utils.config.ConfigDict", "yacs.config.CfgNode")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which trainings write the tensors
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning, before every name
REMEDY = (
    "Either put the file there by hand (copy it from a machine with network), pass its path as `pretrained=/path/to/file`, "
    "or train from random weights on purpose with `pretrained=none`."
)


class WeightsError(WorkbookError):
    """Pretrained weights cannot be had, are damaged, or belong to another model."""


@dataclass(frozen=True)
class Url:
    """A file at an official address. `sha256` may be a prefix (torchvision writes the first eight digits into the name)."""

    address: str
    sha256: str = ""

    def fetch(self) -> Path:
        """The cached file, downloaded when missing; its checksum is compared every time."""
        path = cache_folder() / Path(urllib.parse.urlparse(self.address).path).name
        if not path.exists():
            download(self.address, path)
        verify_checksum(path, self.sha256)
        return path


@dataclass(frozen=True)
class Package:
    """A weight file that an installed package carries."""

    module: str
    pattern: str = "**/*.pth"

    def fetch(self) -> Path:
        """The file inside the package. Raises WeightsError when the package is missing or has no such file."""
        spec = find_spec(self.module)
        folders = list(spec.submodule_search_locations or []) if spec else []
        files = sorted(file for folder in folders for file in Path(folder).glob(self.pattern))
        if len(files) != 1:
            raise WeightsError(f"the package {self.module} should carry one weight file and has {len(files)}: run `make setup`")
        return files[0]


@dataclass(frozen=True)
class Hub:
    """The weights that timm publishes for a model."""

    timm_name: str

    def fetch(self) -> Path:
        """The file in the Hugging Face cache (or torch's, for models with a plain address), downloaded when missing.

        Its checksum, which both publish with the file's name, is compared every time.
        """
        import timm
        from huggingface_hub import hf_hub_download

        source = timm.models.get_pretrained_cfg(self.timm_name)
        if source is None or not (source.hf_hub_id or source.url):
            raise WeightsError(f"timm publishes no weights for {self.timm_name}. {REMEDY}")
        if not source.hf_hub_id:
            noted = re.search(r"-([0-9a-f]{8,64})\.\w+$", str(source.url))  # torch's custom: the first digits of the sha256 in the name
            return Url(str(source.url), noted[1] if noted else "").fetch()
        try:
            path = Path(hf_hub_download(source.hf_hub_id, "model.safetensors"))
        except Exception as error:  # the hub raises many kinds; each means the same for the user
            raise WeightsError(
                f"the weights of {self.timm_name} are not in the local cache and {source.hf_hub_id} cannot be reached "
                f"({type(error).__name__}). {REMEDY}"
            ) from error
        blob = path.resolve().name  # the hub keeps a large file under its sha256
        verify_checksum(path, blob if re.fullmatch(r"[0-9a-f]{64}", blob) else "")
        return path


Source = Url | Package | Hub


def find_weights(pretrained: str, source: Source) -> Path | None:
    """The weight file for `pretrained`: `imagenet` (the backbone's own source), `none`, or a path.

    Returns None only when the user asked for `none`. Raises WeightsError otherwise, before training.
    """
    if pretrained == "none":
        return None
    if pretrained == "imagenet":
        return source.fetch()
    path = Path(pretrained).expanduser()
    if not path.is_file():
        raise WeightsError(f"pretrained={pretrained}: no such file. Allowed: imagenet, none, or the path of a weight file")
    return path


def cache_folder() -> Path:
    """torch's own cache of checkpoints, so that files other tools have fetched are found (`$TORCH_HOME` moves it)."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def download(address: str, path: Path) -> None:
    """Fetch into a temporary name, then rename; the sha256 is kept beside the file to notice later damage.

    Raises WeightsError when the address cannot be reached or the connection breaks before the last byte.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with urllib.request.urlopen(address, timeout=SILENCE) as answer, open(partial, "wb") as file:
            promised = int(answer.headers.get("Content-Length") or 0)
            with tqdm.wrapattr(answer, "read", total=promised or None, desc=path.name, dynamic_ncols=True) as body:
                shutil.copyfileobj(body, file)
        if promised and partial.stat().st_size != promised:  # urllib takes a broken connection for the end of the file
            raise OSError(f"the connection broke after {partial.stat().st_size:,} of {promised:,} bytes")
        path.with_name(path.name + ".sha256").write_text(sha256(partial))
        os.replace(partial, path)
    except (OSError, HTTPException) as error:  # URLError and HTTPError are OSErrors
        raise WeightsError(f"{path} is not there and {address} cannot be downloaded ({error}). {REMEDY}") from error
    finally:
        partial.unlink(missing_ok=True)


def verify_checksum(path: Path, expected: str) -> None:
    """Compare with the published checksum, else with the one noted at the download. Raises WeightsError on damage."""
    noted = path.with_name(path.name + ".sha256")
    expected = expected or (noted.read_text().strip() if noted.exists() else "")
    found = sha256(path)
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} is damaged: its sha256 begins {found[:16]}, expected {expected[:16]}. Delete the file and run again"
        )


def sha256(path: Path) -> str:
    """Hex sha256 of a file's contents, read once a process while its size, inode and times stay the same."""
    stat = path.stat()
    return _sha256(path, (stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=1000)
def _sha256(path: Path, stamp: tuple[int, int, int, int]) -> str:
    """`stamp` keeps the answer for an old file from being given for a new one."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        objects = _objects(path)
        if foreign := [name for name in objects if not _is_beside(name)]:
            more = f" and {len(foreign) - 3} more" if foreign[3:] else ""
            raise WeightsError(f"{path} cannot be read as weights: it holds {', '.join(foreign[:3])}{more}, and what is no tensor may be "
                               f"code, which is never run. {_advice(path)}")
        empty: list[Any] = [(_EmptyDict if name in DICTS else _Empty, name) for name in objects]
        with torch.serialization.safe_globals(empty):
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


def _objects(path: Path) -> list[str]:
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
