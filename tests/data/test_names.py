"""A file_name that no file has: the message names the file that is there, and following it leads out."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from bad_data import COMPOSED, DECOMPOSED, change, named
from small_dataset import write_dataset
from workbook.data.checks import check_dataset
from workbook.data.names import FilesThere


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "pets")


def put(folder: Path, *names: str) -> FilesThere:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return FilesThere(folder)


KOREAN = "\ud55c\uae00.png"
SAME = {  # the file in images/ → file_names that mean it
    "train/IMG_0001.JPG": ("IMG_0001.jpg", "train\\img_0001.JPG", "photos/2020/IMG_0001.JPG", "./IMG_0001.JPG", "/home/ann/IMG_0001.JPG",
                           "C:\\photos\\IMG_0001.JPG", "../images/train/IMG_0001.JPG", "IMG_0001.png", "IMG_0001"),
    "my photo (1).jpg": ("my%20photo%20(1).jpg", "my+photo+(1).jpg", "my%20photo%20%281%29.JPG", "images/my photo (1).jpg"),
    "a%20b.jpg": ("a b.jpg",),
    unicodedata.normalize("NFD", KOREAN): (KOREAN, unicodedata.normalize("NFC", KOREAN), "%ED%95%9C%EA%B8%80.png"),
    "IMG-1.jpg": ("\uff29\uff2d\uff27\uff0d\uff11.jpg",), "\ufb01sh.jpg": ("fish.jpg",),  # full-width letters, a ligature
    COMPOSED: (DECOMPOSED, f"x/{DECOMPOSED.upper()}", "M%C3%BCll.png", "Mu%CC%88ll.jpeg"),
}


@pytest.mark.parametrize(("real", "file_name"), [(real, name) for real, names in SAME.items() for name in names])
def test_every_spelling_of_a_name_means_its_file(real: str, file_name: str, folder: Path) -> None:
    assert put(folder, f"images/{real}").meant(file_name) == [f"images/{real}"]


@pytest.mark.parametrize("file_name", ["train_9.png", "rain_1.png", "train_1", "", "/", "..", "a\0b", "train_1.png/x"])
def test_a_name_that_means_no_file_gets_no_words(file_name: str, folder: Path) -> None:
    found = FilesThere(folder).words(file_name)
    assert found == ("; there is images/train_1.png: correct file_name" if file_name == "train_1" else "")


def test_labels_beside_an_image_are_not_meant(folder: Path) -> None:
    there = put(folder, "images/a.txt", "images/b.txt", "images/b.png", "images/.c.png")
    assert there.meant("a.jpg") == [] and there.meant("b.jpg") == ["images/b.png"] and there.meant("c.png") == []


def test_names_that_are_no_text_are_passed_over_and_invisible_letters_are_not(folder: Path) -> None:
    there = put(folder, "images/\udcff.png", "images/\u200c\u06cc.png")
    assert there.meant("\u200c\u06cc.jpg") == ["images/\u200c\u06cc.png"] and there.meant("\udcff.jpg") == []


def test_of_several_the_one_in_the_same_folder_is_meant(folder: Path) -> None:
    there = put(folder, "images/day1/cam/1.jpg", "images/day2/cam/1.jpg", "images/day2/other/1.jpg", "old/1.jpg")
    assert there.meant("data/day2/cam/1.jpg") == ["images/day2/cam/1.jpg"]
    assert there.words("1.jpg").startswith("; there is images/day1/cam/1.jpg and images/day2/cam/1.jpg and images/day2/other/1.jpg")


def test_images_that_are_a_link_are_listed(folder: Path, tmp_path: Path) -> None:
    (folder / "images").rename(tmp_path / "elsewhere")
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    assert FilesThere(folder).meant("train_1.jpg") == ["images/train_1.png"]


def test_the_two_unicode_forms_are_told_apart(folder: Path) -> None:
    """They look the same, so the message says what is another."""
    assert "NFD (decomposed, as macOS writes)" in put(folder, f"images/{DECOMPOSED}").words(COMPOSED)
    (folder / "images" / DECOMPOSED).rename(folder / "images" / COMPOSED)
    assert "NFC (composed)" in FilesThere(folder).words(DECOMPOSED)


ADVICE = {
    "Unicode": named(COMPOSED, f"images/{DECOMPOSED}"), "percent": named("my%20cat.png", "images/my cat.png"),
    "folder": named("a/train_1.png", "images/b/train_1.png"), "ending": named("train_1.jpg", "images/train_1.png"),
    "case": named("TRAIN_1.PNG", "images/train_1.png"), "absolute": change("images", file_name="/home/ann/train_1.png"),
    "Windows": change("images", file_name="C:\\photos\\train_1.png"),
}


@pytest.mark.parametrize("case", ADVICE)
def test_writing_the_name_of_the_message_leads_out(case: str, folder: Path) -> None:
    ADVICE[case](folder)
    (problem,) = check_dataset(folder)
    found = re.search(r"there is images/(.*?)(, the same letters.*)?: correct file_name", problem.reason)
    assert found, problem
    change("images", file_name=found[1])(folder)
    assert check_dataset(folder) == []


def test_moving_the_file_as_the_message_says_leads_out(folder: Path) -> None:
    named("train_1.png", "train/train_1.png")(folder)
    (problem,) = check_dataset(folder)
    found = re.search(r"there is (.*), outside images/: move it to (.*)", problem.reason)
    assert found, problem
    (folder / found[1]).rename(folder / found[2])
    assert check_dataset(folder) == []
