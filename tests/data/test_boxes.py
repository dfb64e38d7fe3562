"""Boxes in another form than COCO's, and objects listed twice: found where they are, and never where they are not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bad_data import as_corners, as_shares, each_box, grouped, twice
from small_dataset import HEIGHT, WIDTH, annotation, load, save, write_dataset
from workbook.data.boxes import OtherForm, in_another_form, listed_twice
from workbook.data.catalog import find_dataset
from workbook.data.checks import check_dataset, require_sound
from workbook.data.reading import DataError

Box = list[float]
SIDES = {1: (640, 480)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    return write_dataset(tmp_path / "pets")


def boxes(count: int, seed: int = 0) -> list[Box]:
    """x, y, width, height of boxes that lie in an image of 640x480 pixels, anywhere."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        width, height = rng.uniform(8, 200), rng.uniform(8, 200)
        found.append([rng.uniform(0, 640 - width), rng.uniform(0, 480 - height), width, height])
    return found


def form(written: list[Box], areas: list[float] | None = None) -> OtherForm:
    entries: list[Any] = [annotation(number, 1, box) for number, box in enumerate(written, start=1)]
    for entry, area in zip(entries, areas or [], strict=False):
        entry["area"] = area
    return in_another_form(entries, SIDES)


def corners(box: Box) -> Box:
    return as_corners(box)[0]


def shares(box: Box) -> Box:
    return [box[0] / 640, box[1] / 480, box[2] / 640, box[3] / 480]


def centered(box: Box) -> Box:
    """As YOLO writes a box: its center, width and height as shares."""
    return [(box[0] + box[2] / 2) / 640, (box[1] + box[3] / 2) / 480, box[2] / 640, box[3] / 480]


# ---- shares of the image ---------------------------------------------------------------------------------------------

SHARES: dict[str, Callable[[Box], Box]] = {
    "from the corner": shares, "from the center": centered, "two corners": lambda box: shares(corners(box)),
    "out by rounding": lambda box: [value + 0.004 for value in shares(box)],
}


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize("count", [1, 40])
def test_shares_of_the_image_are_found(kind: str, count: int) -> None:
    found = form([SHARES[kind](box) for box in boxes(count)])
    assert "within 0 to 1" in found.reason and len(found.indices) == count


def test_the_box_of_the_whole_image_is_a_share_too() -> None:
    assert "its only box lies within 0 to 1" in form([[0.0, 0.0, 1.0, 1.0]]).reason


def test_an_export_with_shares_merged_into_one_with_pixels_is_found() -> None:
    """A fifth of the boxes: training would leave just these out, without a word."""
    found = form([shares(box) for box in boxes(4)] + boxes(16, seed=1))
    assert found.reason.startswith("4 of 20 boxes lie within 0 to 1") and found.indices == {0, 1, 2, 3}


def test_two_specks_in_a_corner_are_no_shares() -> None:
    assert form([[0.2, 0.3, 0.5, 0.4], [0.0, 0.0, 0.9, 0.8], *boxes(10)]) == OtherForm()


@pytest.mark.parametrize("split", ["train", "val"])
def test_shares_stop_a_run_before_it_trains_with_one_sentence(folder: Path, split: str) -> None:
    each_box(as_shares, split)(folder)
    problems = check_dataset("pets")
    assert [(problem.level, problem.file, problem.id) for problem in problems] == [("error", f"{split}.json", "")]
    with pytest.raises(DataError, match="it has 1 error.*\n.*within 0 to 1.*Multiply x and width by the image's width"):
        require_sound(find_dataset("pets"))


def test_the_advice_for_shares_leads_out(folder: Path) -> None:
    each_box(as_shares)(folder)
    each_box(lambda box: ([box[0] * WIDTH, box[1] * HEIGHT, box[2] * WIDTH, box[3] * HEIGHT], box[2] * WIDTH * box[3] * HEIGHT))(folder)
    assert check_dataset("pets") == []


# ---- two corners -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_corners_are_found_by_where_their_boxes_would_lie(seed: int) -> None:
    """Their areas are those of x2 * y2, as one who takes corners for sides computes them."""
    written = [corners(box) for box in boxes(30, seed)]
    found = form(written)
    assert "boxes stick out of their images, and 30 of 30 fit as two corners" in found.reason and len(found.indices) == 30


def test_corners_of_objects_in_the_upper_left_are_found_by_their_areas() -> None:
    """None sticks out; the areas are those of the real boxes, as exporters write them."""
    real = [[10.0 + 5 * n, 12.0, 40.0, 30.0] for n in range(8)]
    found = form([corners(box) for box in real], [1200.0] * 8)
    assert found.reason.startswith("the area of 8 of 8 boxes is that between two corners")


def test_corners_that_one_box_breaks_are_found() -> None:
    written = [corners(box) for box in boxes(80)] + [[30.0, 30.0, 20.0, 20.0]]
    assert "80 of 81 fit as two corners" in form(written).reason


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("count", [1, 2, 3, 5, 30])
def test_boxes_as_they_should_be_are_never_called_another_form(seed: int, count: int) -> None:
    assert form(boxes(count, seed)) == OtherForm()


def test_large_boxes_that_stick_out_by_rounding_are_no_corners() -> None:
    """Each would fit as two corners."""
    assert form([[3.0, 4.0, 640.0, 480.0], [1.0, 2.0, 641.0, 479.0], [5.0, 5.0, 640.0, 480.0]]) == OtherForm()


