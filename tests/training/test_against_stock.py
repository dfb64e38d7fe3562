"""The workbook's training and validation beside stock mmdet's: the same losses for 20 steps, the same AP on the same weights."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.runner import LogBuffer, OptimizerHook, build_optimizer
from mmdet.apis import single_gpu_test
from mmdet.datasets import build_dataloader, build_dataset
from mmdet.models import build_detector
from mmdet.utils import build_dp

from bench.stock import stock_config
from scenes import make_dataset
from small_run import NARROW, SMALL
from workbook.evaluation.coco_metrics import evaluate
from workbook.models.backbones import find_backbone
from workbook.models.config import build_model
from workbook.models.detectors import find_detector
from workbook.models.precision import set_precision
from workbook.models.recipes import Setting, find_recipe
from workbook.training.job import prepare
from workbook.training.loader import batches
from workbook.training.loop import Training
from workbook.training.parameters import check_parameters
from workbook.training.schedule import parse_schedule, set_lr
from workbook.training.signals import StopSignals
from workbook.training.trackers import Tracker
from workbook.training.train import train
from workbook.training.validation import as_coco

STEPS = 20
LOSSES = ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Faster R-CNN, narrow, on one class of large crosses; five epochs of four steps."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("stock")
        patch.setenv("WORKBOOK_DATA", str(root / "data"))
        patch.setenv("WORKBOOK_OUTPUTS", str(root / "outputs"))
        make_dataset(root / "data", "scenes", train_images=8, val_images=4)
        yield prepare(check_parameters({**SMALL, "epochs": 5}))


def stock_model(job: Any, weights: dict[str, torch.Tensor]) -> Any:
    model = build_detector(copy.deepcopy(stock_config(job.config).model))
    model.load_state_dict(weights)
    model.CLASSES = job.config.classes
    return model


def test_the_losses_of_20_steps_are_stock_mmdets(job: Any) -> None:
    """Along 20 steps of stock's training with the recipe of the first experiments, each step from stock's weights of that moment.

    Left to themselves the trainings part at the first step in which a proposal near a tie changes sides, as after any other rounding.
    Channels-last rounds before the proposals are chosen, so there the losses of the RoIs are held to it in most steps only.
    """
    start = torch.load(train(job).best_checkpoint, weights_only=True)["state_dict"]
    stock, ours = stock_model(job, start).train(), build_model(job.config).train()
    channels_last = set_precision(build_model(job.config), job.device, "fp32").train()
    assert type(stock.roi_head.bbox_roi_extractor).__name__ == "SingleRoIExtractor"
    recipe = find_recipe("seed").schedule(Setting(find_detector("faster_rcnn"), find_backbone("resnet18"), 2, 5, STEPS))
    optimizer, schedule = build_optimizer(stock, recipe["optimizer"]), parse_schedule(recipe["lr_config"])
    losses = []
    for step, batch in enumerate(batches_of(job)):
        weights, values = copy.deepcopy(stock.state_dict()), []
        for model in (stock, ours, channels_last):
            model.load_state_dict(weights)
            torch.manual_seed(step)  # the sampler of RoIs draws
            loss, log_vars = model._parse_losses(model.forward_train(**copy.deepcopy(batch)))
            model.zero_grad()
            loss.backward()
            values.append([log_vars[key] for key in LOSSES])
        gradient, plain, last = (torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
                                 for model in (stock, ours, channels_last))
        assert (plain - gradient).norm() <= 1e-4 * gradient.norm()
        if np.allclose(values[2], values[0], rtol=1e-4, atol=0):
            assert (last - gradient).norm() <= 1e-2 * gradient.norm()
        losses.append(values)
        set_lr(optimizer, schedule.factor(step // 4, step))
        optimizer.step()
    of_stock, of_plain, of_last = np.array(losses).transpose(1, 0, 2)  # each [steps, losses]
    assert of_stock[:4, 4].mean() > of_stock[-4:, 4].mean()  # something was learnt
    np.testing.assert_allclose(of_plain, of_stock, rtol=1e-4)
    np.testing.assert_allclose(of_last[:, :2], of_stock[:, :2], rtol=1e-4)
    same = np.isclose(of_last, of_stock, rtol=1e-4, atol=0).all(axis=1)
    assert same.sum() >= 15


@pytest.mark.parametrize("max_norm", [0.5, None])
def test_the_steps_of_a_training_move_the_weights_as_stock_mmdets_do(job: Any, max_norm: float | None) -> None:
    """The training's own step beside mmcv's OptimizerHook, which clips; each from stock's weights and momentum."""
    clip = None if max_norm is None else {"max_norm": max_norm}
    overrides = f"{NARROW} optimizer_config.grad_clip={json.dumps(clip).replace(' ', '')}".replace("null", "None")
    clipped = prepare(check_parameters({**SMALL, "epochs": 5, "recipe": "seed", "overrides": overrides}))
    training = Training(clipped, clipped.open_run(), Tracker(), StopSignals(), lambda: None)
    training.model.train()
    stock = stock_model(clipped, training.model.state_dict()).train()
    optimizer, hook = build_optimizer(stock, clipped.config.optimizer), OptimizerHook(grad_clip=clip)
    norms, same = [], 0
    for step, batch in enumerate(batches_of(job)[:8]):
        before = copy.deepcopy(stock.state_dict())
        training.model.load_state_dict(before)
        training.optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        torch.manual_seed(step)
        log_vars = training._train_step(copy.deepcopy(batch), 0.002)
        torch.manual_seed(step)
        loss, expected = stock._parse_losses(stock.forward_train(**copy.deepcopy(batch)))
        outputs = {"loss": loss, "num_samples": 2}
        runner = SimpleNamespace(model=stock, optimizer=optimizer, outputs=outputs, log_buffer=LogBuffer())
        hook.after_train_iter(runner)
        norms.append(runner.log_buffer.val_history.get("grad_norm", [0.0])[-1])
        ours, mmcvs = (moved(model, before) for model in (training.model, stock))
        if all(log_vars[key] == pytest.approx(expected[key], rel=1e-4) for key in LOSSES):
            same += 1
            assert (ours - mmcvs).norm() <= 2e-2 * mmcvs.norm()
    assert same >= 5
    assert clip is None or min(norms) > 2 * clip["max_norm"]  # each of these steps was clipped


