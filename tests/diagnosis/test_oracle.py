"""The replays: what each does to a pool of answers, and that a real detector is read to the last digit."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.parallel import collate
from torch import nn

from coco_cases import coco, detection, pycocotools_metrics, truth_box
from planted import Scene, scripted_rcnn, small_detector, write_scenes
from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.diagnosis.diagnose import diagnose
from workbook.diagnosis.family import family_by_key, family_of
from workbook.diagnosis.oracle import (
    Candidates,
    ImageObjects,
    Replay,
    Suppressed,
    first_of_each,
    oracle_box,
    oracle_candidates,
    oracle_class,
    oracle_ranking,
    oracle_suppression,
    rank_in_group,
)
from workbook.diagnosis.waterfall import REAL, detections_of, replays
from workbook.evaluation.boxes import iou_table
from workbook.training.validation import as_coco

DETECTORS = {
    "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py": ("two_stage", {"score_thr": 0.0}),
    "cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco.py": ("two_stage", {"score_thr": 0.3}),
    "retinanet/retinanet_r50_fpn_1x_coco.py": ("dense", {"score_thr": 0.01, "nms_pre": 300}),
    "vfnet/vfnet_r50_fpn_1x_coco.py": ("dense", {"score_thr": 0.01, "nms_pre": 300}),
    "detr/detr_r50_8x2_150e_coco.py": ("query", {}),
    "deformable_detr/deformable_detr_r50_16x2_50e_coco.py": ("query", {}),
}
TRUTHS = [
    ((20.0, 20.0, 60.0, 60.0), "cat"), ((100.0, 100.0, 120.0, 125.0), "dog"), ((112.0, 100.0, 132.0, 125.0), "dog"),
    ((150.0, 30.0, 250.0, 140.0), "owl"), ((3.0, 150.0, 40.5, 170.25), "cat"),
]


def untrained(path: str, **test_cfg: Any) -> nn.Module:
    """A detector before its training, its class layers spread so that its scores differ."""
    torch.manual_seed(3)
    model = small_detector(path, **test_cfg)
    logging.disable()  # mmcv lists every tensor
    model.init_weights()  # deformable_detr's level embeddings are raw memory before
    logging.disable(logging.NOTSET)
    for name, weight in model.named_parameters():
        if any(part in name for part in ("fc_cls.weight", "retina_cls.weight", "vfnet_cls.weight", "rpn_cls.weight", "fc_reg.weight")):
            nn.init.normal_(weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> OrderedCocoDataset:
    """Two images of noise, one without objects, that the pipeline enlarges by an odd factor."""
    import cv2

    folder = tmp_path_factory.mktemp("photos")
    dataset = write_scenes(folder, [Scene(TRUTHS, []), Scene([], [])])
    for number in (1, 2):
        noise = np.random.default_rng(number).integers(0, 255, (256, 256, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    next(t for t in dataset.pipeline.transforms if type(t).__name__ == "Resize").img_scale = [(275, 275)]
    normalize = next(t for t in dataset.pipeline.transforms if type(t).__name__ == "Normalize")
    normalize.mean, normalize.std = np.full(3, 127.0, np.float32), np.full(3, 60.0, np.float32)
    return dataset


@pytest.mark.parametrize("path", DETECTORS)
def test_a_real_detector_is_read_to_the_last_digit(path: str, photos: OrderedCocoDataset) -> None:
    family, test_cfg = DETECTORS[path]
    model = untrained(path, **test_cfg)
    assert family_of(model).key == family
    diagnosis = diagnose(model, photos, photos, resamples=2)
    expected: list[dict[str, Any]] = []
    for index in range(len(photos)):
        batch = collate([photos.with_truth(index)], samples_per_gpu=1)
        image, meta = batch["img"].data[0], batch["img_metas"].data[0]
        meta[0]["batch_input_shape"] = tuple(image.shape[-2:])
        with torch.no_grad():
            boxes_by_class = model.simple_test(image, meta, rescale=True)[0]
        expected += as_coco(boxes_by_class, photos.img_ids[index], photos.cat_ids)
    assert len(expected) > 20
    columns = ["image_id", "category_id", "score", "bbox"]
    found = [dict(zip(columns, row, strict=True)) for row in diagnosis.detections[columns].itertuples(index=False)]
    assert sorted(map(flat, found)) == sorted(map(flat, expected))
    for sizes in diagnosis.waterfall.metrics.values():
        for size in sizes.values():
            assert sum(cost.shapley for cost in size.stages) == pytest.approx(1 - size.ap, abs=1e-9)
            assert size.cost("not counted").shapley == 0
    assert len(diagnosis.trace) == len(TRUTHS)
    assert set(diagnosis.trace["stage"]) <= {*(stage.name for stage in family_of(model).stages), "detected"}


def flat(result: dict[str, Any]) -> tuple[Any, ...]:
    return (result["image_id"], result["category_id"], result["score"], *result["bbox"])


def test_a_detector_that_is_read_wrongly_is_refused(photos: OrderedCocoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that suppresses in its own way is not the one that is replayed."""
    model = untrained("faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py")
    own = model.roi_head.bbox_head.get_bboxes

    def other(*arguments: Any, **named: Any) -> Any:
        boxes, rest = own(*arguments, **named)
        return (boxes[:-1], rest[:-1]) if named["cfg"] is not None else (boxes, rest)

    monkeypatch.setattr(model.roi_head.bbox_head, "get_bboxes", other)
    with pytest.raises(RuntimeError, match="not those of the detector"):
        diagnose(model, photos)


