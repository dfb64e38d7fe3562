"""A GPU without a CUDA toolkit: where mmcv-full was compiled for the CPU alone, its operators on a GPU are those of torch's wheels.

mmcv-full compiles its CUDA kernels on the user's machine, which needs nvcc in the very version of torch. Four of its operators are
used by the detectors here; torchvision and torch ship the same for every GPU they support. On a CPU nothing changes.
RoIAlign needs no replacement: `lib/workbook/models/roi_align.py` takes torchvision's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import mmcv.ops.deform_conv
import mmcv.ops.multi_scale_deform_attn
import torch
import torchvision
from mmcv.ops import get_compiling_cuda_version
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from mmdet.models.losses import focal_loss
from torch import Tensor
from torch.nn.functional import one_hot

NMS: Any = import_module("mmcv.ops.nms")  # the package shows its function of that name instead


def use_wheel_kernels() -> None:
    """Replace the operators, when mmcv-full has none for a GPU. A second call does nothing."""
    if get_compiling_cuda_version() != "not available" or isinstance(NMS.ext_module, _Nms):
        return
    NMS.ext_module = _Nms(NMS.ext_module)
    mmcv.ops.deform_conv.deform_conv2d = _by_device(_deform_conv2d, mmcv.ops.deform_conv.deform_conv2d)
    mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction = _MultiScaleAttention
    focal_loss.sigmoid_focal_loss = _sigmoid_focal_loss  # mmdet calls it on a GPU only


def _by_device(on_gpu: Any, on_cpu: Any) -> Any:
    return lambda tensor, *rest, **more: (on_gpu if tensor.is_cuda else on_cpu)(tensor, *rest, **more)


class _Nms:
    """mmcv's compiled extension with another `nms`."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self.nms = _by_device(_nms, compiled.nms)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)


def _nms(boxes_xyxy: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    if offset:
        raise ValueError("nms with offset=1 (boxes that include their last pixel) is not in torchvision: use offset=0")
    return torchvision.ops.nms(boxes_xyxy.float(), scores.float(), iou_threshold)


def _deform_conv2d(
    x: Tensor, offset: Tensor, weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    deform_groups: int = 1, bias: bool = False, im2col_step: int = 32,
) -> Tensor:
    """mmcv's signature; groups follow from the shapes of weight and offset (torchvision.ops.deform_conv2d)."""
    return torchvision.ops.deform_conv2d(x, offset, weight, None, stride, padding, dilation)


class _MultiScaleAttention:
    """In the place of mmcv's autograd function: its own formula in torch, which is differentiated by torch."""

    @staticmethod
    def apply(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, attention: Tensor, im2col_step: int) -> Tensor:
        return multi_scale_deformable_attn_pytorch(value, shapes, locations, attention)


def _sigmoid_focal_loss(pred: Tensor, target: Tensor, *rest: Any, **more: Any) -> Tensor:
    """mmdet's formula, as it uses on a CPU. pred [n, classes]; target [n], the number of classes = background."""
    classes = pred.size(1)
    return focal_loss.py_sigmoid_focal_loss(pred, one_hot(target, classes + 1)[:, :classes].to(torch.float32), *rest, **more)
