"""PVT's blocks without the table of weights: the same maps and gradients as mmdet's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from workbook.models.config import build_backbone
from workbook.models.forwards import restore_forwards
from workbook.models.pvt import lean_blocks

PVT = dict(embed_dims=32, num_layers=[1, 1, 1, 1], drop_path_rate=0.0)


def backbone(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model = build_backbone(dict(type=kind, **PVT)).train()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model


def computed(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    maps = model(torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0)))
    sum((level**2).mean() for level in maps).backward()
    return {**{f"map {number}": level.detach() for number, level in enumerate(maps)},
            **{name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}}


@pytest.mark.parametrize("kind", ["PyramidVisionTransformerV2", "PyramidVisionTransformer"])
def test_maps_and_gradients_are_mmdets(kind: str) -> None:
    model = backbone(kind)
    own = computed(model)
    lean_blocks(model)
    lean = computed(model)
    assert own.keys() == lean.keys()
    for name, value in own.items():
        assert (value - lean[name]).abs().max() <= 1e-4 * value.abs().max() + 1e-12, name
    restore_forwards(model)
    assert all(torch.equal(value, own[name]) for name, value in computed(model).items())


def test_no_table_of_weights_is_kept_for_the_backward_pass() -> None:
    """A map of 64 x 64 places asks 8 x 8 keys: a table of 4,096 x 64 for the one head of each image."""
    model = backbone("PyramidVisionTransformerV2")
    assert 4096 * 64 * 2 in kept(model)
    lean_blocks(model)
    assert 4096 * 64 * 2 not in kept(model)


def kept(model: nn.Module) -> list[int]:
    """How many numbers are in each tensor of up to three axes that the first block keeps for its backward pass."""
    sizes: list[int] = []

    def packed(tensor: Tensor) -> Tensor:
        if tensor.shape[-1] == 64:
            sizes.append(tensor.numel())
        return tensor

    block = model.layers[0][1][0].attn
    with torch.autograd.graph.saved_tensors_hooks(packed, lambda tensor: tensor):
        block(torch.randn(2, 4096, 32, requires_grad=True), (64, 64))
    return sizes


def test_dropout_and_drop_path_stay() -> None:
    model = build_backbone(dict(type="PyramidVisionTransformerV2", **{**PVT, "drop_path_rate": 0.5})).train()
    lean_blocks(model)
    torch.manual_seed(1)
    one = model(torch.ones(2, 3, 64, 64))[-1]
    assert not torch.equal(one, model(torch.ones(2, 3, 64, 64))[-1])
    model.eval()
    assert torch.equal(model(torch.ones(2, 3, 64, 64))[-1], copy.deepcopy(model)(torch.ones(2, 3, 64, 64))[-1])
