"""Which device computes, and in which numbers: picked once, recorded with the run and with its diagnosis."""

from __future__ import annotations

import torch

from workbook.errors import ParameterError


def pick_device(device: str, devices: int = 1) -> torch.device:
    """The first of `devices`; `auto` takes a GPU when torch sees one, else the CPU. Raises ParameterError for what is not there."""
    usable = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if usable else "cpu"
    if device != "cpu" and not usable:
        raise ParameterError(f"device={device}: torch sees no GPU. Use device=cpu, or look at what `nvidia-smi` says")
    if devices > 1 and device.startswith("cuda:"):
        raise ParameterError(f"device={device}, devices={devices}: one GPU is named and several are asked for. Use device=cuda")
    if device != "cpu" and devices > torch.cuda.device_count():
        raise ParameterError(f"devices={devices}: there are {torch.cuda.device_count()} GPUs")
    chosen = torch.device("cuda:0" if device == "cuda" else device)
    if chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise ParameterError(f"device={device}: there are {torch.cuda.device_count()} GPUs, counted from cuda:0")
    return chosen


def pick_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 where the device multiplies it in hardware, else fp32. Raises ParameterError for bf16 elsewhere."""
    able = has_bf16(device)
    if precision == "bf16" and not able:
        raise ParameterError(f"precision=bf16: {device} has no bfloat16 in hardware, and emulates it many times slower. "
                             "Use precision=fp32, or auto")
    return "bf16" if able and precision != "fp32" else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: AVX512-BF16, AMX or ARM's bf16 on a CPU, a GPU from Ampere on."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