def test_no_proposal_at_all(tmp_path: Path) -> None:
    scene = Scene(TRUTHS[:1], [])
    model = scripted_rcnn([scene], rpn={"min_bbox_size": 10})  # the specks are too small
    diagnosis = diagnose(model, write_scenes(tmp_path, [scene]), resamples=2)
    assert list(diagnosis.trace["stage"]) == ["proposals"]
    assert diagnosis.detections.empty


def test_an_unknown_kind_of_detector_is_named() -> None:
    with pytest.raises(ValueError, match="Linear"):
        family_of(nn.Linear(1, 1))


FAMILY = family_by_key("two_stage")
# By hand: two objects of class 0 and 1; candidates 0 and 1 on the first, 2 on the second, 3 on nothing.
GT = ImageObjects(np.array([7, 8]), np.array([0, 1]), np.array([[0.1, 0.2, 10.3, 10.7], [50, 50, 20, 20]]))


def everything(candidates: Candidates) -> Suppressed:
    """A suppression that keeps what scores .05, three predictions at most."""
    eligible = candidates.score > 0.05
    order = np.argsort(-candidates.score, kind="stable")
    order = order[eligible[order]]
    return Suppressed(eligible, order, candidates.score[order], 3)


def by_hand(**changed: Any) -> Replay:
    near = [0.5, 0.2, 10, 10]
    boxes_xywh = np.array([near, near, near, [0, 0, 30, 30], [50, 52, 20, 20], [50, 52, 20, 20], [100, 0, 9, 9]], float)
    score = np.array([0.2, 0.6, 0.3, 0.1, 0.02, 0.03, 0.5], np.float32)
    values: dict[str, Any] = {
        "candidate": np.array([0, 0, 1, 1, 2, 2, 3]), "label": np.array([0, 1, 0, 1, 0, 1, 0]), "score": score,
        "boxes_xywh": boxes_xywh, "named": score > 0.05, "priors_xywh": boxes_xywh[[0, 2, 4, 6]],
        "background": np.array([0.1, 0.55, 0.95, 0.4]), "gt_index": np.array([0, 0, 1, -1]), "suppress": everything, **changed,
    }
    none = np.zeros(0, int)
    added = Candidates(none, none, none.astype(np.float32), np.zeros((0, 4)), none.astype(bool), np.zeros((0, 4)),
                       none.astype(float), none, everything)
    return Replay(GT, Candidates(**values), added)


def test_a_class_that_no_candidate_names_takes_the_belief_in_the_background() -> None:
    candidates = oracle_class(by_hand()).candidates
    assert candidates.candidate.tolist() == [0, 1, 2, 3]  # one prediction a candidate on an object, all of the others
    assert candidates.label.tolist() == [0, 0, 1, 0]
    # 0: its best class renamed; 1: right already, and named, so its background is not passed on; 2: nobody names object 1
    assert candidates.score.tolist() == pytest.approx([0.6, 0.3, 0.95, 0.5])
    assert candidates.named[:3].all()


def test_a_low_score_of_the_right_class_stays_low_under_the_class_oracle() -> None:
    """.35 for its own class and .65 for background: the class is named, so a low score is the ranking's affair."""
    replay = by_hand(score=np.array([0.35, 0, 0.3, 0, 0, 0.35, 0.5], np.float32), named=np.ones(7, bool))
    candidates = oracle_class(replay).candidates
    assert candidates.score.tolist() == pytest.approx([0.35, 0.3, 0.35, 0.5])


def test_the_box_oracle_is_the_ground_truth_to_the_last_bit() -> None:
    replay = oracle_box(by_hand())
    result = detections_of(5, replay, np.array([1, 2])).to_coco()
    assert result[0] == {"image_id": 5, "category_id": 2, "bbox": [0.1, 0.2, 10.3, 10.7], "score": pytest.approx(0.6)}
    assert replay.candidates.boxes_xywh[6].tolist() == [100, 0, 9, 9]


