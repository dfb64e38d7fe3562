"""Names in any script are drawn with their letters, shaped and in their direction; without a font one sentence says so."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import font_manager
from PIL import ImageFont

from small_dataset import load, picture, save, write_dataset
from workbook.data.catalog import find_dataset
from workbook.data.objects import counts
from workbook.errors import ParameterError
from workbook.views import fonts, style
from workbook.views.dataset import plots
from workbook.views.fonts import isolated

PAIRS = {  # two words of each script
    "Chinese": ("猫", "狗"), "traditional Chinese": ("貓", "鳥"), "Japanese": ("ねこ", "いぬ"), "katakana": ("ネコ", "イヌ"),
    "Korean": ("고양이", "개구리"), "Arabic": ("قطة", "كلب"), "Persian": ("گربه", "پرنده"), "Hebrew": ("חתול", "כלב"),
    "Devanagari": ("बिल्ली", "कुत्ता"), "Bengali": ("বিড়াল", "কুকুর"), "Tamil": ("பூனை", "நாய்"), "Thai": ("แมว", "หมา"),
    "Cyrillic": ("кошка", "собака"), "Greek": ("γάτα", "σκύλος"),
}


@pytest.fixture(autouse=True)
def theme() -> None:
    fonts.families.cache_clear()
    style.use_theme()


def drawn(text: str, size: float = 40) -> np.ndarray:
    """The ink of the text, cut to its box; a warning of matplotlib is an error."""
    figure = plt.figure(figsize=(8, 2), dpi=72)
    figure.text(0.05, 0.4, text, fontsize=size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    ink = np.asarray(figure.canvas.buffer_rgba())[..., 0] < 128
    plt.close(figure)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("script", PAIRS)
def test_two_words_of_a_script_are_not_the_same_boxes(script: str) -> None:
    one, two = (drawn(word) for word in PAIRS[script])
    assert one.shape != two.shape or (one != two).mean() > 0.05


@pytest.mark.parametrize("word", ["बिल्ली", "क्षत्रिय", "हिन्दी", "قطة", "العربية"])
def test_letters_are_joined_as_harfbuzz_joins_them(word: str) -> None:
    """Pillow's layout engine Raqm is the outside truth for the width; letters set side by side are wider."""
    own = "DejaVu Sans" if word[0] > "\u0600" and word[0] < "\u0700" else "Noto Sans Devanagari"
    path = font_manager.findfont(own)
    joined, side_by_side = (ImageFont.truetype(path, 40, layout_engine=engine).getmask(word).getbbox()
                            for engine in (ImageFont.Layout.RAQM, ImageFont.Layout.BASIC))
    width = drawn(word).shape[1]
    assert abs(width - (joined[2] - joined[0])) <= 3 < side_by_side[2] - side_by_side[0] - width


def test_hebrew_and_arabic_run_from_right_to_left() -> None:
    override, pop = "\u202d", "\u202c"  # inside, letters stand in the order in which they are written here
    assert (drawn("חתול") == drawn(f"{override}לותח{pop}")).all()
    assert drawn("אב").shape != drawn(f"{override}אב{pop}").shape or (drawn("אב") != drawn(f"{override}אב{pop}")).any()


def test_a_name_from_right_to_left_leaves_the_figures_beside_it_where_they_are() -> None:
    """Without its own direction, the figure after an Arabic name would be drawn before it (UAX 9)."""
    figure = drawn("0.52")
    right_end = drawn(f"{isolated('قطة')} 0.52")[:, -figure.shape[1] :]
    rows = np.flatnonzero(right_end[:, -figure.shape[1] // 3 :].any(axis=1))
    assert (right_end[rows[0] : rows[0] + figure.shape[0]] == figure).mean() > 0.95


def test_pictures_of_a_dataset_with_such_names_warn_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    write_dataset(tmp_path / "cjk")
    for split in ("train", "val"):
        content = load(tmp_path / "cjk", split)
        for number, image in enumerate(content["images"]):
            image["file_name"] = f"图片 قطة बिल्ली {split} {number}.png"
            picture(10 * number + len(split)).save(tmp_path / "cjk" / "images" / image["file_name"])
        for category, name in zip(content["categories"], ("고양이", "いぬ"), strict=True):
            category["name"] = name
        save(tmp_path / "cjk", split, content)
    dataset = find_dataset("cjk")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.class_counts(counts(dataset))
        plots.sample_pictures(dataset, split="train")
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()


def test_letters_that_no_font_has_are_said_once_and_not_warned_of(capsys: pytest.CaptureFixture) -> None:
    for text in ("ꦲꦏꦫ", "ꦲ again", "𐎠 another script"):
        figure = plt.figure()
        figure.text(0.1, 0.5, text)
        figure.canvas.draw()
    said = capsys.readouterr()
    assert said.out.count("no font of this machine can draw") == 1 and "JAVANESE LETTER" in said.out and "WORKBOOK_FONT" in said.out
    assert "Glyph" not in said.out + said.err


def test_other_warnings_are_as_before(capsys: pytest.CaptureFixture) -> None:
    passed: list[str] = []
    warning = fonts._OneSentence(lambda message, *where: passed.append(str(message)))
    for message in ("Glyph shapes are deprecated", "Glyph 43442 (\\N{JAVANESE LETTER HA}) missing from font(s) DejaVu Sans."):
        warning(UserWarning(message), UserWarning, "plot.py", 1)
    assert passed == ["Glyph shapes are deprecated"] and "JAVANESE" in capsys.readouterr().out


def test_without_the_packages_a_font_of_the_system_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages' own files stand for a font that is installed on the machine: matplotlib knows both from the same list."""
    for path in fonts._packaged():
        font_manager.fontManager.addfont(path)
    monkeypatch.setattr(fonts, "PACKAGES", {})
    fonts.families.cache_clear()
    found = fonts.families()
    assert "Noto Sans CJK JP" in found and "Noto Sans Devanagari" in found


# ---- a font that the user names --------------------------------------------------------------------------------------


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch):
    def name(value: object) -> tuple[str, ...]:
        monkeypatch.setenv("WORKBOOK_FONT", str(value))
        fonts.families.cache_clear()
        return fonts.families()

    yield name
    monkeypatch.undo()
    fonts.families.cache_clear()


def test_it_comes_before_all_others(named, tmp_path: Path) -> None:
    font = tmp_path / "mine.ttf"
    font.write_bytes(Path(font_manager.findfont("DejaVu Serif")).read_bytes())
    assert named(font)[0] == "DejaVu Serif"
    assert named("DejaVu Sans Mono")[0] == "DejaVu Sans Mono"


def test_one_that_is_not_there_is_refused_with_those_that_are(named, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"WORKBOOK_FONT=Nosuch: no such file, and no installed font.*DejaVu Sans"):
        named("Nosuch")
    (tmp_path / "words.ttf").write_text("no font")
    with pytest.raises(ParameterError, match=r"words.ttf: this file is no font that can be read.*or unset WORKBOOK_FONT"):
        named(tmp_path / "words.ttf")
