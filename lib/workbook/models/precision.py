"""Where and how a detector computes: its device, the layout of its maps, and mixed precision.

In mixed precision the layers compute in bfloat16 and everything about boxes stays in float32: a box coordinate of 800 px has steps of
4 px in bfloat16, so anchors, box decoding, assignment, RoIAlign, NMS and the losses must not see it. The parts with nearly all the
multiplications (backbone, neck, the layers of the heads but the last) run under autocast one by one and hand on float32. bfloat16 has
float32's range: no loss scaling.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from mmcv.cnn import ConvAWS2d, ConvWS2d
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
# the layers that say class and box: rpn_cls, fc_reg, vfnet_reg_refine, cls_branches.0, ... They cost little. In bfloat16 they cost the
# demo .010 bbox_mAP (95% over six seeds: .003 to .017), where each seed was below its float32 twin
PREDICTOR = re.compile(r"\.(\w+_(cls|reg|refine)|(cls|reg)_branches\.[\d.]+)$")


def place(model: Model, device: torch.device, precision: str) -> Model:
    """The model on `device`, its maps channels-last, its parts computing in `precision`, fp32 or bf16.

    Parameters and everything handed on stay float32. The kernels of oneDNN and cuDNN work channels-last and would turn every map around
    twice. A step of R50 on 2 cores, batch 2: at 1024 px 7.2 s in bf16 (contiguous 9.6) and 15.2 in fp32 (21.8); at 256 px 5% less.
    """
    model.to(device)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, ConvWS2d | ConvAWS2d):  # these view their weight as a matrix
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub does not know it
    if precision == "bf16":
        _use_bf16(model, device)
    for module in model.modules():
        if type(module).__module__.startswith("mmcv.ops."):  # some of its kernels read other maps without a word, and wrongly
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            _in_float32(module, device, contiguous=True)
    return model


def _use_bf16(model: nn.Module, device: torch.device) -> None:
    neck: Any = getattr(model, "neck", None)
    _autocast(model.get_submodule("backbone"), device, as_float32=neck is None)
    if neck is not None:
        _autocast(neck, device)
    roi_head = getattr(model, "roi_head", None)
    heads = [getattr(model, "rpn_head", None), getattr(model, "bbox_head", None), getattr(roi_head, "bbox_head", None)]
    for head in heads:
        for one in head if isinstance(head, nn.ModuleList) else [head] if head is not None else []:
            _autocast(one, device)
    for name, module in model.named_modules():
        if PREDICTOR.search(name) and isinstance(module, nn.Conv2d | nn.Linear) or device.type == "cpu" and _slow_in_bf16(module):
            _in_float32(module, device)


def _slow_in_bf16(module: nn.Module) -> bool:
    """Depthwise convolutions whose gradient oneDNN computes in bfloat16 by its reference code: strided ones, and all but 3 x 3.

    A 5 x 5 of 672 channels on 20 x 20 takes 36 ms, in float32 6 ms; a step of the demo's EfficientNet-lite2 0.65 s for 1.02 s.
    """
    depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    return depthwise and (module.kernel_size, module.stride) != ((3, 3), (1, 1))


def _autocast(module: nn.Module, device: torch.device, as_float32: bool = True) -> None:
    forward: Callable[..., Any] = module.forward

    def cast(*inputs: Any, **named: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            result = forward(*inputs, **named)
        return _each(_float32, result) if as_float32 else result

    module.forward = cast


def _in_float32(module: nn.Module, device: torch.device, contiguous: bool = False) -> None:
    forward: Callable[..., Any] = module.forward

    def exact(*inputs: Any, **named: Any) -> Any:
        inputs, named = _each(lambda tensor: _float32(tensor).contiguous() if contiguous else _float32(tensor), (inputs, named))
        with torch.autocast(device.type, enabled=False):
            return forward(*inputs, **named)

    module.forward = exact


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The tensors in nested lists, tuples and dicts, changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(change, item) for key, item in value.items()}
    return type(value)(_each(change, item) for item in value) if isinstance(value, list | tuple) else value
