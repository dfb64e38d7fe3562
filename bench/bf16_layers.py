"""Which layers does bfloat16 compute wrongly on this CPU? `python -m bench.bf16_layers [DETECTOR ...]`, about 5 minutes on a core.

Every layer shape of every shipped detector with every backbone, at every size of map down to one pixel, in both layouts: the result
and the gradients of input, weight and bias under bfloat16 autocast, beside float32. Once the bare layer, and once as
`models.precision.set_precision` has it computed. Prints the shapes that are wrong; ends with 1 when one still is as a detector has it.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmcv.utils import get_logger
from timm.layers import Conv2dSame
from torch import Tensor, nn

from workbook.data.catalog import Dataset
from workbook.models.backbones import BACKBONES, find_backbone
from workbook.models.config import build_config, build_untrained
from workbook.models.detectors import DETECTORS, find_detector
from workbook.models.precision import set_precision
from workbook.models.recipes import Setting, find_recipe

UNIT = 2.0**-8  # bfloat16 has 8 significant bits: rounding moves a number by at most this share
# A product of two rounded numbers is off by up to 2 units of itself, a sum of them by a spread of 1.2 units of the root of their
# squares; rounding the result adds up to a unit of it. Four spreads of both are 9. A sum that is carried on in bfloat16 has 20 and more
ALLOWED = 10.0
SIDES = (1, 2, 3, 4, 7)
LARGER = ((16, 16), (33, 1), (1, 33), (40, 28))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CPU = torch.device("cpu")
BATCH = 2


@dataclass(frozen=True, order=True)
class Shape:
    """A convolution's shape; a linear layer is one of kernel 1 on a map."""

    channels: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    bias: bool
    linear: bool = False

    def __str__(self) -> str:
        kind = "linear" if self.linear else f"{_x(self.kernel)} stride {_x(self.stride)} padding {_x(self.padding)}"
        return f"{kind}, {self.channels[0]} to {self.channels[1]} channels, groups {self.groups}"

    def build(self) -> nn.Module:
        """The layer with random weights, the same at each call."""
        torch.manual_seed(0)
        if self.linear:
            return nn.Linear(*self.channels, bias=self.bias)
        return nn.Conv2d(*self.channels, self.kernel, self.stride, self.padding, self.dilation, self.groups, self.bias)

    def fits(self, height: int, width: int) -> bool:
        """Whether a map of this size has a result at all."""
        spans = [dilation * (kernel - 1) for dilation, kernel in zip(self.dilation, self.kernel, strict=True)]
        return all(side + 2 * pad > span for side, pad, span in zip((height, width), self.padding, spans, strict=True))


@dataclass(frozen=True)
class Map:
    """What a layer is handed: two images."""

    height: int
    width: int
    layout: str

    def images(self, shape: Shape) -> Tensor:
        """Random numbers [batch, channels, height, width]; for a linear layer [batch, height · width, channels]."""
        torch.manual_seed(1)
        if shape.linear:
            return torch.randn(BATCH, self.height * self.width, shape.channels[0])
        images = torch.randn(BATCH, shape.channels[0], self.height, self.width)
        return images.contiguous(memory_format=LAYOUTS[self.layout])


