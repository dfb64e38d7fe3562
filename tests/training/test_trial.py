"""Overrides that mmdet refuses only in the first step are refused before it, with the reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from scenes import make_dataset
from small_run import NARROW, SMALL
from workbook.data.catalog import Dataset
from workbook.errors import ParameterError
from workbook.models.detectors import DETECTORS
from workbook.training.job import Job, prepare
from workbook.training.parameters import check_parameters
from workbook.training.trial import require_trainable


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    return make_dataset(tmp_path / "data", "scenes", train_images=3, val_images=2)


def job(overrides: str, **changed: Any) -> Job:
    return prepare(check_parameters({**SMALL, "overrides": overrides, **changed}))


@pytest.mark.parametrize(("overrides", "reason"), [
    # in the first step
    ("model.train_cfg.rpn.sampler.num=64.5", "TypeError"),
    ("model.train_cfg.rcnn.pos_weight=None", "TypeError"),
    ("model.roi_head.bbox_head.loss_cls.loss_weight=None", "TypeError"),
    # in the first validation
    ("model.test_cfg.rcnn.max_per_img=7.5", "TypeError"),
    ("model.test_cfg.rcnn.score_thr=None", "TypeError"),
    # when the first image is read
    ("data.train.pipeline.1.with_bbox=False", "KeyError"),
    ("data.val.pipeline.7.keys=['img','gt_masks']", "KeyError"),
    ("data.train.pipeline.3.flip_ratio=[.25,.25]", "`assert len(self.flip_ratio) == len(self.direction)` does not hold"),
    ("data.train.pipeline.3.flip_ratio=1.5", "`assert 0 <= flip_ratio <= 1` does not hold"),
    ("model.rpn_head.anchor_generator.scales=None", "scales and octave_base_scale with scales_per_octave cannot be set"),
])
def test_what_would_stop_a_training_stops_before_it(overrides: str, reason: str) -> None:
    words = "overrides: no detector can be built and trained with them (" + reason
    with pytest.raises(ParameterError, match=re.escape(words).replace(r"with\ them\ \(", r"with\ them\ \(.*")):
        job(f"{NARROW} {overrides}")


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_passes_as_it_is_shipped(detector: str) -> None:
    asked = job("", detector=detector, backbone="resnet18", recipe="seed", pretrained="none")
    require_trainable(asked.config, "overrides", 3)


def test_the_steps_are_counted_by_the_images_that_are_trained_on() -> None:
    asked = job("")
    with pytest.raises(ValueError, match="they leave 3 train images of 5"):
        require_trainable(asked.config, "overrides", 5)
