"""Planted scenes: a real mmdet detector whose networks are replaced by a script, so that it fails where a test wants it to.

The image itself says which scene it is: every pixel has the scene's number, the "backbone" hands it on, and the heads look the
script up. Anchors, top-k, NMS, box coding, thresholds and limits are mmdet's own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv import ConfigDict
from mmdet.core import bbox_overlaps
from mmdet.models import build_detector
from torch import Tensor, nn

from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.models.recipes import shipped_config

SIDE = 256
CLASSES = ("cat", "dog", "owl")
Box = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Answer:
    """What the script says about one place. `scores` has a probability a class, the rest is background."""

    box: Box  # where it stands: proposal, or predicted box
    scores: dict[str, float] = field(default_factory=dict)
    to: Box | None = None  # the box after regression, when it differs
    objectness: float = 0.9  # of the proposal; at 0 it is never proposed
    level: int | None = None  # the feature level that proposes it


@dataclass(frozen=True)
class Scene:
    """One image: truths as (box, class) and the script's answers."""

    truths: Sequence[tuple[Box, str]]
    answers: Sequence[Answer]


def write_scenes(folder: Path, scenes: Sequence[Scene], crowds: Sequence[tuple[int, Box, str]] = ()) -> OrderedCocoDataset:
    """The scenes as a COCO dataset: image k (from 1) is a picture of the value k. crowds: (scene number, box, class)."""
    folder.mkdir(parents=True, exist_ok=True)
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes, start=1):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((SIDE, SIDE, 3), number, np.uint8))
        marked = [(*truth, 0) for truth in scene.truths] + [(box, label, 1) for at, box, label in crowds if at == number]
        for (x1, y1, x2, y2), label, crowd in marked:
            annotations.append({
                "id": 100 + len(annotations), "image_id": number, "category_id": 10 * (1 + CLASSES.index(label)),
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": crowd,
            })
    truth = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in range(1, len(scenes) + 1)],
        "categories": [{"id": 10 * n, "name": name} for n, name in enumerate(CLASSES, start=1)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return OrderedCocoDataset(
        ann_file=str(folder / "truth.json"), img_prefix=str(folder), classes=CLASSES, test_mode=True,
        pipeline=pipeline((SIDE, SIDE)),
    )


def pipeline(scale: tuple[int, int]) -> list[dict[str, Any]]:
    """The run's validation pipeline, without normalization."""
    return [
        dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", img_scale=scale, keep_ratio=True), dict(type="RandomFlip", flip_ratio=0.0),
        dict(type="Normalize", mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False), dict(type="Pad", size_divisor=32),
        dict(type="DefaultFormatBundle"), dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
    ]


def small_detector(path: str, **test_cfg: Any) -> nn.Module:
    """mmdet's detector of this config with a ResNet-18 and random weights; see `small_config`."""
    return build_detector(small_config(path, **test_cfg)).eval()


def small_config(path: str, **test_cfg: Any) -> ConfigDict:
    """mmdet's model config with a ResNet-18 and our classes. test_cfg: values of its (RoI head's) test config."""
    model = copy.deepcopy(shipped_config(path).model)
    model.pop("pretrained", None)
    model.backbone.update(depth=18, init_cfg=None)
    if "roi_head" in model:
        model.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True  # mmcv's RoIAlign takes 4 times as long
        model.test_cfg.rpn.update(nms_pre=300, max_per_img=300)
    channels = [64, 128, 256, 512]
    if model.get("neck"):
        model.neck.in_channels = [channels[index] for index in model.backbone.out_indices]
    else:
        model.bbox_head.in_channels = channels[-1]
    heads = model.roi_head.bbox_head if "roi_head" in model else model.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.num_classes = len(CLASSES)
    part = model.test_cfg.rcnn if "rcnn" in model.test_cfg else model.test_cfg
    part.update(ConfigDict(test_cfg))
    return model


class Pixels(nn.Module):
    """A backbone that sees the value of the first pixel, on maps of these strides."""

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = strides

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[-2:]
        return tuple(images[:, :1, :1, :1].expand(-1, 1, -(-height // s), -(-width // s)) for s in self.strides)


def scripted_rcnn(scenes: Sequence[Scene], *, rpn: dict[str, Any] | None = None, **test_cfg: Any) -> nn.Module:
    """Faster R-CNN by script. Anchors that the script does not use propose specks; RoIs that it does not know are background."""
    model = small_detector("faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py", **test_cfg)
    model.backbone = Pixels([stride[0] for stride in model.rpn_head.prior_generator.strides])
    model.neck = None
    model.rpn_head.test_cfg.update(ConfigDict(rpn or {}))

    def propose(features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        sizes = [level.shape[-2:] for level in features]
        anchors = model.rpn_head.prior_generator.grid_priors(sizes, device="cpu")
        scores = [torch.full((len(level),), -5.0) for level in anchors]
        deltas = [torch.tensor([0.0, 0.0, -10.0, -10.0]).repeat(len(level), 1) for level in anchors]
        used: set[tuple[int, int]] = set()
        for answer in _scene(scenes, features).answers:
            if not answer.objectness:
                continue
            box = torch.tensor([answer.box])
            level, place = _free_anchor(anchors, box, used, answer.level)
            used.add((level, place))
            scores[level][place] = torch.tensor(answer.objectness).logit()
            deltas[level][place] = model.rpn_head.bbox_coder.encode(anchors[level][place][None], box)[0]
        shaped = [(s.reshape(1, *size, -1), d.reshape(1, *size, -1)) for s, d, size in zip(scores, deltas, sizes, strict=True)]
        return [s.permute(0, 3, 1, 2) for s, _ in shaped], [d.permute(0, 3, 1, 2) for _, d in shaped]

    def answer_rois(features: Sequence[Tensor], rois: Tensor) -> dict[str, Any]:
        answers = _scene(scenes, features).answers
        logits = torch.full((len(rois), len(CLASSES) + 1), -20.0)
        logits[:, -1] = 20.0
        deltas = torch.zeros(len(rois), 4 * len(CLASSES))
        fit = bbox_overlaps(rois[:, 1:], torch.tensor([a.box for a in answers]).reshape(-1, 4))
        for number, roi in enumerate(rois[:, 1:]):
            if not len(answers) or fit[number].max() < 0.9:
                continue
            answer = answers[int(fit[number].argmax())]
            logits[number] = _probabilities(answer).log()
            target = torch.tensor([answer.to or answer.box])
            deltas[number] = model.roi_head.bbox_head.bbox_coder.encode(roi[None], target).repeat(1, len(CLASSES))[0]
        return {"cls_score": logits, "bbox_pred": deltas, "bbox_feats": None}

    model.rpn_head.forward = propose
    model.roi_head._bbox_forward = answer_rois
    return model


def scripted_vfnet(scenes: Sequence[Scene], **test_cfg: Any) -> nn.Module:
    """VFNet by script: each answer is given by the free point nearest to its box's center; all other points see nothing."""
    model = small_detector("vfnet/vfnet_r50_fpn_1x_coco.py", **test_cfg)
    model.backbone, model.neck, head = Pixels(model.bbox_head.strides), None, model.bbox_head

    def predict(features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        sizes = [level.shape[-2:] for level in features]
        points = head.prior_generator.grid_priors(sizes, device="cpu")
        logits = [torch.full((len(level), len(CLASSES)), -20.0) for level in points]
        distances = [torch.full((len(level), 4), 0.01) for level in points]
        used: set[tuple[int, int]] = set()
        for answer in _scene(scenes, features).answers:
            box = torch.tensor(answer.to or answer.box)
            level = answer.level or 0
            away = (points[level][:, :2] - (box[:2] + box[2:]) / 2).square().sum(dim=1)
            place = next(int(p) for p in away.argsort() if (level, int(p)) not in used)
            used.add((level, place))
            logits[level][place] = _probabilities(answer)[:-1].logit()
            point = points[level][place]
            distances[level][place] = torch.cat([point - box[:2], box[2:] - point])
        shape = [(1, *size, -1) for size in sizes]
        return ([x.reshape(s).permute(0, 3, 1, 2) for x, s in zip(logits, shape, strict=True)],
                [x.reshape(s).permute(0, 3, 1, 2) for x, s in zip(distances, shape, strict=True)])

    head.forward = predict
    return model


def scripted_detr(scenes: Sequence[Scene], **test_cfg: Any) -> nn.Module:
    """DETR by script: the first queries are the answers, the others look at a corner and see nothing."""
    model = small_detector("detr/detr_r50_8x2_150e_coco.py", **test_cfg)
    model.backbone, head = Pixels([32]), model.bbox_head

    def predict(features: Sequence[Tensor], metas: Any) -> tuple[list[Tensor], list[Tensor]]:
        logits = torch.full((1, 1, head.num_query, len(CLASSES) + 1), -20.0)
        logits[..., -1] = 20.0
        boxes_cxcywh = torch.tensor([0.995, 0.995, 0.002, 0.002]).repeat(1, 1, head.num_query, 1)
        for query, answer in enumerate(_scene(scenes, features).answers):
            x1, y1, x2, y2 = answer.to or answer.box
            logits[0, 0, query] = _probabilities(answer).log()
            boxes_cxcywh[0, 0, query] = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]) / SIDE
        return [logits], [boxes_cxcywh]

    head.forward = predict
    return model


def _scene(scenes: Sequence[Scene], features: Sequence[Tensor]) -> Scene:
    return scenes[int(features[0].flatten()[0]) - 1]


def _probabilities(answer: Answer) -> Tensor:
    """[classes + 1], the last is background."""
    own = torch.tensor([answer.scores.get(name, 0.0) for name in CLASSES])
    return torch.cat([own, 1 - own.sum(dim=0, keepdim=True)]).clamp(min=1e-7)


def _free_anchor(anchors: Sequence[Tensor], box: Tensor, used: set[tuple[int, int]], level: int | None) -> tuple[int, int]:
    """The unused anchor that overlaps the box most, of this level or of any."""
    levels = range(len(anchors)) if level is None else (level,)
    places = [(number, place) for number in levels for place in range(len(anchors[number]))]
    fit = torch.cat([bbox_overlaps(box, anchors[number])[0] for number in levels])
    return next(places[row] for row in fit.argsort(descending=True).tolist() if places[row] not in used)
