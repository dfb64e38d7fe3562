"""The rules for all annotations at once find what the rules for one find."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_dataset import coco
from workbook.data import entries, images
from workbook.data.columns import columns_of
from workbook.data.entries import entry_problems

VALUES: list[Any] = [0, 1, -1, 2, 1.0, 0.5, True, False, None, "1", [], {}, [1], 2**53, 2**63, 2**70, 1e300, float("nan"), float("inf")]
BOXES: list[Any] = [
    [0, 0, 64, 48], [0, 0, 64, 49], [0, 0, 66, 48], [-1, 0, 20, 10], [-1.5, 0, 20, 10], [60, 40, 20, 20], [63, 0, 60, 10], [5, 6, 0, 3],
    [5, 6, -1, 3], [5, 6, 0.5, 30], [5, 6, 1, 1], [5, 6, True, 3], [5, 6, 7], [5, 6, 7, "8"], [5, 6, 7, float("nan")], (5, 6, 7, 8),
    [5, 6, 7, 10**400], [2**70, 0, 2**70, 1],
]


def broken(seed: int) -> dict[str, Any]:
    """A file whose annotations are sound but in one or two values each."""
    rng = random.Random(seed)
    content = coco("train", images=5)
    content["images"][4]["width"] = rng.choice([None, 64.5, 64])
    wrong: list[Any] = []
    for number in range(200):
        one = dict(content["annotations"][number % 5], id=number + 100)
        for _ in range(rng.randint(0, 2)):
            key = rng.choice(["id", "image_id", "category_id", "iscrowd", "ignore", "area", "bbox", "segmentation"])
            one[key] = rng.choice(BOXES) if key == "bbox" and rng.random() < 0.8 else rng.choice(VALUES)
            if rng.random() < 0.2:
                del one[key]
        if isinstance(one.get("bbox"), list) and len(one["bbox"]) == 4 and rng.random() < 0.5:
            one["area"] = rng.choice([0.94, 0.95, 0.951, 1.0, 1.05, 1.0501]) * 200
        wrong.append(rng.choice([one] * 30 + [None, 3, []]))
    return {**content, "annotations": wrong}


@pytest.mark.parametrize("seed", range(30))
def test_the_same_problems_as_one_by_one(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = broken(seed)
    found = entry_problems("train.json", content)
    assert len(found) > 50
    monkeypatch.setattr(entries, "_surely_sound", lambda columns: np.zeros(len(columns.is_box), bool))
    assert entry_problems("train.json", content) == found


def test_sound_entries_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_annotation", None)
    assert entry_problems("train.json", coco("train", images=20)) == []


def test_columns_of_nothing() -> None:
    assert columns_of([], {}, set()).boxes.shape == (0, 4)


@pytest.mark.parametrize("name", [
    "a.jpg", "sub/a.jpg", "..", "a/../../b", "/a", "\\a", "C:a", "//server/a", "a..jpg", "", ".", "a\\..\\b", "..a",
])
def test_names_that_surely_stay_inside_are_only_passed_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = images.leaves_folder(name)
    monkeypatch.setattr(images, "_MAY_LEAVE", images.re.compile(""))
    assert images.leaves_folder(name) == found


def test_an_interrupted_reading_keeps_what_it_has_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from small_dataset import write_dataset

    folder = write_dataset(tmp_path / "pets", images=6)
    names = [f"train_{number}.png" for number in range(1, 7)]
    read = images._read
    seen: list[str] = []

    def until_the_fourth(path: Path, stamp: images.Stamp) -> images.ImageFile:
        seen.append(path.name)
        if path.name == names[3]:
            raise KeyboardInterrupt
        return read(path, stamp)

    monkeypatch.setattr(images, "_read", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        images.image_files(folder / "images", names)
    monkeypatch.setattr(images, "_read", lambda path, stamp: seen.append(path.name) or read(path, stamp))
    seen.clear()
    assert all(file.sha256 for file in images.image_files(folder / "images", names).values())
    assert sorted(seen) == names[3:]
