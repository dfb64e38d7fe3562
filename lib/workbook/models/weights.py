"""Where pretrained weights come from, and the promise that a run never starts from random ones by accident.

Four kinds of source: a package that ships the file (offline), an official address, the Hugging Face hub (timm), or a path
the user gives. `find_weights` returns a file on this machine or raises `WeightsError` before anything trains.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import urllib.parse
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from workbook.errors import WorkbookError

SILENCE = 30  # seconds without an answer or another byte, after which an address counts as unreachable
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
    import urllib.request  # here, as the command line loads this module for its names alone
    from http.client import HTTPException

    from tqdm import tqdm

    from workbook.partial import partial_of

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial_of(path) as partial:
            with urllib.request.urlopen(address, timeout=SILENCE) as answer, open(partial, "wb") as file:
                promised = int(answer.headers.get("Content-Length") or 0)
                with tqdm.wrapattr(answer, "read", total=promised or None, desc=path.name, dynamic_ncols=True) as body:
                    shutil.copyfileobj(body, file)
            if promised and partial.stat().st_size != promised:  # urllib takes a broken connection for the end of the file
                raise OSError(f"the connection broke after {partial.stat().st_size:,} of {promised:,} bytes")
            path.with_name(path.name + ".sha256").write_text(sha256(partial))
            partial.replace(path)
    except (OSError, HTTPException) as error:  # URLError and HTTPError are OSErrors
        raise WeightsError(f"{path} is not there and {address} cannot be downloaded ({error}). {REMEDY}") from error


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
