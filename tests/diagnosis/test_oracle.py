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

from planted import Answer, Scene, scripted_rcnn, small_detector, write_scenes
from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.diagnosis.diagnosis import counted_truth, diagnose, truths_of
from workbook.diagnosis.families.inside import look, stages_of
from workbook.diagnosis.oracle import (
    Pool,
    Replay,
    Truths,
    Verdict,
    first_of_each,
    overlaps,
    perfect_box,
    perfect_candidates,
    perfect_class,
    perfect_ranking,
    perfect_suppression,
    place_in_group,
)
from workbook.diagnosis.stages import DENSE, QUERY, TWO_STAGE
from workbook.diagnosis.waterfall import NOW, replayed_detections, replays
from workbook.training.validation import as_coco

DETECTORS = {
    "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py": (TWO_STAGE, {"score_thr": 0.0}),
    "cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco.py": (TWO_STAGE, {"score_thr": 0.3}),
    "retinanet/retinanet_r50_fpn_1x_coco.py": (DENSE, {"score_thr": 0.01, "nms_pre": 300}),
    "vfnet/vfnet_r50_fpn_1x_coco.py": (DENSE, {"score_thr": 0.01, "nms_pre": 300}),
    "detr/detr_r50_8x2_150e_coco.py": (QUERY, {}),
    "deformable_detr/deformable_detr_r50_16x2_50e_coco.py": (QUERY, {}),
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
    stages, test_cfg = DETECTORS[path]
    model = untrained(path, **test_cfg)
    assert stages_of(model) == stages
    diagnosis = diagnose(model, photos)
    expected: list[dict[str, Any]] = []
    for index in range(len(photos)):
        batch = collate([photos.with_truth(index)], samples_per_gpu=1)
        image, meta = batch["img"].data[0], batch["img_metas"].data[0]
        meta[0]["batch_input_shape"] = tuple(image.shape[-2:])
        with torch.no_grad():
            boxes_by_class = model.simple_test(image, meta, rescale=True)[0]
        expected += as_coco(boxes_by_class, photos.img_ids[index], photos.cat_ids)
    assert len(expected) > 20
    assert sorted(map(flat, diagnosis.detections[NOW])) == sorted(map(flat, expected))
    for size in diagnosis.waterfall["sizes"].values():
        assert sum(step["drop"] for step in size["steps"]) == pytest.approx(1 - size["ap"], abs=1e-9)
        assert size["steps"][-1]["ap_after"] == pytest.approx(1, abs=1e-9)
    assert len(diagnosis.trace) == len(TRUTHS)
    assert set(diagnosis.trace["stage"]) <= {*(stage.name for stage in stages), "detected"}


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
    diagnosis = diagnose(model, write_scenes(tmp_path, [scene]))
    assert list(diagnosis.trace["stage"]) == ["proposals"]
    assert diagnosis.detections[NOW] == []


def test_an_unknown_kind_of_detector_is_named() -> None:
    with pytest.raises(ValueError, match="Linear"):
        stages_of(nn.Linear(1, 1))


def test_replayed_detections_are_those_of_the_diagnosis(tmp_path: Path) -> None:
    scene = Scene(TRUTHS, [Answer(box, {label: 0.6}) for box, label in TRUTHS[:3]])
    model, dataset = scripted_rcnn([scene]), write_scenes(tmp_path, [scene])
    truths = truths_of([a for a in counted_truth(dataset)["annotations"]], dataset)
    batch = {key: value.data[0] for key, value in collate([dataset.with_truth(0)], samples_per_gpu=1).items()}
    seen = look(model, batch, truths)
    replay = Replay(truths, seen.pool, seen.spare, 0.5)
    assert replayed_detections([(1, replay)], TWO_STAGE, dataset.cat_ids) == diagnose(model, dataset).detections


# A pool by hand: two truths of class 0 and 1; candidates 0 and 1 on the first, 2 on the second, 3 on nothing.
GT = Truths(np.array([7, 8]), np.array([0, 1]), np.array([[0.1, 0.2, 10.3, 10.7], [50, 50, 20, 20]]))


def everything(pool: Pool) -> Verdict:
    """A suppression that keeps what scores .05, three answers at most."""
    eligible = pool.score > 0.05
    order = np.argsort(-pool.score, kind="stable")
    order = order[eligible[order]]
    return Verdict(eligible, order, pool.score[order], 3)


def by_hand() -> Replay:
    near = [0.5, 0.2, 10, 10]
    boxes_xywh = np.array([near, near, near, [0, 0, 30, 30], [50, 52, 20, 20], [50, 52, 20, 20], [100, 0, 9, 9]], float)
    pool = Pool(
        candidate=np.array([0, 0, 1, 1, 2, 2, 3]), label=np.array([0, 1, 0, 1, 0, 1, 0]),
        score=np.array([0.2, 0.6, 0.3, 0.1, 0.02, 0.03, 0.5], np.float32), boxes_xywh=boxes_xywh,
        priors_xywh=boxes_xywh[[0, 2, 4, 6]], background=np.array([0.1, 0.55, 0.95, 0.4]), owner=np.array([0, 0, 1, -1]),
        suppress=everything,
    )
    none = np.zeros(0, int)
    spare = Pool(none, none, none.astype(np.float32), np.zeros((0, 4)), np.zeros((0, 4)), none.astype(float), none, everything)
    return Replay(GT, pool, spare, 0.5)


def test_perfect_class_renames_and_passes_on_the_belief_in_the_background() -> None:
    pool = perfect_class(by_hand()).pool
    assert pool.candidate.tolist() == [0, 1, 2, 3]  # one answer a candidate on a truth, all of the others
    assert pool.label.tolist() == [0, 0, 1, 0]
    # 0: its best class renamed; 1: right already, not the surest; 2: background .95 passes on; 3: untouched
    assert pool.score.tolist() == pytest.approx([0.6, 0.3, 0.95, 0.5])


def test_perfect_box_is_the_truth_to_the_last_bit() -> None:
    replay = perfect_box(by_hand())
    result = replay.as_coco(5, [1, 2])
    assert result[0] == {"image_id": 5, "category_id": 2, "bbox": [0.1, 0.2, 10.3, 10.7], "score": pytest.approx(0.6)}
    assert replay.pool.boxes_xywh[6].tolist() == [100, 0, 9, 9]


def test_perfect_suppression_reports_each_truth_once_and_keeps_what_is_false() -> None:
    answers, scores = perfect_suppression(by_hand()).reported()
    # 5 is under the threshold, and right; 0 is a duplicate of 2; 1 (wrong class) and 6 (nothing there) stay false
    assert answers.tolist() == [1, 6, 2, 5]
    assert scores.tolist() == pytest.approx([0.6, 0.5, 0.3, 0.03])


def test_perfect_suppression_keeps_a_second_box_that_fits_better() -> None:
    """At IoU .5 it is a duplicate; at .95 it is the only hit."""
    replay = by_hand()
    boxes_xywh = replay.pool.boxes_xywh.copy()
    boxes_xywh[0] = GT.boxes_xywh[0]
    wide = replace(replay.pool, boxes_xywh=boxes_xywh, suppress=lambda p: replace(everything(p), limit=9))
    answers, _ = perfect_suppression(replace(replay, pool=wide)).reported()
    assert {0, 2} <= set(answers.tolist())
    boxes_xywh[2], boxes_xywh[0] = boxes_xywh[0].copy(), boxes_xywh[2].copy()
    answers, _ = perfect_suppression(replace(replay, pool=wide)).reported()
    assert 2 in answers and 0 not in answers


def test_perfect_suppression_leaves_room_for_the_truths() -> None:
    """COCO counts 100 of a class: 120 false ones above would push the truth out."""
    replay = by_hand()
    false = 120
    pool = Pool(
        np.concatenate([[0], np.arange(1, false + 1)]), np.zeros(false + 1, int),
        np.concatenate([[0.1], np.full(false, 0.9)]).astype(np.float32),
        np.concatenate([GT.boxes_xywh[:1], np.tile([200.0, 200, 5, 5], (false, 1))]), np.zeros((false + 1, 4)),
        np.zeros(false + 1), np.concatenate([[0], np.full(false, -1)]), lambda p: replace(everything(p), limit=1000),
    )
    answers, _ = perfect_suppression(replace(replay, pool=pool)).reported()
    assert len(answers) == 100 and 0 in answers


def test_perfect_ranking_puts_true_above_false() -> None:
    answers, scores = perfect_ranking(by_hand()).reported()
    assert answers.tolist() == [2, 1, 6]
    fit = overlaps(np.array([[0.5, 0.2, 10, 10]]), GT.boxes_xywh[:1])[0, 0]
    assert scores.tolist() == pytest.approx([0.5 + fit / 2, 0.3, 0.25])


def test_all_perfect_is_the_truth_and_order_does_not_change_the_real_one() -> None:
    replay = by_hand()
    before = replay.as_coco(1, [1, 2])
    reached = replay
    for fix in (perfect_candidates, perfect_class, perfect_box, perfect_suppression, perfect_ranking):
        reached = fix(reached)
    best = reached.as_coco(1, [1, 2])[:2]
    assert sorted(r["bbox"] for r in best) == sorted(GT.boxes_xywh.tolist())
    assert {r["score"] for r in best} == {1.0}
    assert [name for name, _ in replays(replay, TWO_STAGE)][:2] == [NOW, "to proposals"]
    assert replay.as_coco(1, [1, 2]) == before


def test_groups() -> None:
    assert first_of_each(np.array([2, 1, 2, 1]), np.array([0.5, 0.5, 0.1, 0.5])).tolist() == [1, 2]
    assert place_in_group(np.array([3, 1, 3, 3, 1])).tolist() == [0, 0, 1, 2, 1]
    assert place_in_group(np.zeros(0, int)).tolist() == []
