"""A check of an unchanged set is remembered; whatever changes is judged again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from small_dataset import load, picture, save, write_dataset
from workbook.data import checks, judged
from workbook.data.checks import check_dataset


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    monkeypatch.setattr(judged, "SETTLED", 0.0)
    folder = write_dataset(tmp_path / "pets")
    train = load(folder, "train")
    train["annotations"][0]["area"] = 100.0  # half of its box: a note
    save(folder, "train", train)
    return folder


@pytest.fixture
def judgements(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were judged."""
    found: list[Path] = []
    judge = checks._judge
    monkeypatch.setattr(checks, "_judge", lambda folder, splits: found.append(folder) or judge(folder, splits))
    return found


def test_the_second_check_reads_neither_file_and_finds_the_same(pets: Path, judgements: list[Path]) -> None:
    first = check_dataset(pets)
    assert [problem.level for problem in first] == ["note"]
    assert check_dataset(pets) == first and len(judgements) == 1


def break_box(pets: Path) -> None:
    content = load(pets, "val")
    content["annotations"][0]["bbox"][0] = -90.0
    save(pets, "val", content)


def break_box_in_disguise(pets: Path) -> None:
    path = pets / "val.json"
    before = path.stat()
    path.write_text(path.read_text().replace('"bbox": [5.0', '"bbox": [-5.', 1)[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_image(pets: Path) -> None:
    picture(900, width=32).save(pets / "images" / "val_1.png")


def link_out(pets: Path) -> None:
    path = pets / "images" / "val_1.png"
    path.rename(pets / "val_1.png")
    path.symlink_to(pets / "val_1.png")


@pytest.mark.parametrize("change", [
    break_box, break_box_in_disguise, other_image, link_out, lambda pets: (pets / "images" / "val_1.png").unlink(),
    lambda pets: (pets / "val.json").unlink(),
])
def test_what_has_changed_is_judged_again(pets: Path, judgements: list[Path], change: Callable[[Path], None]) -> None:
    check_dataset(pets)
    change(pets)
    assert any(problem.level == "error" for problem in check_dataset(pets)) and len(judgements) == 2
    assert any(problem.level == "error" for problem in check_dataset(pets)) and len(judgements) == 3  # errors are not remembered


def test_other_rules_judge_again(pets: Path, judgements: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    check_dataset(pets)
    monkeypatch.setattr(judged, "_rules", lambda: "of tomorrow")
    check_dataset(pets)
    assert len(judgements) == 2


def test_a_file_that_has_just_changed_is_judged_again(pets: Path, judgements: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "SETTLED", 3600.0)
    check_dataset(pets)
    assert not (pets / ".check.json").exists()
    check_dataset(pets)
    assert len(judgements) == 2


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"judged_by": 1}'])
def test_a_broken_memory_is_no_memory(pets: Path, judgements: list[Path], damage: str) -> None:
    first = check_dataset(pets)
    (pets / ".check.json").write_text(damage)
    assert check_dataset(pets) == first and len(judgements) == 2