def batches_of(job: Any) -> list[dict[str, Any]]:
    """20 batches of two images."""
    train_set = build_dataset(job.config.data.train)
    return [batch for epoch in range(STEPS // 4) for batch in batches(train_set, 2, 0, epoch, job.device)]


def moved(model: Any, before: dict[str, torch.Tensor]) -> torch.Tensor:
    """By how much each weight that is trained has changed."""
    return torch.cat([(p.detach() - before[name]).flatten() for name, p in model.named_parameters() if p.requires_grad])


def test_the_ap_of_a_checkpoint_is_stock_mmdets(job: Any) -> None:
    """The truth is every second thing that the run itself has found, moved a little: so its AP is far from 0 and from 1."""
    run = train(job)
    config = stock_config(job.config)
    state = torch.load(run.best_checkpoint, weights_only=True)["state_dict"]
    dataset = build_dataset(config.data.test)
    loader = build_dataloader(dataset, 1, workers_per_gpu=0, dist=False, shuffle=False)
    found = single_gpu_test(build_dp(stock_model(job, state), "cpu"), loader)
    stock = [one for image, boxes in zip(dataset.img_ids, found, strict=True) for one in as_coco(boxes, image, dataset.cat_ids)]
    ours = json.loads((run.folder / "predictions.json").read_text())
    assert len(ours) == len(stock) > 20
    truth = json.loads(job.dataset.val_json.read_text())
    truth["annotations"] = [
        {"id": number, "image_id": one["image_id"], "category_id": one["category_id"], "iscrowd": 0,
         "area": one["bbox"][2] * one["bbox"][3], "bbox": [one["bbox"][0] + 2, *one["bbox"][1:]]}
        for number, one in enumerate(stock[::2], start=1)
    ]
    figures = [evaluate(truth, detections).metrics for detections in (ours, stock)]
    assert 0.1 < figures[1]["bbox_mAP"] < 0.9
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)
