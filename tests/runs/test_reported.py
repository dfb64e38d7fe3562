"""Hand-kept tables: the first team's, whose first row is shifted, and every kind of cell that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbook.data.reading import DataError
from workbook.files import read_json
from workbook.runs.reported import TableError, adopt, read_table, reported_root, reported_rows

COLUMNS = ("Exp num | Backbone | RoI Head | Epoch | Best Epoch | initial lr | Lr schd | Optimizer | Image size | val/bbox_mAP | "
           "val/bbox_mAP_50 | val/bbox_mAP_75 | val/bbox_mAP_s | val/bbox_mAP_m | val/bbox_mAP_l | val/loss_rpn_cls | val/loss_rpn_bbox | "
           "val/loss_cls | val/acc | val/loss_bbox | val/loss")
HOW = "Faster R-CNN | 1x | {best} | lr=0.002 | step=[8, 11], warmup 500 | SGD lr=0.002 | 1024x1024"
R50 = f"1 | R50 | {HOW.format(best=10)} | 0.231 | 0.4240 | 0.225 | 0.000 | 0.046 | 0.281 | "
LOSSES = "0.0524 | 0.0421 | 0.2682 | 92.1514 | 0.2525 | 0.6152"
SWIN = f"1-1 | swin_t | {HOW.format(best=11)} | 0.2110 | 0.4190 | 0.1920 | 0.0040 | 0.0430 | 0.2520"
PVT = f"1-3 | pvtv2_b5 | {HOW.format(best=11)} | 0.345 | 0.565 | 0.365 | 0.011 | 0.080 | 0.409"


def table(folder: Path, *rows: str, columns: str = COLUMNS) -> Path:
    path = folder / "experiments.md"
    dashes = "|".join([":-:"] * (columns.count("|") + 1))
    path.write_text("\n".join(["# Ours", "", *(f"| {row} |" for row in (columns, dashes, *rows)), ""]))
    return path


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "litter").mkdir(parents=True)


def test_the_first_table_is_refused_and_names_the_cell_too_many(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        adopt(table(tmp_path, f"{R50}37.4 | {LOSSES}", SWIN, PVT), "litter")
    said = str(caught.value)
    assert "line 5, Exp 1: 22 cells for 21 columns: cell 16, '37.4' under val/loss_rpn_cls, is too many." in said
    assert "Without it every figure fits its column and the losses add up to val/loss" in said
    assert "val/bbox_mAP_l 0.281, val/loss_rpn_cls 0.0524, val/loss_rpn_bbox 0.0421, val/loss_cls 0.2682, val/acc 92.1514" in said
    assert len(said.splitlines()) == 2 and not reported_root().exists()


def test_the_row_that_is_named_is_adopted(tmp_path: Path) -> None:
    path = table(tmp_path, R50 + LOSSES, SWIN, PVT)
    rows = adopt(path, "litter")
    assert reported_rows(["litter"]) == rows and reported_rows(["pets"]) == []
    first, second, _ = (row.values for row in rows)
    assert (first["Exp num"], first["Epoch"], first["Best Epoch"], first["initial lr"]) == ("1", 12, 10, 0.002)
    assert (first["val/bbox_mAP_50"], first["val/acc"], first["val/loss"]) == (0.424, 92.1514, 0.6152)
    assert second["Exp num"] == "1-1" and "val/loss" not in second
    saved = read_json(reported_root() / "litter" / "experiments.md.json")
    assert (saved["dataset"], saved["table"]) == ("litter", "experiments.md")


def test_the_same_table_again_replaces_its_rows(tmp_path: Path) -> None:
    adopt(table(tmp_path, SWIN, PVT), "litter")
    adopt(table(tmp_path, PVT), "litter")
    assert [row.values["Backbone"] for row in reported_rows(["litter"])] == ["pvtv2_b5"]


def test_a_csv_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('Exp num,Backbone,val/bbox_mAP,Lr schd\n1,R50,0.231,"step=[8, 11]"\n')
    row, = read_table(path, "litter")
    assert row.values == {"Exp num": "1", "Backbone": "R50", "val/bbox_mAP": 0.231, "Lr schd": "step=[8, 11]"}


SHORT = "Exp num | Backbone | Epoch | Best Epoch | initial lr | Image size | val/bbox_mAP | val/bbox_mAP_50 | val/bbox_mAP_75 | val/acc"


@pytest.mark.parametrize(("row", "said"), [
    ("1 | R50 | 12 | 3 | .002 | 1024 | 23.1 | .4 | .2 | 92", "val/bbox_mAP is '23.1'. Allowed: a precision from 0 to 1"),
    ("1 | R50 | 12 | 3 | .002 | 1024 | .5 | .4 | .2 | 92", "val/bbox_mAP 0.5 is above val/bbox_mAP_50 0.4"),
    ("1 | R50 | 12 | 3 | .002 | 1024 | .1 | .2 | .3 | 92", "val/bbox_mAP_75 0.3 is above val/bbox_mAP_50 0.2"),
    ("1 | R50 | 12 | 3 | .002 | 1024 | .3 | .4 | .2 | 192", "val/acc is '192'. Allowed: a share in percent"),
    ("1 | R50 | 12 | 13 | .002 | 1024 | .3 | .4 | .2 | 92", "Best Epoch 13 is after the last one, 12"),
    ("1 | R50 | long | 3 | fast | big | .3 | .4 | .2 | 92", "Epoch is 'long'. Allowed: a whole number of epochs, or 1x"),
    ("1 | R50 | 12 | 3 | fast | 1024 | .3 | .4 | .2 | 92", "initial lr is 'fast'. Allowed: a number above 0"),
    ("1 | R50 | 12 | 3 | .002 | big | .3 | .4 | .2 | 92", "Image size is 'big'. Allowed: pixels, such as 1024"),
    ("1 | .3 | 12 | 3 | .002 | 1024 | .3 | .4 | .2 | 92", "Backbone is '.3'. Allowed: words, and this is a number"),
    ("1 | R50 | 12 | 3", "val/bbox_mAP is blank: it is needed"),
    ("1 | | 12 | 3 | .002 | 1024 | .3 | .4 | .2 | 92", "Backbone is blank: it is needed"),
    ("1 | R50 | 12 | 3 | .002 | 1024 | .3 | .4 | .2 | 92 | 1 | 2", "12 cells for 10 columns: take 2 cells out"),
    ("1 | R50 | 12 | 3 | .002 | 1024 | .3 | .4 | .2 | .1 | 92", "11 cells for 10 columns: one is too many, and it cannot be told which"),
])
def test_a_cell_that_cannot_be_is_named(row: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="line 5, Exp 1: ") as caught:
        adopt(table(tmp_path, row, columns=SHORT), "litter")
    assert said in str(caught.value) and "nothing was saved" in str(caught.value) and not reported_root().exists()


def test_losses_that_do_not_add_up_are_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"the losses add up to 0\.6152, but val/loss is 0\.7152"):
        adopt(table(tmp_path, R50 + LOSSES.replace("0.6152", "0.7152")), "litter")


def test_every_wrong_row_is_named_at_once_and_a_number_once_only(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        adopt(table(tmp_path, SWIN, SWIN.replace("0.2110", "2.110"), PVT.replace("0.345", "x")), "litter")
    said = str(caught.value)
    assert "line 6, Exp 1-1: val/bbox_mAP is '2.110'" in said and "Exp num 1-1 is in line 5 too" in said and "val/bbox_mAP is 'x'" in said


@pytest.mark.parametrize(("text", "said"), [
    ("| Exp num | Backbone | mAP |\n|---|---|---|\n| 1 | R50 | .2 |", "unknown columns: mAP. Known: Exp num"),
    ("Exp num,Backbone\n1,R50", "without the columns val/bbox_mAP"), ("nothing", "holds no table"), ("", "holds no table"),
    ("Exp num,Backbone,val/bbox_mAP,Backbone\n1,a,.1,b", "the column Backbone is there twice"),
])
def test_a_table_of_something_else_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    path.write_text(text)
    with pytest.raises(TableError, match=said):
        read_table(path, "litter")


def test_a_data_set_and_a_file_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset 'liter' in "):
        adopt(table(tmp_path, PVT), "liter")
    with pytest.raises(TableError, match="none.md cannot be read"):
        adopt(tmp_path / "none.md", "litter")
