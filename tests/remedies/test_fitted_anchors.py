"""Fitted anchors teach at least as many objects as the default, by the assigner of the detector itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmcv import Config
from mmdet.datasets import build_dataset

from remedied import IMAGE_SIZE, config_of, context_of
from small_dataset import annotation, picture
from workbook.data.catalog import Dataset
from workbook.diagnosis.assignable import assignable
from workbook.diagnosis.family import family_of
from workbook.models.config import build_untrained
from workbook.remedies.apply import apply_remedies
from workbook.remedies.registry import parse_remedies

ANCHORED = ("faster_rcnn", "cascade_rcnn", "retinanet")


def planted(root: Path, sides: list[tuple[float, float]]) -> Dataset:
    """Images of 128 x 96 pixels, four boxes (width, height) each, off the anchors' grid."""
    folder = root / "planted"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    images = [{"id": n, "file_name": f"{n}.png", "width": 128, "height": 96} for n in range(1, len(sides) // 4 + 1)]
    annotations = []
    for number, (width, height) in enumerate(sides[: 4 * len(images)]):
        corner = [32.0 * (number % 4) + rng.uniform(0, max(30 - width, 0.1)), rng.uniform(0, 95 - height)]
        annotations.append(annotation(number + 1, number // 4 + 1, [*corner, width, height]))
    for image in images:
        picture(image["id"], 128, 96).save(folder / "images" / image["file_name"])
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dot"}]}
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(content))
    return Dataset("planted", folder, ("dot",), "1" * 64)


def reach(config: Config) -> tuple[int, float]:
    """How many objects of train the diagnosis of the built detector calls assignable, and the mean IoU of their best anchors."""
    model = build_untrained(config)
    table = assignable(family_of(model), model, build_dataset({**config.data.train, "pipeline": config.data.val.pipeline}))
    return int((~table["no_positive"]).sum()), float(table["best_anchor_iou"].mean())


@pytest.mark.parametrize("detector", ANCHORED)
def test_objects_below_the_reach_get_a_positive(tmp_path: Path, detector: str) -> None:
    """Squares of 6 px and bars of 24 x 6, where the smallest default anchor has 32. RetinaNet takes an anchor of any IoU."""
    dataset = planted(tmp_path, [(6, 6), (24, 6)] * 8)
    before, after = config_of(dataset, detector), config_of(dataset, detector)
    apply_remedies(after, parse_remedies("fitted_anchors"), context_of(dataset, detector))
    (objects, iou), (more_objects, higher_iou) = reach(before), reach(after)
    assert more_objects == 16 and higher_iou > 2 * iou
    assert (objects < 8) == (detector != "retinanet")
    shapes = [{name: value.shape for name, value in build_untrained(config).state_dict().items()} for config in (before, after)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_never_fewer_than_the_default(tmp_path: Path, detector: str, seed: int) -> None:
    """On boxes of all sizes and shapes."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(3), np.log(90), size=(24, 2))).round(1).tolist()
    dataset = planted(tmp_path, [(w, h) for w, h in sides])
    config = config_of(dataset, detector)
    before, _ = reach(config)
    apply_remedies(config, parse_remedies("fitted_anchors"), context_of(dataset, detector))
    assert reach(config)[0] >= before


def test_the_default_stays_where_nothing_is_better(tmp_path: Path) -> None:
    """Squares of the sides of mmdet's own anchors, each on a cell of its level."""
    dataset = planted(tmp_path, [(32, 32)] * 4)
    content = json.loads(dataset.train_json.read_text())
    for number, entry in enumerate(content["annotations"]):
        entry["bbox"] = [4.0 * (2 + number), 4.0 * (3 + number), 32.0, 32.0]
    content["annotations"] = content["annotations"][:1]
    dataset.train_json.write_text(json.dumps(content))
    config = config_of(dataset, "faster_rcnn")
    config.data.train.pipeline[2].img_scale = IMAGE_SIZE
    [applied] = apply_remedies(config, parse_remedies("fitted_anchors"), context_of(dataset, "faster_rcnn"))
    assert applied.changes == {}
