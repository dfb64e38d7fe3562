"""The learning rate of every iteration against mmcv's own hook, run by mmcv's own runner."""

import logging
import re

import numpy as np
import pytest
import torch
from mmcv.runner import EpochBasedRunner, Hook, build_optimizer
from torch import nn

from workbook.models.backbones import find_backbone
from workbook.models.detectors import find_detector
from workbook.models.recipes import RECIPES, Setting
from workbook.training.schedule import StepSchedule, merged_groups, parse_schedule, set_lr, warmup_warning

SEED = {"policy": "step", "step": [8, 11], "warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001}


class Dummy(nn.Module):
    """A model that mmcv's runner can train, with two parameters so that there can be two groups."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def train_step(self, batch, optimizer, **_):
        return {"loss": self.weight.sum(), "log_vars": {}, "num_samples": 1}


class Recorder(Hook):
    """The lr of each group in each iteration, as the optimizer would use it."""

    def __init__(self):
        self.rates = []

    def after_train_iter(self, runner):
        self.rates.append([group["lr"] for group in runner.optimizer.param_groups])


def groups(model):
    return torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.0002}], lr=0.002)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """mmcv's runner sleeps two seconds before every epoch."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def mmcv_rates(tmp_path, lr_config, epochs, length):
    """[iteration][group]: what mmcv sets."""
    model, recorder = Dummy(), Recorder()
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)
    runner = EpochBasedRunner(model, optimizer=groups(model), work_dir=str(tmp_path), logger=quiet, max_epochs=epochs)
    runner.register_lr_hook(dict(lr_config))
    runner.register_hook(recorder, priority="VERY_LOW")
    runner.run([[None] * length], [("train", 1)])
    return recorder.rates


def our_rates(lr_config, epochs, length):
    optimizer, schedule = groups(Dummy()), parse_schedule(lr_config)
    rates = []
    for iteration in range(epochs * length):
        logged = set_lr(optimizer, schedule.factor(iteration // length, iteration))
        rates.append([group["lr"] for group in optimizer.param_groups])
        assert logged == rates[-1][0]
    return rates


def assert_same_but_for_the_last_digit(ours, mmcvs):
    """Where a milestone falls into the warm-up, mmcv multiplies in another order: the last of 16 digits may differ."""
    np.testing.assert_allclose(np.array(ours), np.array(mmcvs), rtol=1e-15, atol=0)


@pytest.mark.parametrize("length", [500, 97, 18])
def test_seed_is_the_original_schedule_to_the_digit(tmp_path, length):
    # 500: warm-up over before the first milestone; 97: it ends inside epoch 6; 18: it outlasts the training
    setting = Setting(find_detector("faster_rcnn"), find_backbone("resnet50"), batch_size=2, epochs=12, iterations=12 * length)
    plan = RECIPES["seed"].schedule(setting)
    assert plan["lr_config"] == SEED
    assert plan["optimizer"] == {"type": "SGD", "lr": 0.002, "momentum": 0.9, "weight_decay": 0.0001}
    ours, mmcvs = our_rates(plan["lr_config"], 12, length), mmcv_rates(tmp_path, plan["lr_config"], 12, length)
    assert len(ours) == 12 * length
    if length >= 97:
        assert ours == mmcvs
    else:
        assert_same_but_for_the_last_digit(ours, mmcvs)
    assert ours[0] == [pytest.approx(0.002 * 0.001), pytest.approx(0.0002 * 0.001)]
    assert ours[-1][0] == pytest.approx(0.002 * 0.01 if length * 12 > 500 else 0.002 * 0.01 * (0.001 + 0.999 * 215 / 500))


@pytest.mark.parametrize(
    "changes",
    [{}, {"warmup": None}, {"step": [1]}, {"step": [2, 3, 4]}, {"gamma": 0.5}, {"warmup_iters": 7, "warmup_ratio": 0.1},
     {"step": []}, {"gamma": 1}, {"warmup": None, "warmup_iters": None, "warmup_ratio": None}],
    ids=str,
)
def test_every_allowed_schedule_equals_mmcvs(tmp_path, changes):
    lr_config = {**SEED, "warmup_iters": 10, "step": [3, 5], **changes}
    if lr_config["warmup_ratio"] is None:
        lr_config = {key: value for key, value in lr_config.items() if value is not None}
    assert_same_but_for_the_last_digit(our_rates(lr_config, 6, 5), mmcv_rates(tmp_path, lr_config, 6, 5))


def test_every_recipe_gives_an_allowed_schedule():
    for recipe in RECIPES.values():
        for backbone in ("resnet50", "swin_t"):
            setting = Setting(find_detector("faster_rcnn"), find_backbone(backbone), batch_size=2, epochs=3, iterations=54)
            parse_schedule(recipe.schedule(setting)["lr_config"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "CosineAnnealing"}, "policy='CosineAnnealing'. Allowed: step"),
        ({"warmup": "exp"}, "warmup='exp'. Allowed: linear, or None"),
        ({"min_lr": 1e-6}, "min_lr: unknown key. Known: gamma, policy, step, warmup"),
        ({"step": [8.5]}, "step=[8.5]. Allowed: a list of epochs, whole numbers from 1 in rising order"),
        ({"step": 8}, "step=8. Allowed: a list of epochs"),
        ({"step": [0, 8]}, "step=[0, 8]. Allowed"),
        ({"step": "8,11"}, "step='8,11'. Allowed"),
        ({"step": [True, 8]}, "step=[True, 8]. Allowed"),
        ({"step": [11, 8]}, "step=[11, 8]. Allowed: a list of epochs, whole numbers from 1 in rising order"),
        ({"step": [8, 8]}, "step=[8, 8]. Allowed"),
        ({"step": None}, "step=None. Allowed"),
        ({"gamma": "abc"}, "gamma='abc'. Allowed: a number above 0 and at most 1"),
        ({"gamma": 0}, "gamma=0. Allowed"),
        ({"gamma": 1.5}, "gamma=1.5. Allowed"),
        ({"gamma": float("nan")}, "gamma=nan. Allowed"),
        ({"gamma": None}, "gamma=None. Allowed"),
        ({"warmup_iters": None}, "warmup_iters is missing, which warmup=linear needs. Allowed: a whole number"),
        ({"warmup_iters": 0}, "warmup_iters=0. Allowed: a whole number of steps from 1; without a warm-up"),
        ({"warmup_iters": 10.5}, "warmup_iters=10.5. Allowed"),
        ({"warmup_iters": "500"}, "warmup_iters='500'. Allowed"),
        ({"warmup_ratio": None}, "warmup_ratio is missing, which warmup=linear needs. Allowed: a number above 0"),
        ({"warmup_ratio": 0.0}, "warmup_ratio=0.0. Allowed"),
        ({"warmup_ratio": float("inf")}, "warmup_ratio=inf. Allowed"),
    ],
    ids=str,
)
def test_another_schedule_is_refused_and_not_approximated(changes, message):
    with pytest.raises(ValueError, match=re.escape(f"lr_config.{message}")):
        parse_schedule({**SEED, **changes})


