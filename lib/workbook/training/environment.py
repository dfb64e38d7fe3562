"""What a run was made with: the machine, the versions, the state of the code. It goes into `run.json`."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from workbook.models.weights import sha256

PACKAGES = ("torch", "torchvision", "mmcv-full", "mmdet", "timm", "numpy", "hotcoco", "backbone-workbook")
CODE = Path(__file__).resolve().parents[2]  # lib/
ASPECTS = ("git_commit", "versions", "hardware", "settings", "files")


def versions() -> dict[str, str]:
    """Python and the packages that can move a figure."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def made_with(device: torch.device, precision: str, files: Sequence[Path]) -> dict[str, Any]:
    """All of `run.json` that, besides parameters and data, decides a run's bits: code, versions, machine, torch's settings, weights."""
    return {"git_commit": git_commit(), "versions": versions(), "hardware": hardware(device),
            "settings": {"precision": precision, **settings()}, "files": {str(file): sha256(file) for file in files}}


@dataclass(frozen=True)
class Change:
    """One value of `made_with` that two runs do not share; None where one of them lacks the key."""

    aspect: str  # git_commit, versions, hardware, settings or files
    key: str  # torch, cpu, precision ...; empty for git_commit
    before: Any
    after: Any

    def __str__(self) -> str:
        name = f"{self.aspect} {self.key}" if self.key else self.aspect
        return f"{name}: {self.before} → {self.after}"


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What of `made_with` is another in `after`. Memory is no part of it, nor an aspect that one of the records
    lacks."""
    found: list[Change] = []
    for aspect in ASPECTS:
        if before.get(aspect) is None or after.get(aspect) is None:
            continue
        one, two = (_by_key(record[aspect]) for record in (before, after))
        keys = [key for key in {**one, **two} if key != "memory_gb" and one.get(key) != two.get(key)]
        found += [Change(aspect, key, one.get(key), two.get(key)) for key in keys]
    return found


def _by_key(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"": value}


def settings() -> dict[str, Any]:
    """The switches of torch that move the last bits of a figure."""
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """The device that trains and the machine around it; memory in GB."""
    return {
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git_commit(code: Path = CODE) -> str | None:
    """The last commit that changed the code, with `+changes-` and a digest of what differs from it; None where git does not know it.

    Other files of the checkout (notebooks, studies, a README) do not move a figure, so their commits make no other code.
    """
    def git(*words: str) -> str:
        return subprocess.run(["git", *words, "--", "."], cwd=code, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        commit = git("log", "-1", "--format=%h", "--abbrev=12")
        changed = git("diff", "HEAD", "--no-ext-diff", "--binary")
    except (OSError, subprocess.SubprocessError):
        return None
    if not commit:
        return None
    return f"{commit}+changes-{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else commit


def peak_memory_mb(device: torch.device) -> float:
    """The most memory in use so far, in MB (2^20 bytes): of the GPU by torch's count, else of this process.

    Linux is asked for VmHWM: getrusage's figure is inherited from whatever process started this one (getrusage(2): kept over execve).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists() and (own := re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)):  # some sandboxes lack the line
        return int(own[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