def test_boxes_that_are_too_large_among_others_are_no_corners() -> None:
    """These would fit as two corners, most of the others would not."""
    assert form([*boxes(14), *[[100.0 + n, 100.0, 600.0, 450.0] for n in range(6)]]) == OtherForm()


def test_masks_that_fill_little_of_their_boxes_are_no_corners() -> None:
    real = [[1.0, 1.0, 80.0, 60.0], [3.0, 2.0, 90.0, 70.0], [2.0, 5.0, 70.0, 90.0], [4.0, 4.0, 60.0, 60.0]]
    assert form(real, [0.4 * box[2] * box[3] for box in real]) == OtherForm()


def test_broken_boxes_and_unknown_images_are_passed_over() -> None:
    wrong: list[Any] = [None, "box", [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [True, 1, 1, 1], [10**400, 2, 3, 4]]
    entries: list[Any] = [5, {}, *({"id": 1, "image_id": [], "bbox": bbox} for bbox in wrong)]
    assert in_another_form(entries, {1: None}) == OtherForm()


def test_the_advice_for_corners_leads_out(folder: Path) -> None:
    each_box(as_corners)(folder)
    assert [problem.id for problem in check_dataset("pets")] == [""]
    each_box(lambda box: ([box[0], box[1], box[2] - box[0], box[3] - box[1]], (box[2] - box[0]) * (box[3] - box[1])))(folder)
    assert check_dataset("pets") == []


# ---- twice -----------------------------------------------------------------------------------------------------------


def words(*entries: dict[str, Any]) -> str:
    return listed_twice(list(entries))


def test_the_note_counts_gives_examples_and_says_what_to_do(folder: Path) -> None:
    twice(folder)
    (problem,) = check_dataset("pets")
    assert (problem.level, problem.file) == ("note", "train.json")
    assert "4 of 8 annotations repeat" in problem.reason and "and 1 more. An object that is listed twice counts as two" in problem.reason
    content = load(folder, "train")
    save(folder, "train", {**content, "annotations": [a for a in content["annotations"] if a["id"] < 100]})
    assert check_dataset("pets") == [], "as the note advises"


@pytest.mark.parametrize("rounded", [[10.0, 10.0, 20.0, 20.0], [10.4, 9.6, 20.3, 19.8], [9.5, 10.5, 20.5, 19.5], [11.0, 11.0, 20.0, 20.0],
                                     [9.0, 9.0, 21.0, 21.0]])
def test_a_box_that_was_rounded_in_the_second_export_or_counted_from_1_is_the_same(rounded: Box) -> None:
    assert "annotation 2 that of annotation 1" in words(annotation(1, 1, [10.0, 10.0, 20.0, 20.0]), annotation(2, 1, rounded))


def test_three_times_are_two_repeats_of_the_first_whatever_their_order() -> None:
    found = words(annotation(7, 1, [10.0, 10.0, 20.0, 20.0]), annotation(3, 1, [9.8, 10.0, 20.0, 20.0]),
                  annotation(5, 1, [10.2, 10.0, 20.0, 20.0]))
    assert found.startswith("2 of 3 annotations repeat") and "annotation 3 that of annotation 7" in found


@pytest.mark.parametrize("other", [
    annotation(2, 1, [10.0, 10.0, 20.0, 21.1]), annotation(2, 1, [11.1, 10.0, 20.0, 20.0]), annotation(2, 2, [10.0, 10.0, 20.0, 20.0]),
    annotation(2, 1, [10.0, 10.0, 20.0, 20.0], 7), annotation(2, 1, [10.0, 10.0, 20.0, 20.0], iscrowd=1),
])
def test_another_box_image_class_or_a_crowd_is_another_object(other: dict[str, Any]) -> None:
    assert words(annotation(1, 1, [10.0, 10.0, 20.0, 20.0]), other) == ""


# ---- groups of classes -----------------------------------------------------------------------------------------------


def group_notes(folder: Path) -> list[str]:
    return [problem.id for problem in check_dataset(folder) if "group of classes" in problem.reason]


def supercategories(folder: Path, **of_class: str) -> None:
    for split in ("train", "val"):
        content = load(folder, split)
        for category in content["categories"]:
            category["supercategory"] = of_class.get(category["name"], "")
        save(folder, split, content)


def test_a_group_is_noted_and_the_advice_leads_out(folder: Path) -> None:
    grouped(folder)
    assert group_notes(folder) == ["class pets"]
    for split in ("train", "val"):
        content = load(folder, split)
        save(folder, split, {**content, "categories": content["categories"][1:]})
    assert check_dataset(folder) == []


def test_a_group_that_stands_last_under_another_id_is_noted(folder: Path) -> None:
    grouped(folder)
    for split in ("train", "val"):
        content = load(folder, split)
        group, *classes = content["categories"]
        save(folder, split, {**content, "categories": [*classes, {**group, "id": 99}]})
    assert group_notes(folder) == ["class pets"]


def test_a_class_with_objects_that_others_name_as_their_group_is_a_class(folder: Path) -> None:
    supercategories(folder, cat="dog")
    assert check_dataset(folder) == []


def test_a_class_that_is_its_own_group_is_a_class(folder: Path) -> None:
    """As COCO's person is; here without objects."""
    for split in ("train", "val"):
        content = load(folder, split)
        content["categories"].append({"id": 9, "name": "person", "supercategory": "person"})
        save(folder, split, content)
    assert group_notes(folder) == []
