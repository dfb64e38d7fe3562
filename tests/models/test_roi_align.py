"""The sparse RoIAlign against torchvision's and mmdet's own: values and gradients, on every level, at the edges."""

import math

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torchvision.ops import roi_align

from workbook.models.roi_align import SparseRoIExtractor, sparse_roi_align

SHAPES = [(2, 5, 40, 24), (2, 5, 20, 12), (2, 5, 10, 6), (2, 5, 5, 3)]  # maps of a batch of two images, 160 x 96 pixels
STRIDES = [4, 8, 16, 32]


def random_maps():
    return [torch.randn(shape, requires_grad=True) for shape in SHAPES]


def random_rois(count):
    """Boxes of all sizes, a third of them over the edge of the image or wholly outside."""
    center, side = torch.rand(count, 2) * torch.tensor([96.0, 160.0]), torch.exp(torch.rand(count, 2) * math.log(200) + 0.5)
    center[: count // 3] += torch.randn(count // 3, 2) * 150
    return torch.cat([torch.randint(0, 2, (count, 1)).float(), center - side / 2, center + side / 2], dim=1)


def torchvision_on_levels(maps, rois, levels, bins, sampling_ratio):
    pooled = torch.zeros(len(rois), maps[0].shape[1], *bins)
    for level, stride in enumerate(STRIDES):
        at = (levels == level).nonzero().squeeze(1)
        pooled = pooled.index_copy(0, at, roi_align(maps[level], rois[at], bins, 1 / stride, sampling_ratio, aligned=True))
    return pooled


def both(maps, rois, levels, bins, sampling_ratio):
    """Values and gradients of the features under the same random weighting: ours, torchvision's."""
    ours = sparse_roi_align(maps, rois, levels, [1 / stride for stride in STRIDES], bins, sampling_ratio)
    theirs = torchvision_on_levels(maps, rois, levels, bins, sampling_ratio)
    weighting = torch.randn_like(theirs)
    gradients = [torch.autograd.grad((out * weighting).sum(), maps) for out in (ours, theirs)]
    return ours, theirs, *gradients


@pytest.mark.parametrize("bins", [(7, 7), (3, 5), (1, 1)])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
def test_values_and_gradients_are_torchvisions_on_every_level(sampling_ratio, bins):
    torch.manual_seed(sampling_ratio)
    maps, rois = random_maps(), random_rois(300)
    levels = torch.randint(0, 4, (300,))
    ours, theirs, our_grads, their_grads = both(maps, rois, levels, bins, sampling_ratio)
    assert theirs.abs().max() > 1 and (theirs.flatten(1) == 0).all(1).any()  # some RoIs lie outside
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for level in range(4):
        assert their_grads[level].abs().max() > 0
        torch.testing.assert_close(our_grads[level], their_grads[level], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("box", [
    pytest.param([30.0, 40, 30, 40], id="a point"),
    pytest.param([30.0, 40, 30, 90], id="no width"),
    pytest.param([60.0, 90, 30, 40], id="turned around"),
    pytest.param([-900.0, -900, -800, -800], id="far outside"),
    pytest.param([-4.0, -4, 4, 4], id="over the corner"),
    pytest.param([92.0, 156, 104, 170], id="over the other corner"),
    pytest.param([-500.0, -500, 700, 900], id="larger than the image"),
    pytest.param([2.0, 2, 2 + 1e-4, 2 + 1e-4], id="a tiny box"),
    pytest.param([0.0, 0, 96, 160], id="the whole image"),
])
def test_strange_boxes_are_treated_as_torchvision_treats_them(box, sampling_ratio):
    torch.manual_seed(0)
    maps, rois = random_maps(), torch.tensor([[1.0, *box]] * 4)
    ours, theirs, our_grads, their_grads = both(maps, rois, torch.arange(4), (7, 7), sampling_ratio)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for ours_, theirs_ in zip(our_grads, their_grads, strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_no_boxes_give_no_features_and_zero_gradients(sampling_ratio):
    maps = random_maps()
    pooled = sparse_roi_align(maps, torch.zeros(0, 5), torch.zeros(0, dtype=torch.long), [0.25] * 4, (7, 7), sampling_ratio)
    assert pooled.shape == (0, 5, 7, 7)
    gradients = torch.autograd.grad(pooled.sum(), maps)
    assert all(not g.any() for g in gradients)


@pytest.mark.parametrize("levels", [1, 4])
def test_the_extractor_is_mmdets(levels):
    torch.manual_seed(1)
    setting = dict(roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0), out_channels=5, featmap_strides=STRIDES[:levels])
    maps, rois = random_maps(), random_rois(200)
    if levels > 1:  # turned around: mmdet finds no level for it; where there is one only, mmcv stops
        rois[0, 1:] = torch.tensor([60.0, 30, 20, 90])
    stock, ours = SingleRoIExtractor(**setting)(maps[:levels], rois), SparseRoIExtractor(**setting)(maps[:levels], rois)
    assert stock.abs().max() > 1
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_another_kind_of_roi_layer_is_refused():
    for wrong in (dict(type="RoIAlign", output_size=7, aligned=False), dict(type="RoIAlign", output_size=7, pool_mode="max")):
        with pytest.raises(ValueError, match="aligned=True and pool_mode='avg'"):
            SparseRoIExtractor(roi_layer=wrong, out_channels=5, featmap_strides=STRIDES)
