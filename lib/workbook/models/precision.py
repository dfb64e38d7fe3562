"""Where and how a detector computes: its device, the layout of its maps, and mixed precision.

In mixed precision the layers compute in bfloat16 and everything about boxes stays in float32: a box coordinate of 800 px has steps of
4 px in bfloat16, so anchors, box decoding, assignment, RoIAlign, NMS and the losses must not see it. The parts with nearly all the
multiplications (backbone, neck, the layers of the heads but the last) run under autocast one by one and hand on float32. bfloat16 has
float32's range: no loss scaling. Which single layers of these parts stay in float32, and on which maps, `_in_float32` says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from mmcv.cnn import ConvAWS2d, ConvWS2d
from torch import Tensor, nn

from workbook.models.forwards import Forward, restore_forwards, set_forward
from workbook.models.pvt import lean_blocks

Model = TypeVar("Model", bound=nn.Module)
# The layers that predict class and box: rpn_cls, fc_reg, vfnet_reg_refine, cls_branches.0, ... They take little time. In bfloat16
# they cost the demo .010 bbox_mAP (95% over six seeds: .003 to .017), where each seed was below its float32 twin
PREDICTOR = re.compile(r"\.(\w+_(cls|reg|refine)|(cls|reg)_branches\.[\d.]+)$")


def set_precision(model: Model, device: torch.device, precision: str) -> Model:
    """The model on `device`, its maps channels-last, its parts computing in `precision`, fp32 or bf16.

    Parameters, and all that the parts hand on, stay float32; the keys of the state dict stay too. A second call replaces what
    the first has set. Copies of the model (`copy.deepcopy`, pickle) compute in the same precision with their own weights.

    The kernels of oneDNN and cuDNN work channels-last and would turn every map around twice. A step of R50 on 2 cores, batch 2:
    at 1024 px 7.2 s in bf16 (contiguous 9.6) and 15.2 in fp32 (21.8); at 256 px 5% less.
    """
    model.to(device)
    restore_forwards(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, ConvWS2d | ConvAWS2d):  # these view their weight as a matrix
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub does not know it
    lean_blocks(model)
    if precision == "bf16":
        _use_bf16(model, device)
    for module in model.modules():
        if type(module).__module__.startswith("mmcv.ops."):  # some of its kernels read other maps without a word, and wrongly
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            set_forward(module, _Float32(module, device.type, contiguous=True))
    return model


def heads_of(model: nn.Module) -> Iterator[nn.Module]:
    """The heads that turn maps or RoI features into classes and boxes; a cascade has one a stage."""
    roi_head = getattr(model, "roi_head", None)
    owners = ((model, "rpn_head"), (model, "bbox_head"), (roi_head, "bbox_head"))
    for head in (getattr(owner, name, None) for owner, name in owners):
        if isinstance(head, nn.ModuleList):
            yield from head
        elif head is not None:
            yield head


def _use_bf16(model: nn.Module, device: torch.device) -> None:
    backbone = model.get_submodule("backbone")
    neck = getattr(model, "neck", None)
    set_forward(backbone, _Autocast(backbone, device.type, as_float32=neck is None))
    parts = [*heads_of(model)] if neck is None else [neck, *heads_of(model)]
    for part in parts:
        set_forward(part, _Autocast(part, device.type, as_float32=True))
    for name, module in model.named_modules():
        if forward := _in_float32(name, module, device.type):
            set_forward(module, forward)


def _in_float32(name: str, module: nn.Module, device_type: str) -> _Float32 | _Float32OnNarrowMaps | None:
    """How a layer computes in float32 though it lies in a part in bfloat16; None for one that does not.

    On every map those that bfloat16 makes worse or slower, on some maps those that it makes wrong there.
    """
    if PREDICTOR.search(name) and isinstance(module, nn.Conv2d | nn.Linear):
        return _Float32(module, device_type, contiguous=False)
    if device_type == "cpu" and _is_slow_in_bf16(module):
        return _Float32(module, device_type, contiguous=False)
    if device_type == "cpu" and narrowest_in_bf16(module) > 1:
        return _Float32OnNarrowMaps(module, device_type)
    return None


def narrowest_in_bf16(module: nn.Module) -> int:
    """From how many columns on a map has right gradients in bfloat16 on a CPU; 1 where it always has.

    The weight's gradient of a padded convolution whose stride is larger than the width of its map is memory that nobody has written
    (torch 2.11, oneDNN; `python -m bench.bf16_layers` tries every layer shape that is shipped at every size of map). So it is for
    P6 and P7 of an FPN on an image of up to 64 px.
    """
    if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str) or not module.padding[1]:
        return 1
    return int(module.stride[1])


def _is_slow_in_bf16(module: nn.Module) -> bool:
    """Depthwise convolutions whose gradient oneDNN computes in bfloat16 by its reference code: strided ones, and all but 3 x 3.

    A 5 x 5 of 672 channels on 20 x 20 takes 36 ms, in float32 6 ms; a step of the demo's EfficientNet-lite2 0.65 s for 1.02 s.
    """
    depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    return depthwise and (module.kernel_size, module.stride) != ((3, 3), (1, 1))


@dataclass(frozen=True, eq=False)
class _Autocast(Forward):
    """The forward of `module` under bfloat16 autocast."""

    device_type: str
    as_float32: bool  # of the results

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        with torch.autocast(self.device_type, torch.bfloat16):
            result = type(self.module).forward(self.module, *inputs, **named)
        return _each(_float32, result) if self.as_float32 else result


@dataclass(frozen=True, eq=False)
class _Float32(Forward):
    """The forward of `module` in float32, whatever precision surrounds it."""

    device_type: str
    contiguous: bool  # whether maps are handed to it in the plain layout

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        change = _contiguous_float32 if self.contiguous else _float32
        inputs, named = _each(change, (inputs, named))
        with torch.autocast(self.device_type, enabled=False):
            return type(self.module).forward(self.module, *inputs, **named)


@dataclass(frozen=True, eq=False)
class _Float32OnNarrowMaps(Forward):
    """The forward of a convolution, in float32 on maps that are too narrow for it in bfloat16."""

    device_type: str

    def __call__(self, maps: Tensor) -> Tensor:
        if maps.shape[-1] >= narrowest_in_bf16(self.module):
            return type(self.module).forward(self.module, maps)
        exact: Tensor = _Float32(self.module, self.device_type, contiguous=False)(maps)
        return exact


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _contiguous_float32(tensor: Tensor) -> Tensor:
    return _float32(tensor).contiguous()


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The tensors in nested lists, tuples and dicts, changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(change, item) for key, item in value.items()}
    return type(value)(_each(change, item) for item in value) if isinstance(value, list | tuple) else value
