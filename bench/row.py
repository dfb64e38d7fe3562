"""What every row of the bench is made of: medians with their spread, stock and ours in turn, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from workbook.models.device import has_bf16
from workbook.training.environment import hardware


@dataclass(frozen=True)
class Timing:
    """Seconds of the same work, several times."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        digits = 1 if self.median >= 10 else 2 if self.median >= 1 else 3
        return f"{self.median:.{digits}f} s ({min(self.seconds):.{digits}f} to {max(self.seconds):.{digits}f})"


@dataclass(frozen=True)
class Row:
    """One line of the table. `figure` is what the target speaks of; `met` is None where the target is only to be stated."""

    key: str
    work: str
    stock: str
    ours: str
    figure: str
    target: str
    met: bool | None
    seconds: dict[str, tuple[float, ...]]


def ratio_row(key: str, work: str, stock: Timing, ours: Timing, target: float) -> Row:
    """Stock over ours, by the medians."""
    ratio = stock.median / ours.median
    return Row(key, work, str(stock), str(ours), f"{ratio:.2f} times", f">= {target}", ratio >= target,
               {"stock": stock.seconds, "ours": ours.seconds})


def in_turn(first: Callable[[], Any], second: Callable[[], Any], rounds: int, warm: bool = True) -> tuple[Timing, Timing]:
    """Both works one after the other, `rounds` times, so that what the machine does meanwhile meets both."""
    if warm:
        first(), second()
    pairs = [(timed(first), timed(second)) for _ in range(rounds)]
    return Timing(tuple(a for a, _ in pairs)), Timing(tuple(b for _, b in pairs))


def timed(work: Callable[[], Any]) -> float:
    """Seconds, by the wall; a work that returns seconds has measured itself."""
    started = time.perf_counter()
    own = work()
    return own if isinstance(own, float) else time.perf_counter() - started


def gemm_gflops(dtype: torch.dtype, size: int = 2048) -> float:
    """10^9 multiplications and additions a second of a large square matrix product, best of five."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / min(timed(lambda: torch.mm(a, b)) for _ in range(5)) / 1e9


def machine() -> dict[str, Any]:
    """Cores, instruction sets and measured matrix products (bf16 only where the CPU has it: emulated it takes minutes)."""
    cpu = torch.device("cpu")
    able = torch.cpu.get_capabilities()
    sets = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16") if able.get(name)]
    return {
        **{key: value for key, value in hardware(cpu).items() if key not in ("device", "gpu")},
        "instructions": sets, "gemm_fp32": gemm_gflops(torch.float32),
        "gemm_bf16": gemm_gflops(torch.bfloat16) if has_bf16(cpu) else None,
        "load_before": os.getloadavg()[0], "python": platform.python_version(), "torch": torch.__version__,
    }
