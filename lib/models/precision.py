"""Mixed precision: the layers of a detector compute in bfloat16, everything about boxes stays in float32.

A box coordinate of 800 px has steps of 4 px in bfloat16, so anchors, box decoding, assignment, RoIAlign, NMS and the losses must not
see it. The parts with nearly all the multiplications (backbone, neck, the layers of the heads) run under autocast one by one and
hand on float32. bfloat16 has float32's range: no loss scaling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmcv.ops import DeformConv2d
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention
from torch import Tensor, nn

IN_FLOAT32 = (DeformConv2d, MultiScaleDeformableAttention)  # their kernels take nothing else


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: AVX512-BF16, AMX or ARM's bf16 on a CPU, a GPU from Ampere on."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def use_precision(model: nn.Module, precision: str, device: torch.device) -> None:
    """Make the parts of a detector compute in `precision`, fp32 or bf16; parameters and everything handed on stay float32."""
    if precision == "fp32":
        return
    neck: Any = getattr(model, "neck", None)
    _autocast(model.get_submodule("backbone"), device, torch.bfloat16, as_float32=neck is None)
    if neck is not None:
        _autocast(neck, device, torch.bfloat16)
    roi_head = getattr(model, "roi_head", None)
    heads = [getattr(model, "rpn_head", None), getattr(model, "bbox_head", None), getattr(roi_head, "bbox_head", None)]
    for head in heads:
        for one in head if isinstance(head, nn.ModuleList) else [head] if head is not None else []:
            _autocast(one, device, torch.bfloat16)
    for module in model.modules():
        if isinstance(module, IN_FLOAT32):
            _autocast(module, device, None)


def _autocast(module: nn.Module, device: torch.device, dtype: torch.dtype | None, as_float32: bool = True) -> None:
    forward: Callable[..., Any] = module.forward

    def cast(*inputs: Any, **named: Any) -> Any:
        if dtype is None:
            inputs, named = _float32(inputs), _float32(named)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            result = forward(*inputs, **named)
        return _float32(result) if as_float32 else result

    module.forward = cast


def _float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, dict):
        return {key: _float32(item) for key, item in value.items()}
    return type(value)(map(_float32, value)) if isinstance(value, list | tuple) else value
