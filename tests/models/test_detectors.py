"""The table of detectors: each inherits a shipped config, and a budget too short for it is said."""

import pytest

from workbook.models.detectors import DETECTORS, find_detector, step_budget_warning
from workbook.models.recipes import shipped_config

TYPES = {
    "faster_rcnn": "FasterRCNN", "cascade_rcnn": "CascadeRCNN", "retinanet": "RetinaNet", "vfnet": "VFNet", "detr": "DETR",
    "deformable_detr": "DeformableDETR",
}


def test_the_table_holds_the_detectors_of_the_experiments():
    assert {key: shipped_config(entry.config).model.type for key, entry in DETECTORS.items()} == TYPES
    assert all(entry.key == key for key, entry in DETECTORS.items())


def test_an_unknown_detector_lists_what_there_is():
    with pytest.raises(ValueError, match="unknown detector 'yolo'. Known: faster_rcnn, cascade_rcnn, retinanet, vfnet, detr"):
        find_detector("yolo")


def test_query_detectors_keep_their_own_optimizer():
    assert {key for key, entry in DETECTORS.items() if entry.own_optimizer} == {"detr", "deformable_detr"}


@pytest.mark.parametrize("key", ["detr", "deformable_detr"])
def test_the_known_budget_is_that_of_the_shipped_config(key):
    steps, images = DETECTORS[key].known_steps
    config = shipped_config(DETECTORS[key].config)
    assert images == config.auto_scale_lr.base_batch_size
    coco_images = 117_266  # of train2017, those with objects
    assert steps == pytest.approx(config.runner.max_epochs * coco_images / images, rel=0.01)


def test_a_short_budget_is_stated_with_both_numbers():
    said = step_budget_warning(DETECTORS["detr"], steps=216, batch_size=2, load_from="")
    assert said and "1,099,350 steps of 16 images" in said and "216 steps of 2 (432 images)" in said and "load_from" in said


@pytest.mark.parametrize(
    ("key", "steps", "load_from"), [("detr", 216, "coco.pth"), ("detr", 900_000, ""), ("faster_rcnn", 1, ""), ("vfnet", 1, "")]
)
def test_no_warning_where_there_is_no_reason(key, steps, load_from):
    assert step_budget_warning(DETECTORS[key], steps, 2, load_from) is None
