"""The operators for a GPU without a CUDA toolkit, against mmcv's compiled ones (here on the CPU, where both run)."""

import mmcv.ops.deform_conv
import pytest
import torch
from mmcv.ops import batched_nms, get_compiling_cuda_version
from mmcv.utils.ext_loader import load_ext
from mmdet.models.losses import FocalLoss, focal_loss

from workbook.models import gpu_ops


def random_boxes(count):
    low = torch.rand(count, 2) * 80
    return torch.cat([low, low + torch.rand(count, 2) * 40 + 1], dim=1), torch.rand(count)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms_keeps_the_same_boxes_in_the_same_order(threshold):
    torch.manual_seed(0)
    boxes_xyxy, scores = random_boxes(400)
    stock = load_ext("_ext", ["nms"]).nms(boxes_xyxy, scores, iou_threshold=threshold, offset=0)
    ours = gpu_ops._nms(boxes_xyxy, scores, iou_threshold=threshold, offset=0)
    assert 0 < len(ours) < 400
    assert ours.tolist() == stock.tolist()


def test_deformable_convolution_is_mmcvs_with_its_gradients():
    torch.manual_seed(0)
    x, offset, weight = torch.randn(2, 8, 9, 11), torch.randn(2, 18, 9, 11) * 2, torch.randn(6, 8, 3, 3)
    results = []
    for operator in (mmcv.ops.deform_conv.DeformConv2dFunction.apply, gpu_ops._deform_conv2d):
        inputs = [t.clone().requires_grad_() for t in (x, offset, weight)]
        out = operator(*inputs, 1, 1, 1, 1, 1)
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    for stock, ours in zip(*results, strict=True):
        assert stock.abs().max() > 1
        torch.testing.assert_close(ours, stock, rtol=1e-3, atol=1e-2)


def test_focal_loss_takes_labels_and_gives_the_cpus_loss():
    torch.manual_seed(0)
    pred, target, weight = torch.randn(50, 3), torch.randint(0, 4, (50,)), torch.rand(50)
    on_cpu = FocalLoss(gamma=1.5, alpha=0.4)(pred, target, weight, avg_factor=7.0)
    ours = gpu_ops._sigmoid_focal_loss(pred, target, weight, gamma=1.5, alpha=0.4, reduction="mean", avg_factor=7.0)
    assert on_cpu > 0
    torch.testing.assert_close(ours, on_cpu)


def test_mmdet_calls_them_where_mmcv_has_no_gpu_operators():
    gpu_ops.use_wheel_kernels()
    gpu_ops.use_wheel_kernels()
    replaced = get_compiling_cuda_version() == "not available"
    assert isinstance(gpu_ops.NMS.ext_module, gpu_ops._Nms) == replaced
    assert (focal_loss.sigmoid_focal_loss is gpu_ops._sigmoid_focal_loss) == replaced
    boxes_xyxy, scores = random_boxes(200)
    kept, order = batched_nms(boxes_xyxy, scores, torch.randint(0, 2, (200,)), dict(type="nms", iou_threshold=0.5))
    assert 0 < len(kept) < 200 and torch.equal(kept[:, :4], boxes_xyxy[order])  # the CPU still goes its own way