class Alone(nn.Module):
    """A layer as the backbone of a detector without anything else, for `set_precision`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Sequential(layer)

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)


def bare(shape: Shape, layout: str) -> nn.Module:
    """The layer as torch computes it under autocast."""
    layer = shape.build()
    return layer if shape.linear else layer.to(memory_format=LAYOUTS[layout])


def as_in_a_detector(shape: Shape, layout: str) -> nn.Module:
    """The layer as a detector in bf16 computes it, which chooses the layout of its weight itself."""
    return set_precision(Alone(shape.build()), CPU, "bf16")


def errors(module: nn.Module, shape: Shape, handed: Map) -> dict[str, float]:
    """How far `module` under bfloat16 autocast is from float32: `ALLOWED` at most where nothing but rounding is wrong.

    For the result and each gradient the largest error of a number, in bfloat16's units of the root of the summed squares of the
    products it is made of; infinite for what is not a number.
    """
    images = handed.images(shape)
    exact_module = shape.build()
    gradient = torch.randn_like(exact_module(images))
    exact = _pass(exact_module, images, gradient, bf16=False)
    with torch.no_grad():
        for parameter in exact_module.parameters():
            parameter.square_()
    squares = _pass(exact_module, images.square(), gradient.square(), bf16=False)
    _dirty_memory(exact)
    found = _pass(module, images, gradient, bf16=True)
    away = {part: (found[part] - exact[part]).abs() / (UNIT * squares[part].sqrt()).clamp(min=1e-30) for part in exact}
    return {part: float(error.nan_to_num(nan=torch.inf).max()) for part, error in away.items()}


def _pass(module: nn.Module, images: Tensor, gradient: Tensor, *, bf16: bool) -> dict[str, Tensor]:
    """The result and the gradients, in float32."""
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    module.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        result = module(images)
    result.backward(gradient.to(result.dtype))
    assert images.grad is not None
    gradients = {name.rpartition(".")[2]: parameter.grad for name, parameter in module.named_parameters()}
    parts = {"result": result.detach(), "input's gradient": images.grad, **{f"{name}'s gradient": g for name, g in gradients.items()}}
    return {name: part.float() for name, part in parts.items() if part is not None}


def _dirty_memory(parts: dict[str, Tensor]) -> None:
    """Free memory of the sizes that the next pass asks for, full of numbers that show when they are left as they are."""
    for dtype in (torch.float32, torch.bfloat16):
        dirt = [torch.full((part.numel(),), torch.nan, dtype=dtype) for part in parts.values() for _ in range(3)]
        del dirt


def shape_of(module: nn.Module) -> Shape | None:
    """The shape of a layer that computes in bfloat16 under autocast; None for other modules.

    One of timm's that pads by itself is a convolution without padding, on a map that is larger already.
    """
    if isinstance(module, nn.Linear):
        return Shape((module.in_features, module.out_features), *[(1, 1)] * 2, (0, 0), (1, 1), 1, module.bias is not None, True)
    if isinstance(module, nn.Conv2d):
        padding = (0, 0) if isinstance(module, Conv2dSame) else module.padding
        sizes = (module.kernel_size, module.stride, padding, module.dilation)
        pairs = [(size[0], size[1]) for size in sizes]
        return Shape((module.in_channels, module.out_channels), *pairs, module.groups, module.bias is not None)
    return None


def shipped_shapes(detectors: Sequence[str]) -> dict[Shape, str]:
    """Every shape in these detectors with every backbone, and one layer that has it."""
    get_logger("mmdet").setLevel(logging.ERROR)
    shapes: dict[Shape, str] = {}
    for detector, backbone in itertools.product(detectors, BACKBONES):
        for name, module in built(detector, backbone).named_modules():
            if shape := shape_of(module):
                shapes.setdefault(shape, f"{detector} {backbone} {name}")
    return shapes


def built(detector: str, backbone: str) -> nn.Module:
    """The detector with random weights, for three classes."""
    setting = Setting(find_detector(detector), find_backbone(backbone), batch_size=2, epochs=1, iterations=1)
    return build_untrained(build_config(
        dataset=Dataset("none", Path("none"), ("a", "b", "c"), ""), detector=setting.detector, backbone=setting.backbone,
        schedule=find_recipe("seed").schedule(setting), image_size=(64, 64), batch_size=2, epochs=1, seed=0, weights=None))


def maps(shape: Shape) -> Iterator[Map]:
    """Every map that a layer is tried on; a linear layer knows no layout, and only the number of its vectors."""
    sizes = [*itertools.product(SIDES, SIDES), *LARGER]
    if shape.linear:
        sizes = [(1, count) for count in sorted({height * width for height, width in sizes})]
    layouts = ("contiguous",) if shape.linear else tuple(LAYOUTS)
    for (height, width), layout in itertools.product(sizes, layouts):
        if shape.fits(height, width):
            yield Map(height, width, layout)


def wrong_on(shape: Shape, make: Callable[[Shape, str], nn.Module]) -> list[tuple[Map, dict[str, float]]]:
    """The maps on which the layer is wrong, with its errors beyond what is allowed."""
    found = []
    for handed in maps(shape):
        module = make(shape, handed.layout)
        beyond = {part: error for part, error in errors(module, shape, handed).items() if error > ALLOWED}
        if beyond:
            found.append((handed, beyond))
    return found


def main(detectors: Sequence[str]) -> None:
    torch.set_num_threads(1)
    shapes = shipped_shapes(detectors)
    print(f"{len(shapes)} shapes of {', '.join(detectors)} with {len(BACKBONES)} backbones; torch {torch.__version__}", flush=True)
    still = 0
    for shape in sorted(shapes):
        wrong = wrong_on(shape, bare)
        left = wrong_on(shape, as_in_a_detector) if wrong else []
        if wrong:
            verdict = "WRONG IN A DETECTOR TOO" if left else "right in a detector"
            print(f"{shape} ({shapes[shape]}): {_words(wrong)}; {verdict}", flush=True)
        still += bool(left)
    print(f"{still} shapes are wrong as a detector computes them")
    sys.exit(bool(still))


def _words(wrong: Sequence[tuple[Map, dict[str, float]]]) -> str:
    """The largest error of each part, and the layouts and sizes of the maps."""
    largest: dict[str, float] = {}
    for _, beyond in wrong:
        for part, error in beyond.items():
            largest[part] = max(error, largest.get(part, 0.0))
    parts = ", ".join(f"{part} off by {error:.3g} units" for part, error in largest.items())
    layouts = " and ".join(dict.fromkeys(handed.layout for handed, _ in wrong))
    sizes = ", ".join(dict.fromkeys(f"{handed.height}x{handed.width}" for handed, _ in wrong))
    return f"{parts}; {layouts}; maps {sizes}"


def _x(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


if __name__ == "__main__":
    main(sys.argv[1:] or list(DETECTORS))