def test_the_suppression_oracle_reports_each_object_once_and_leaves_what_is_false() -> None:
    rows, scores = oracle_suppression(by_hand()).reported()
    # 0 is a duplicate of 2; 1 (wrong class) and 6 (nothing there) stay false; 5 has the right class, which nobody names
    assert rows.tolist() == [1, 6, 2]
    assert scores.tolist() == pytest.approx([0.6, 0.5, 0.3])
    named = by_hand().candidates.named.copy()
    named[5] = True  # the candidate's first class, under the threshold: that is what suppression loses
    rows, scores = oracle_suppression(by_hand(named=named)).reported()
    assert rows.tolist() == [1, 6, 2, 5] and scores[3] == pytest.approx(0.03)


def test_the_suppression_oracle_leaves_a_second_box_that_fits_better() -> None:
    """At IoU .5 it is a duplicate; at .95 it is the only hit."""
    boxes_xywh = by_hand().candidates.boxes_xywh.copy()
    boxes_xywh[0] = GT.boxes_xywh[0]

    def nine(candidates: Candidates) -> Suppressed:
        return replace(everything(candidates), limit=9)

    rows, _ = oracle_suppression(by_hand(boxes_xywh=boxes_xywh, suppress=nine)).reported()
    assert {0, 2} <= set(rows.tolist())
    boxes_xywh[[0, 2]] = boxes_xywh[[2, 0]]
    rows, _ = oracle_suppression(by_hand(boxes_xywh=boxes_xywh, suppress=nine)).reported()
    assert 2 in rows and 0 not in rows


def test_the_suppression_oracle_leaves_room_for_the_objects() -> None:
    """COCO counts 100 of a class: 120 false ones above would push the object out."""
    false = 120
    rows, _ = oracle_suppression(by_hand(
        candidate=np.arange(false + 1), label=np.zeros(false + 1, int), named=np.ones(false + 1, bool),
        score=np.concatenate([[0.1], np.full(false, 0.9)]).astype(np.float32),
        boxes_xywh=np.concatenate([GT.boxes_xywh[:1], np.tile([200.0, 200, 5, 5], (false, 1))]),
        priors_xywh=np.zeros((false + 1, 4)), background=np.zeros(false + 1),
        gt_index=np.concatenate([[0], np.full(false, -1)]), suppress=lambda c: replace(everything(c), limit=1000),
    )).reported()
    assert len(rows) == 100 and 0 in rows


def test_the_ranking_oracle_leaves_what_is_right_alone_the_better_box_first() -> None:
    rows, scores = oracle_ranking(by_hand()).reported()
    assert rows.tolist() == [2]
    fit = iou_table(np.array([[0.5, 0.2, 10, 10]]), GT.boxes_xywh[:1])[0, 0]
    assert scores.tolist() == pytest.approx([fit])


def test_false_ones_below_all_right_ones_change_no_precision() -> None:
    """What the ranking oracle leaves out: pycocotools' AP is the same with them, below every right one."""
    truth = coco(*(truth_box(n, x=100 * n, side=30) for n in range(1, 5)))
    rng = np.random.default_rng(0)
    right = [detection(x=100 * n + float(rng.integers(0, 9)), side=30, score=0.9 - n / 100) for n in range(1, 4)]
    false = [detection(x=float(rng.integers(500, 999)), side=30, score=0.1) for _ in range(40)]
    assert pycocotools_metrics(truth, right + false) == pycocotools_metrics(truth, right)


def test_all_oracles_give_the_ground_truth_and_leave_the_real_one_as_it_was() -> None:
    replay = by_hand()
    ids = np.array([1, 2])
    before = detections_of(1, replay, ids).to_coco()
    found = replays(replay, FAMILY.stages)
    assert len(found) == 32 and found[REAL] is replay
    every = max(found, key=len)
    assert every == {stage.name for stage in FAMILY.stages}
    best = detections_of(1, found[every], ids).to_coco()
    assert sorted(result["bbox"] for result in best) == sorted(GT.boxes_xywh.tolist())
    assert {result["score"] for result in best} == {1.0}
    assert oracle_candidates(replay) is replay, "nothing to add: the same replay, so that nothing is computed twice"
    assert detections_of(1, replay, ids).to_coco() == before


def test_groups() -> None:
    assert first_of_each(np.array([2, 1, 2, 1]), np.array([0.5, 0.5, 0.1, 0.5])).tolist() == [1, 2]
    assert rank_in_group(np.array([3, 1, 3, 3, 1])).tolist() == [0, 0, 1, 2, 1]
    assert rank_in_group(np.zeros(0, int)).tolist() == []
