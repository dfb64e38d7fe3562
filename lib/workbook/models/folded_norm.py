"""A BatchNorm that does not learn its statistics, computed inside the convolution before it.

With fixed mean and variance the norm is one factor and one shift a channel, and so is part of the convolution's weight and bias:
norm(W x) = (W s) x + (b - m s) with s = g / sqrt(v + eps) (Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.1). mmdet and torchvision
fine-tune detectors with fixed statistics, and then each norm costs one more read and write of its map forward, two backward. W, g
and b stay parameters of their own and get the same gradients, through the small tensors W s and b - m s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmdet.models.backbones import resnet as mmdet_resnet
from timm.layers import BatchNormAct2d
from timm.models import resnet as timm_resnet
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from workbook.models.forwards import Forward, set_forward

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]
_MMDET = (("conv1", "norm1"), ("conv2", "norm2"), ("conv3", "norm3"))
_TIMM = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
# of each class, exactly: a derived one, or another network's, may read a map between the two, or norm it before it convolves
NAMES: dict[type, tuple[tuple[str, str], ...]] = {
    mmdet_resnet.ResNet: _MMDET, mmdet_resnet.BasicBlock: _MMDET, mmdet_resnet.Bottleneck: _MMDET,
    timm_resnet.BasicBlock: _TIMM, timm_resnet.Bottleneck: _TIMM,
    EfficientNetFeatures: (("conv_stem", "bn1"),),
    DepthwiseSeparableConv: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


def fold_norms(model: nn.Module) -> None:
    """From now on the model computes its fixed norms inside their convolutions; those that train their statistics as before."""
    for conv, norm in pairs(model):
        conv.folded = (norm,)  # type: ignore[assignment]  # in a tuple: not a submodule, and a copy of the model refers to its own
        set_forward(conv, _Convolved(conv))
        set_forward(norm, _Folded(norm))


def pairs(model: nn.Module) -> Iterator[Pair]:
    """Each convolution whose result nothing but its norm reads: by the names that mmdet and timm give to both, or one behind the
    other in a row."""
    for module in model.modules():
        for conv, norm in _named(module):
            if type(conv) is nn.Conv2d and conv.bias is None and type(norm) in (nn.BatchNorm2d, BatchNormAct2d) and norm.affine:
                yield conv, norm


def _named(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    if type(module) is nn.Sequential:
        yield from zip(module, list(module)[1:], strict=False)
    for conv, norm in NAMES.get(type(module), ()):
        yield getattr(module, conv, None), getattr(module, norm, None)


def convolved(conv: nn.Conv2d, maps: Tensor) -> Tensor:
    """What the convolution makes of maps, its folded norm included."""
    norm, = vars(conv).get("folded", (None,))
    if norm is None or norm.training:
        return type(conv).forward(conv, maps)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv._conv_forward(maps, conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)


class _Convolved(Forward):
    """Of a convolution with a folded norm."""

    def __call__(self, maps: Tensor) -> Tensor:
        return convolved(self.module, maps)


class _Folded(Forward):
    """Of a norm that its convolution has computed already; timm's has an activation behind it."""

    def __call__(self, maps: Tensor) -> Tensor:
        norm = self.module
        if norm.training:
            return type(norm).forward(norm, maps)
        return norm.act(norm.drop(maps)) if isinstance(norm, BatchNormAct2d) else maps
