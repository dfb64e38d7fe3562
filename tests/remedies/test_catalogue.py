"""Each remedy on each shipped detector that it fits: its keys exist, the model builds, a step trains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets import build_dataset

from remedied import IMAGE_SIZE, config_of, context_of, remedied, train_step, write_dataset
from workbook.data.catalog import Dataset
from workbook.diagnosis.assignable import assignable
from workbook.diagnosis.family import families, family_of
from workbook.diagnosis.oracle import ImageObjects
from workbook.errors import ParameterError
from workbook.models.config import build_untrained
from workbook.models.detectors import DETECTORS
from workbook.remedies.apply import Applied, why_not
from workbook.remedies.base import FAMILIES, Remedy
from workbook.remedies.registry import all_remedies, parse_remedies
from workbook.training.loader import as_batch
from workbook.training.schedule import parse_schedule

REMEDIES = {remedy.key: remedy for remedy in all_remedies()}
NEEDS_WEIGHTS = ("coco_start",)
# where each fits, beside those of all detectors; who adds a remedy adds its row
FITS = {
    "fitted_anchors": {"faster_rcnn", "cascade_rcnn", "retinanet"}, "nwd_assigner": {"faster_rcnn", "cascade_rcnn", "retinanet"},
    "finer_level": {"retinanet", "vfnet"}, "refined_boxes": {"faster_rcnn", "retinanet"}, "two_stage_queries": {"deformable_detr"},
    "repeated_labels": {"detr", "deformable_detr"}, "more_proposals": {"faster_rcnn", "cascade_rcnn"},
    "soft_nms": {"faster_rcnn", "cascade_rcnn", "retinanet", "vfnet"}, "keep_more": set(DETECTORS) - {"detr"},
}
PAIRS = [(key, detector) for key in REMEDIES for detector in DETECTORS if detector in FITS.get(key, DETECTORS)]
OF_DATA = ("larger_images", "small_oversampled", "augmentation", "augmentation_from_above", "empty_images", "longer_training")
# what a step could show on Cascade R-CNN it shows on Faster R-CNN; coco_start changes what fitted_anchors does
STEPS = [
    pair for pair in PAIRS
    if REMEDIES[pair[0]].trains and pair[0] not in (*OF_DATA, "coco_start") and pair[1] != "cascade_rcnn"
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("remedies"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("weights") / "coco.pth")


def of(dataset: Dataset, key: str, detector: str, weights: str) -> tuple[Any, Applied]:
    config, [applied] = remedied(dataset, detector, key, weights if key in NEEDS_WEIGHTS else "")
    return config, applied


@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=list(REMEDIES))
def test_each_says_all_about_itself(remedy: Remedy) -> None:
    stages = {part.name for family in families() for part in family.parts}
    of_families = {part.name for family in families() if family.key in remedy.families for part in family.parts}
    assert set(remedy.stages) <= stages and set(remedy.stages) & of_families and set(remedy.families) <= set(FAMILIES)
    assert remedy.key.isidentifier() and remedy.title and remedy.cost and remedy.sources and remedy.traps
    assert "\n" not in remedy.about and all(source.where and source.figures for source in remedy.sources)
    assert set(remedy.excludes) <= set(REMEDIES)


def test_a_key_is_in_one_file_alone() -> None:
    assert len(REMEDIES) == len(all_remedies()) >= 16
    assert set(FITS) <= set(REMEDIES)


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_family_of_a_detector_is_that_of_the_diagnosis(dataset: Dataset, detector: str) -> None:
    assert family_of(build_untrained(config_of(dataset, detector))).key == DETECTORS[detector].family


@pytest.mark.parametrize(("key", "detector"), PAIRS)
def test_it_finds_every_key_that_it_names(dataset: Dataset, weights: str, key: str, detector: str) -> None:
    """A key of plain settings must have been there; one that is new stands where a builder refuses what it does not know."""
    before = config_of(dataset, detector)
    _, applied = of(dataset, key, detector, weights)
    assert applied.changes or (key == "coco_start" and detector not in FITS["fitted_anchors"])
    for changed in applied.changes:
        path = changed.split(".")
        owner = parent(before, path)
        assert path[-1] in owner or "type" in owner or isinstance(owner, list), f"{changed} is nothing that the config had"


def parent(config: Any, path: list[str]) -> Any:
    """What holds the last key, or the nearest thing above it that the config has."""
    found = config._cfg_dict.to_dict()
    for name in path[:-1]:
        if isinstance(found, list | tuple):
            found = found[int(name)]
        elif name in found:
            found = found[name]
        else:
            return found
    return found


@pytest.mark.parametrize(("key", "detector"), STEPS)
def test_a_step_trains_with_it(dataset: Dataset, weights: str, key: str, detector: str) -> None:
    config, applied = of(dataset, key, detector, weights)
    if applied.changes:
        assert all(np.isfinite(value) for value in train_step(config).values())


@pytest.mark.parametrize("key", OF_DATA)
def test_a_step_trains_with_other_images(dataset: Dataset, weights: str, key: str) -> None:
    config, _ = of(dataset, key, "retinanet", weights)
    assert train_step(config)["loss"] > 0


@pytest.mark.parametrize(("key", "detector"), [
    pair for pair in PAIRS if not REMEDIES[pair[0]].trains and pair[1] != "cascade_rcnn"
])
def test_an_evaluation_takes_it(dataset: Dataset, weights: str, key: str, detector: str) -> None:
    """The detector gives its detections under these settings, and has the same weights as before."""
    before, (config, _) = config_of(dataset, detector), of(dataset, key, detector, weights)
    torch.manual_seed(0)
    model = build_untrained(before).eval()
    changed = build_untrained(config).eval()
    changed.load_state_dict(model.state_dict())
    item = build_dataset(config.data.val).with_truth(0)
    with torch.no_grad():
        meta = {**item["img_metas"].data, "batch_input_shape": tuple(item["img"].data.shape[-2:])}
        [boxes] = changed.simple_test(item["img"].data[None], [meta], rescale=True)
    limit = config.model.test_cfg.get("rcnn", config.model.test_cfg).max_per_img
    assert sum(map(len, boxes)) <= limit


@pytest.mark.parametrize(("key", "detector"), [
    *((key, name) for key in ("fitted_anchors", "nwd_assigner") for name in sorted(FITS[key])),
    ("coco_start", "faster_rcnn"), ("repeated_labels", "detr"),
])
def test_weights_of_the_detector_still_fit(dataset: Dataset, weights: str, key: str, detector: str) -> None:
    config, _ = of(dataset, key, detector, weights)
    shapes = [
        {name: value.shape for name, value in build_untrained(each).state_dict().items()} for each in (config_of(dataset, detector), config)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("key", "detector"), [
    (key, detector) for key in REMEDIES for detector in DETECTORS if (key, detector) not in PAIRS
])
def test_where_it_does_not_fit_it_says_why(dataset: Dataset, key: str, detector: str) -> None:
    reason = why_not(REMEDIES[key], config_of(dataset, detector), DETECTORS[detector].family)
    assert reason and len(reason) > 20
    with pytest.raises(ParameterError, match=f"{key}: "):
        remedied(dataset, detector, key)


def test_coco_start_says_how_to_get_the_weights(dataset: Dataset) -> None:
    words = r"load_from is empty. Download https://.*faster_rcnn_r50_fpn_1x_coco.*\.pth .*load_from=/path/to"
    with pytest.raises(ParameterError, match=words):
        remedied(dataset, "faster_rcnn", "coco_start")


# ---- what single ones do ---------------------------------------------------------------------------------------------


def test_longer_training_stretches_the_whole_schedule(dataset: Dataset) -> None:
    """At every share of the training the learning rate is that of the shorter one."""
    steps_an_epoch = 50
    config, _ = remedied(dataset, "faster_rcnn", "longer_training")
    short, long = (parse_schedule(each.lr_config) for each in (config_of(dataset, "faster_rcnn"), config))
    assert config.runner.max_epochs == 24
    for step in range(0, 12 * steps_an_epoch):
        assert long.factor(2 * step // steps_an_epoch, 2 * step) == pytest.approx(short.factor(step // steps_an_epoch, step))


def test_larger_images_reach_both_halves(dataset: Dataset) -> None:
    config, _ = remedied(dataset, "retinanet", "larger_images")
    sides = [max(build_dataset(config.data[split]).with_truth(0)["img"].data.shape[-2:]) for split in ("train", "val")]
    assert sides == [192, 192] and IMAGE_SIZE == (128, 128)


def test_small_oversampled_shows_images_with_small_objects_three_times(dataset: Dataset) -> None:
    before, config = config_of(dataset, "retinanet"), remedied(dataset, "retinanet", "small_oversampled")[0]
    plain, shown = build_dataset(before.data.train), build_dataset(config.data.train)
    names = [shown[index]["img_metas"].data["ori_filename"] for index in range(len(shown))]
    assert (len(plain), len(shown)) == (2, 4)
    assert sorted(names) == ["train-001.png"] * 3 + ["train-002.png"]
    assert shown.data_infos == plain.data_infos


def test_small_oversampled_is_refused_where_every_image_has_small_objects(dataset: Dataset) -> None:
    content = dataset.train
    every = {**content, "annotations": [a for a in content["annotations"] if a["area"] < 32**2]}
    config, context = config_of(dataset, "retinanet"), context_of(dataset, "retinanet")
    remedy = REMEDIES["small_oversampled"]
    with pytest.raises(ParameterError, match="every image with objects of train has a small object.*Use longer_training"):
        remedy.apply(config, type(context)(**{**vars(context), "train": every}))


def test_empty_images_are_shown(dataset: Dataset) -> None:
    config, _ = remedied(dataset, "faster_rcnn", "empty_images")
    shown = build_dataset(config.data.train)
    assert len(shown) == 3 and len(shown[2]["gt_bboxes"].data) == 0
    full = {**dataset.train, "images": dataset.train["images"][:2]}
    context = context_of(dataset, "faster_rcnn")
    with pytest.raises(ParameterError, match="stay in training already: leave out this remedy, or empty_images=used"):
        REMEDIES["empty_images"].apply(config, context)
    config.data.train.filter_empty_gt = True
    with pytest.raises(ParameterError, match="every image of train has an object"):
        REMEDIES["empty_images"].apply(config, type(context)(**{**vars(context), "train": full}))


@pytest.mark.parametrize(("key", "ways"), [("augmentation", 2), ("augmentation_from_above", 8)])
def test_augmented_boxes_stay_on_their_objects(dataset: Dataset, key: str, ways: int) -> None:
    """The bright rectangles of the picture lie in the boxes, in every way of turning; sizes vary from a half to one and a half."""
    config, _ = remedied(dataset, "retinanet", key)
    train = build_dataset(config.data.train)
    found, sides = set(), []
    for seed in range(60):
        np.random.seed(seed)
        item = train[0]
        image, meta = item["img"].data.numpy().max(axis=0), item["img_metas"].data
        height, width = meta["img_shape"][:2]
        bright = image > (image[:height, :width].min() + image[:height, :width].max()) / 2
        inside = np.zeros_like(bright)
        for x1, y1, x2, y2 in item["gt_bboxes"].data.numpy().round().astype(int):
            inside[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = True
        assert bright[:height, :width].any() and not (bright & ~inside)[:height, :width].any()
        (left, top), (other_left, other_top) = item["gt_bboxes"].data[:2, :2].tolist()
        found.add((width > height, left > other_left, top > other_top))
        sides.append(max(width, height) / 128)
    assert min(sides) < 0.6 and max(sides) > 1.4 and min(sides) >= 0.5 and max(sides) <= 1.5
    assert len(found) == ways


def test_more_detections_are_those_that_coco_counts(dataset: Dataset) -> None:
    assert remedied(dataset, "faster_rcnn", "keep_more")[0].model.test_cfg.rcnn.max_per_img == 200  # two classes
    assert remedied(dataset, "deformable_detr", "keep_more")[0].model.test_cfg.max_per_img == 40  # 20 queries, two classes


def test_a_cascade_has_the_heads_that_mmdet_ships(dataset: Dataset) -> None:
    config, _ = remedied(dataset, "faster_rcnn", "refined_boxes")
    cascade = build_untrained(config_of(dataset, "cascade_rcnn"))
    ours = build_untrained(config)
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in cascade.state_dict().items()}


@pytest.mark.parametrize("detector", ["retinanet", "vfnet"])
def test_the_finer_level_has_stride_four(dataset: Dataset, detector: str) -> None:
    config, _ = remedied(dataset, detector, "finer_level")
    model = build_untrained(config).eval()
    with torch.no_grad():
        levels = model.bbox_head(model.extract_feat(torch.zeros(1, 3, 128, 128)))[0]
    assert [level.shape[-1] for level in levels][:3] == [32, 16, 8] and len(levels) == 6
    generator = getattr(model.bbox_head, "atss_prior_generator", model.bbox_head.prior_generator)
    assert [stride[0] for stride in generator.strides] == [4, 8, 16, 32, 64, 128]


def test_remedies_are_applied_in_their_order(dataset: Dataset) -> None:
    """Anchors are fitted to the images in their new size, whatever the order in which they were asked for."""
    alone = remedied(dataset, "faster_rcnn", "fitted_anchors")[0].model.rpn_head.anchor_generator
    both = [remedied(dataset, "faster_rcnn", text)[0] for text in ("fitted_anchors,larger_images", "larger_images+fitted_anchors")]
    scales = [config.model.rpn_head.anchor_generator.scales for config in both]
    assert scales[0] == scales[1] and scales[0][0] > alone.scales[0]
    ordered = parse_remedies("soft_nms,fitted_anchors,larger_images")
    assert [remedy.key for remedy in ordered] == ["larger_images", "fitted_anchors", "soft_nms"]


@pytest.mark.parametrize(("key", "detector"), [
    ("soft_nms", "faster_rcnn"), ("soft_nms,keep_more", "retinanet"), ("keep_more", "deformable_detr"), ("refined_boxes", "faster_rcnn"),
    ("finer_level,keep_more", "vfnet"), ("two_stage_queries", "deformable_detr"), ("repeated_labels", "detr"),
    ("repeated_labels", "deformable_detr"), ("repeated_labels,two_stage_queries", "deformable_detr"),
])
def test_the_diagnosis_reads_inside_it(dataset: Dataset, key: str, detector: str) -> None:
    """Its probe refuses what is not, to the last digit, what the detector itself reports."""
    config, _ = remedied(dataset, detector, key)
    torch.manual_seed(0)
    model = build_untrained(config).eval()
    model.init_weights()
    val = build_dataset(config.data.val)
    boxes_xywh = np.array([a["bbox"] for a in dataset.val["annotations"]], float)
    objects = ImageObjects(np.arange(len(boxes_xywh)), np.zeros(len(boxes_xywh), int), boxes_xywh)
    family = family_of(model)
    probe = family.probe(model, as_batch([val.with_truth(0)]), objects)
    assert family.key == DETECTORS[detector].family and len(probe.candidates.suppressed.reported)
    assert len(assignable(family, model, val)) == len(boxes_xywh)
