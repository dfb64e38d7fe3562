"""The page of a study: what is drawn and written is what was found, and names are text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from run_folders import write_run
from workbook.studies.causes import Cause
from workbook.studies.store import SavedStudy
from workbook.studies.verdicts import Verdict
from workbook.views.study import plots, tables
from workbook.views.study.note import note

matplotlib.use("Agg")
CLAIM, OTHER = "swin_t > resnet18 on bbox_mAP_s", "swin_t = resnet18 within .01 on bbox_mAP"
EVIL = "<script>alert(1)</script> | [x](javascript:y)"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedStudy:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    runs = [write_run(tmp_path, backbone=name, hour=hour) for hour, name in enumerate(("resnet18", "swin_t"))]
    verdicts = (
        Verdict(CLAIM, "supported", 0.05, 0.01, 0.09, 3, 40, (), "supported: swin_t less resnet18 is +0.050"),
        Verdict(OTHER, "open", None, None, None, 3, 40, (), "open: no finished run of swin_t"),
    )
    causes = (Cause(CLAIM, "class", "AP", "small", -0.2, -0.3, -0.1, 3), Cause(CLAIM, "box", "AP", "small", 0.02, -0.1, 0.14, 3))
    return SavedStudy(
        name="mine", file="studies/mine.yaml", question="Why?", hypothesis="So.", claims=(CLAIM, OTHER), references=("Somebody 2020",),
        options={"seed": "0,1,2"},
        datasets=("tree_crowns",), varies={"backbone": ["resnet18", "swin_t"]}, runs=tuple(run.name for run in runs),
        unfinished={"run-3": "killed"}, causes=causes, why_no_causes=(), verdicts=verdicts,
    )


def test_the_note_has_every_part_of_a_write_up(study) -> None:
    text = note(study)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# mine: Why?", "## Hypothesis", "## Method", "## Result", "## Cause", "## References"]
    for words in ("2 trainings on tree_crowns. What varies: backbone resnet18, swin_t.",
                  "Given on the command line, in place of the file's",
                  "Not finished: run-3 (killed).", "recipe official", "version of torch 2.11.0",
                  "- **swin_t &gt; resnet18 on bbox_mAP_s**: supported: swin_t less resnet18 is +0.050.",
                  "class costs the right side 0.200 AP more. The other stages are open.", "- Somebody 2020",
                  "- He et al. 2016", "- Liu et al. 2021, Swin Transformer", "MMDetection"):
        assert words in text, words
    assert "epochs" in text and "| 2 " in text and "0.080" in text  # the figures of every run


def test_the_note_has_a_column_of_remedies_where_a_run_has_any(study, tmp_path) -> None:
    assert "| remedies" not in note(study)
    tiled = write_run(tmp_path, backbone="swin_t", hour=5, parameters={"remedies": "tiles"})
    text = note(replace(study, runs=(*study.runs, tiled.name)))
    head = next(line for line in text.splitlines() if line.startswith("| Exp num"))
    place = head.split("|").index(next(cell for cell in head.split("|") if cell.strip() == "remedies"))
    assert [line.split("|")[place].strip() for line in text.splitlines() if line.startswith("| 3 ")] == ["tiles"]


def test_names_in_the_note_and_the_tables_are_text(study) -> None:
    verdict = replace(study.verdicts[0], claim=EVIL, words=EVIL)
    evil = replace(study, question=EVIL, hypothesis=EVIL, references=(EVIL,), verdicts=(verdict,))
    for text in (note(evil), tables.verdicts(evil).to_html()):
        assert "<script>" not in text and "&lt;script&gt;" in text
    assert "](javascript" not in note(evil)


def test_the_claims_are_drawn_with_their_intervals(study) -> None:
    ax = plots.claims(study)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [CLAIM, OTHER]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"] == [0.05]
    assert [segment[:, 0].tolist() for part in ax.collections for segment in part.get_segments()] == [[0.01, 0.09]]
    assert {"supported (n = 3 seeds, 40 images)", "  open: cannot be compared"} <= {text.get_text() for text in ax.texts}
    margin, = ax.patches  # of the claim of equality alone
    assert (margin.get_x(), margin.get_width()) == (-0.01, 0.02) and margin.get_y() < 1 < margin.get_y() + margin.get_height()


def test_the_causes_are_drawn_a_panel_a_claim_and_filled_where_they_differ(study) -> None:
    ax, = plots.causes(study)
    diamonds = [line for line in ax.lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [-0.2, 0.02]
    assert ax.get_title(loc="left") + ax.get_title() == f"{CLAIM} (n = 3 seeds, 40 images)"
    assert [line.get_markerfacecolor() == "white" for line in diamonds] == [False, True]
    empty, = plots.causes(replace(study, causes=()))
    assert "no claim has runs on both sides" in empty.texts[0].get_text()
    matplotlib.pyplot.close("all")
