"""A fixed BatchNorm inside its convolution: the same maps and gradients as apart, for every backbone that has them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from workbook.models.config import build_backbone
from workbook.models.folded_norm import fold_norms, pairs
from workbook.models.forwards import restore_forwards
from workbook.models.timm_backbone import TimmBackbone

RESNET = dict(type="ResNet", num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1, norm_eval=True)


def backbone(name: str) -> nn.Module:
    """With statistics and factors as a trained one has them, in training."""
    torch.manual_seed(0)
    model = build_backbone({**RESNET, "depth": int(name[6:])}) if name.startswith("resnet") else TimmBackbone(name.removeprefix("timm/"))
    for norm in norms(model):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
    model.train()
    return model


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def computed(model: nn.Module) -> dict[str, Tensor]:
    """The maps of every level and the gradients of every parameter."""
    model.zero_grad()
    maps = model(torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)))
    sum((level**2).mean() for level in maps).backward()
    return {**{f"map {number}": level.detach() for number, level in enumerate(maps)},
            **{name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}}


def require_equal(one: dict[str, Tensor], two: dict[str, Tensor], share: float) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert (value - two[name]).abs().max() <= share * value.abs().max() + 1e-12, name


# Conv2dSame, which pads by the size of the map, keeps its norm: five of 48 in lite0
@pytest.mark.parametrize(("name", "folded"), [
    ("resnet50", 53), ("resnet18", 20), ("timm/resnet18", 19), ("timm/tf_efficientnet_lite0", 43)])
def test_maps_and_gradients_are_those_of_conv_and_norm(name: str, folded: int) -> None:
    model = backbone(name)
    apart = computed(model)
    fold_norms(model)
    assert len(list(pairs(model))) == folded
    inside = computed(model)
    require_equal(apart, inside, 1e-4)
    restore_forwards(model)
    require_equal(apart, computed(model), 0)
    assert inside.keys() == apart.keys()


def test_a_norm_that_trains_its_statistics_computes_as_before() -> None:
    model = backbone("resnet18")
    for norm in norms(model):
        norm.train()
    other = copy.deepcopy(model)
    fold_norms(model)
    require_equal(computed(other), computed(model), 0)
    before, after = (norms(one)[0].running_mean for one in (other, model))
    assert torch.equal(before, after)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_computes_with_its_own_norms(copied) -> None:
    model = backbone("resnet18")
    fold_norms(model)
    before = computed(model)
    other = copied(model)
    for norm in norms(other):
        norm.weight.data.zero_()
        norm.bias.data.zero_()
    assert all(float(value.abs().max()) == 0 for name, value in computed(other).items() if name.startswith("map"))
    require_equal(before, computed(model), 0)


def test_what_lies_otherwise_stays_apart() -> None:
    """A norm before its convolution (ResNet v2), one with a bias, one without factors."""
    assert not list(pairs(TimmBackbone("resnetv2_50")))
    assert not list(pairs(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))))
    assert not list(pairs(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False))))
    assert len(list(pairs(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))))) == 1