def test_what_is_missing_is_named_and_all_that_is_wrong_at_once():
    with pytest.raises(ValueError, match="lr_config.warmup_iters is missing.*Give both, e.g. lr_config.warmup_iters"):
        parse_schedule({"policy": "step", "step": [8], "warmup": "linear"})  # as on DETR's, which has none
    with pytest.raises(ValueError, match="lr_config.step is missing. Allowed: a list"):
        parse_schedule({"policy": "step"})
    with pytest.raises(ValueError, match="lr_config.gamma='abc'.*; lr_config.warmup_ratio=2"):
        parse_schedule({**SEED, "gamma": "abc", "warmup_ratio": 2})


def test_a_schedule_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        parse_schedule(SEED).gamma = 0.5


def test_a_warmup_that_fills_the_training_is_reported():
    schedule = StepSchedule(policy="step", step=(8,), warmup="linear", warmup_iters=500, warmup_ratio=0.001)
    assert "takes 500 of the 149 steps" in warmup_warning(schedule, 149)
    assert warmup_warning(schedule, 1000) is None
    assert warmup_warning(schedule.model_copy(update={"warmup": None}), 10) is None


def test_parameters_of_equal_settings_share_a_group():
    """As AdamW with no decay for norms: mmcv's group for every parameter becomes two, and every step stays what it was."""
    def trained(merge):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        config = dict(type="AdamW", lr=0.1, weight_decay=0.3, paramwise_cfg=dict(norm_decay_mult=0.0))
        optimizer = build_optimizer(model, config)
        optimizer = merged_groups(optimizer) if merge else optimizer
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).square().sum().backward()
            set_lr(optimizer, 0.5)
            optimizer.step()
        return optimizer, [parameter.detach() for parameter in model.parameters()]

    (apart, before), (merged, after) = trained(False), trained(True)
    assert len(apart.param_groups) == 6
    assert [(len(group["params"]), group["weight_decay"]) for group in merged.param_groups] == [(4, 0.3), (2, 0.0)]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
