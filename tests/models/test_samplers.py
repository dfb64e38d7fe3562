"""The sampler on a CPU is mmdet's, draw by draw."""

from __future__ import annotations

import torch
from mmdet.core.bbox.samplers import RandomSampler

from workbook.models.samplers import DeviceRandomSampler

SETTING = dict(num=16, pos_fraction=0.5)


def test_a_cpu_draws_what_mmdet_draws() -> None:
    gallery = torch.arange(100, 1100)
    draws = []
    for kind in (RandomSampler, DeviceRandomSampler):
        torch.manual_seed(3)
        draws.append(kind(**SETTING).random_choice(gallery, 16))
    assert torch.equal(*draws)


def test_other_devices_draw_where_the_boxes_are() -> None:
    """The meta device stands for a GPU: what is drawn on it never was on the CPU."""
    chosen = DeviceRandomSampler(**SETTING).random_choice(torch.arange(1000, device="meta"), 16)
    assert (chosen.device.type, chosen.shape) == ("meta", (16,))
