"""The recipes: `official` gives each backbone's published numbers, `seed` those of the first experiments."""

import pytest
import torch
from mmcv.runner import build_optimizer
from torch import nn

from workbook.models.backbones import BACKBONES, find_backbone
from workbook.models.detectors import DETECTORS, find_detector
from workbook.models.recipes import RECIPES, Setting, find_recipe, shipped_config

# type, lr, weight decay, images a step: Faster R-CNN 1x (mmdet), Swin (arXiv:2103.14030, appendix A2), PVTv2 (its repository)
PUBLISHED = {
    "resnet50": ("SGD", 0.02, 1e-4, 16),
    "resnet18": ("SGD", 0.01, 1e-4, 16),
    "swin_t": ("AdamW", 1e-4, 0.05, 16),
    **{f"pvtv2_b{size}": ("AdamW", 1e-4, 1e-4, 16) for size in range(4)},
    "pvtv2_b4": ("AdamW", 1e-4 / 1.4, 1e-4, 8),
    "pvtv2_b5": ("AdamW", 1e-4 / 1.4, 1e-4, 8),
}
OWN = {"detr": ("AdamW", 1e-4, 1e-4, 16), "deformable_detr": ("AdamW", 2e-4, 1e-4, 32)}


def plan(recipe, detector="faster_rcnn", backbone="resnet50", batch_size=2, epochs=12, iterations=1200):
    setting = Setting(find_detector(detector), find_backbone(backbone), batch_size, epochs, iterations)
    return find_recipe(recipe).schedule(setting)


def numbers(optimizer):
    return optimizer["type"], optimizer["lr"], optimizer["weight_decay"]


@pytest.mark.parametrize("backbone", PUBLISHED)
@pytest.mark.parametrize("batch_size", [2, 16])
def test_official_is_the_published_optimizer_with_the_lr_scaled_to_the_batch(backbone, batch_size):
    kind, lr, decay, images = PUBLISHED[backbone]
    optimizer = plan("official", backbone=backbone, batch_size=batch_size)["optimizer"]
    assert numbers(optimizer) == (kind, pytest.approx(lr * batch_size / images, rel=1e-12), decay)


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_official_at_the_published_batch_is_the_shipped_config(backbone):
    images = PUBLISHED[backbone][3]
    shipped = shipped_config(BACKBONES[backbone].mmdet_config)
    made = plan("official", backbone=backbone, batch_size=images, epochs=shipped.runner.max_epochs)
    assert made == {
        "optimizer": dict(shipped.optimizer),
        "optimizer_config": dict(shipped.optimizer_config),
        "lr_config": dict(shipped.lr_config),
    }


@pytest.mark.parametrize("detector", OWN)
@pytest.mark.parametrize("backbone", ["resnet50", "swin_t"])
def test_query_detectors_are_trained_with_their_own_optimizer(detector, backbone):
    kind, lr, decay, images = OWN[detector]
    made = plan("official", detector, backbone, batch_size=4)
    assert numbers(made["optimizer"]) == (kind, pytest.approx(lr * 4 / images, rel=1e-12), decay)
    assert made["optimizer"]["paramwise_cfg"]["custom_keys"]["backbone"]["lr_mult"] == 0.1
    assert made["optimizer_config"] == {"grad_clip": {"max_norm": 0.1, "norm_type": 2}}


def test_swin_keeps_norms_and_position_tables_without_decay():
    keys = plan("official", backbone="swin_t")["optimizer"]["paramwise_cfg"]["custom_keys"]
    assert {name: value["decay_mult"] for name, value in keys.items()} == {
        "absolute_pos_embed": 0.0, "relative_position_bias_table": 0.0, "norm": 0.0}


@pytest.mark.parametrize(("epochs", "steps"), [(12, [8, 11]), (24, [16, 22]), (6, [4, 6]), (1, [1]), (3, [2, 3])])
def test_official_milestones_move_with_the_epochs(epochs, steps):
    assert plan("official", epochs=epochs)["lr_config"]["step"] == steps


def test_official_is_refused_where_nothing_is_published():
    with pytest.raises(ValueError, match="recipe=official: no detector with tf_efficientnet_lite0 is published.*finetune"):
        plan("official", backbone="tf_efficientnet_lite0")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_seed_is_the_same_whatever_it_trains(backbone):
    made = plan("seed", backbone=backbone, batch_size=7, epochs=3)
    assert made["optimizer"] == {"type": "SGD", "lr": 0.002, "momentum": 0.9, "weight_decay": 0.0001}
    assert made["lr_config"] == {"policy": "step", "warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001, "step": [8, 11]}
    assert made["optimizer_config"] == {"grad_clip": None}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_finetune_is_for_every_backbone_and_warms_up_in_a_tenth(backbone):
    made = plan("finetune", backbone=backbone, iterations=216)
    assert numbers(made["optimizer"]) == ("AdamW", 3e-4, 0.05)
    assert made["lr_config"]["warmup_iters"] == 21 and made["lr_config"]["step"] == [8, 11]
    assert plan("finetune", iterations=100_000)["lr_config"]["warmup_iters"] == 500
    assert plan("finetune", iterations=3)["lr_config"]["warmup_iters"] == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_mmcv_builds_every_optimizer_and_a_plan_can_be_made_again(recipe):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    made = plan(recipe, backbone="swin_t")
    assert isinstance(build_optimizer(model, dict(made["optimizer"])), torch.optim.Optimizer)
    assert plan(recipe, backbone="swin_t") == made  # nothing that mmcv pops reaches the shipped config


def test_finetune_decays_no_norm():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, dict(plan("finetune")["optimizer"]))
    decay = {id(group["params"][0]): group["weight_decay"] for group in optimizer.param_groups}
    assert decay[id(model[1].weight)] == 0 and decay[id(model[0].weight)] == 0.05


def test_an_unknown_recipe_lists_what_there_is():
    with pytest.raises(ValueError, match="unknown recipe 'adam'.*official.*seed.*finetune"):
        find_recipe("adam")
    assert set(DETECTORS) >= set(OWN)
