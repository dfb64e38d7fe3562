"""A train set cut in two for a search: an ordinary dataset, always the same, that holds nothing of val."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenes import make_dataset
from small_dataset import load, save
from workbook.data.catalog import DataError, cuts_root, find_dataset
from workbook.data.checks import check_dataset, require_sound
from workbook.data.cuts import cut_for_search, cut_shares


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "data", "scenes", train_images=16, val_images=2, width=96, height=64, sizes=("small", "medium"))
    return tmp_path / "data" / "scenes"


def ids(tables) -> set[int]:
    return {image["id"] for image in tables["images"]}


def test_a_cut_is_a_sound_dataset_whose_halves_are_the_train_set() -> None:
    whole = find_dataset("scenes")
    cut = find_dataset(cut_for_search(whole))
    require_sound(cut)
    assert not [problem for problem in check_dataset(cut.folder) if problem.level == "error"]
    assert ids(cut.train) | ids(cut.val) == ids(whole.train) and not ids(cut.train) & ids(cut.val)
    assert (len(cut.train["images"]), len(cut.val["images"])) == (12, 4)
    names = {image["file_name"] for tables in (cut.train, cut.val) for image in tables["images"]}
    assert all(name.startswith("train") for name in names) and (cut.folder / "images").is_symlink()
    sizes = [sum(a["area"] <= 32**2 for a in tables["annotations"]) for tables in (cut.train, cut.val)]
    assert sizes == [12, 4]  # stratified: an object of each size in every image


def test_the_same_data_have_the_same_cut_and_others_another(data: Path) -> None:
    first = find_dataset(cut_for_search(find_dataset("scenes")))
    again = find_dataset(cut_for_search(find_dataset("scenes")))
    assert (first.name, first.hash) == (again.name, again.hash)
    content = load(data, "train")
    content["annotations"][0]["bbox"][0] += 1
    save(data, "train", content)
    assert cut_for_search(find_dataset("scenes")) != first.name


def test_shares_are_nested_and_scored_alike() -> None:
    cut = find_dataset(cut_for_search(find_dataset("scenes")))
    shares = {share: find_dataset(name) for share, name in cut_shares(cut.name).items()}
    assert ids(shares["quarter"].train) < ids(shares["half"].train) < ids(cut.train)
    assert [len(shares[share].train["images"]) for share in ("half", "quarter")] == [6, 3]
    assert all(share.val == cut.val for share in shares.values())
    assert cut_shares(cut.name) == {share: one.name for share, one in shares.items()}


def test_what_the_users_split_held_together_stays_together(data: Path) -> None:
    content = load(data, "train")
    for image in content["images"]:
        image["place"] = image["id"] // 4
    save(data, "train", {**content, "info": {"split": {"group_by": "place"}}})
    cut = find_dataset(cut_for_search(find_dataset("scenes")))
    places = [{image["place"] for image in tables["images"]} for tables in (cut.train, cut.val)]
    assert not places[0] & places[1] and all(places)


def test_a_cut_that_was_deleted_says_who_makes_it_again() -> None:
    with pytest.raises(DataError, match="no dataset 'scenes@search-12345678' in .*: `workbook remedy RUN` cuts it again from scenes"):
        find_dataset("scenes@search-12345678")


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot write .*file/cuts"):
        cut_for_search(find_dataset("scenes"))
    assert not cuts_root().exists()
