"""Anchors of other scales and ratios, as many as before, fitted to the objects of train under the detector's own assigner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbook.remedies.base import DENSE, FITTED, TWO_STAGE, Context, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config

    from workbook.remedies.anchors import InputImage, Reached

Fitted = dict[str, Any]  # keys of the anchor generator and their values
FACTORS = tuple(2 ** (step / 2) for step in range(-6, 3))  # of the default scales: an eighth to twice
COMPARED, CHECKED = 25, 500  # images of train, evenly spread: to compare the candidates, and to hold the best against the default


def apply(config: Config, context: Context) -> None:
    """Write the fitted scales and ratios; where none teaches more objects than the default, the default stays."""
    from workbook.remedies.anchors import anchor_head_config

    head = anchor_head_config(config)
    if head is not None:
        head.anchor_generator.update(fit(config))


def fit(config: Config) -> Fitted:
    """What to change in the anchor generator; empty where no candidate is better than the default.

    Better is, in this order: more objects with a positive, a higher mean IoU of each object with its best anchor. On all images of
    train up to 500, else on 500 that are evenly spread. The same config and file give the same anchors; a process fits them once.
    """
    from workbook.models.weights import sha256

    train = config.data.train
    asked = {"model": config.model, "train": train, "val": config.data.val.pipeline, "file": sha256(Path(train.ann_file))}
    key = json.dumps(asked, sort_keys=True, default=str)
    if key not in _FITTED:
        _FITTED[key] = _fit(config)
    return dict(_FITTED[key])


_FITTED: dict[str, Fitted] = {}


def _fit(config: Config) -> Fitted:
    from workbook.remedies.anchors import anchor_head_config, build_anchor_head, input_images, reached, spread

    head_config = anchor_head_config(config)
    images = input_images(config)
    if head_config is None or not images:
        return {}
    head = build_anchor_head(config, head_config)
    default = head_config.anchor_generator
    best = _best(head, default, spread(images, COMPARED))
    checked = spread(images, CHECKED)
    is_better = reached(head, {**default, **best}, checked) > reached(head, default, checked)
    return best if is_better else {}


def _best(head: Any, default: Any, images: list[InputImage]) -> Fitted:
    """The best scales with the default ratios, then with the objects' own ratios at these scales and the next ones."""
    from workbook.remedies.anchors import reached

    def goodness(change: Fitted) -> Reached:
        return reached(head, {**default, **change}, images)

    factors = sorted(FACTORS, key=lambda factor: abs(np.log(factor)))  # of equals the one nearest to the default
    scores = {factor: goodness(_scaled(default, factor)) for factor in factors}
    best = max(factors, key=lambda factor: scores[factor])
    place = FACTORS.index(best)
    ratios = ratios_of(images, len(default.ratios))
    fitted = [{**_scaled(default, factor), "ratios": ratios} for factor in FACTORS[max(place - 1, 0) : place + 2]]
    return max([_scaled(default, best), *fitted], key=goodness)


def ratios_of(images: list[InputImage], count: int) -> list[float]:
    """So many ratios height / width, evenly spread over those of the objects."""
    boxes_xyxy = np.concatenate([image.gt_boxes_xyxy for image in images])
    width, height = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).T
    shares = (np.arange(count) + 0.5) / count
    return np.exp(np.quantile(np.log(height / width), shares)).clip(0.1, 10).round(2).tolist()


def _scaled(default: Any, factor: float) -> Fitted:
    """The scales times the factor, as many as before: in the key by which this generator has them."""
    if default.get("scales"):
        return {"scales": [round(scale * factor, 2) for scale in default.scales]}
    return {"octave_base_scale": round(default.octave_base_scale * factor, 2)}


def misfit(config: Config) -> str | None:
    """VFNet's assigner (ATSS) adapts its threshold to each object, whatever the anchors."""
    from workbook.remedies.anchors import anchor_head_config

    head = anchor_head_config(config)
    if head is None or head.get("use_atss"):
        return f"{config.model.type} has no anchors to fit: its assigner takes the points nearest to an object. Use finer_level"
    return None


FITTED_ANCHORS = Remedy(
    key="fitted_anchors",
    title="Fitted anchors",
    about="scales and ratios that give the most objects of train a positive under the detector's own assigner, as many anchors as before",
    stages=("proposals", "candidates", "box"),
    families=(TWO_STAGE, DENSE),
    trains=True,
    cost="seconds to a minute before the training; none in training and at inference",
    sources=(
        Source("github.com/Chasel-Tsui/mmdet-rfla#4", "Faster R-CNN on AI-TOD: 11.1 AP with scales=[8], 20.9 with the best scales"),
        Source("github.com/TianwenZhang0825/LS-SSDD-v1.0-OPEN#3", "ships: AP50 .599 to .672, detections 2,723 to 5,282"),
    ),
    traps=(
        "smaller anchors mean more false alarms: look at ranking",
        "large objects may lose theirs: look at AP_l",
        "where images lack pixels, larger_images does more",
    ),
    apply=apply,
    misfit=misfit,
    order=FITTED,
)
