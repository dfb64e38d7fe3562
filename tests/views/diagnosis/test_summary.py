"""The paragraph: planted tables give the planted words."""

from pathlib import Path

import pytest

from diagnosed import kept, lost
from workbook.diagnosis.stages import DENSE, QUERY
from workbook.views.diagnosis.summary import paragraph

UNREACHED = {"never_taught": True, "best_anchor_iou": 0.2}


def test_the_paragraph_counts_every_stage_and_its_reasons(tmp_path: Path) -> None:
    rows = [*lost("proposals", 29, **UNREACHED), *lost("proposals", 12, candidate_cut="RPN NMS"),
            *lost("class", 10, named_class="background"), *lost("class", 2, named_class="dog"), *lost("box", 6, box_iou=0.4),
            *lost("suppression", 3, lost_to="NMS"), *lost("suppression", 1, lost_to="a neighbour"), *lost("ranking", 5),
            *lost("detected", 31), *lost("detected", 7, "medium")]
    words = paragraph(kept(tmp_path, rows, never_taught=10))
    for said in (
        "**Of 99 small objects 63 are missed.**",
        "41 were never proposed, 29 of them because no anchor reaches IoU 0.3, 12 because the RPN's NMS",
        "12 are not given their own class, 10 of them taken for background, 2 taken for another class", "6 get no box that fits (IoU 0.5)",
        "4 are lost after a good box was found, 3 of them to NMS, 1 to a neighbour", "Of those found, 5 are found too late",
        "of the 40 small objects in train 10 (25%) are never taught: all because no anchor reaches IoU 0.3",
        "The AP of small objects is 0.250 (95%: 0.200 to 0.300; n = 99 objects in 12 images).",
        "the stages cost: proposals 0.300 (0.250 to 0.350), class 0.200 (0.150 to 0.250), ranking 0.150 (0.100 to 0.200), box 0.100",
        "Nothing: suppression", "**The costliest stage is proposals** (it costs most in 90% of the resamples)", "- smaller anchors",
    ):
        assert said in words, said
    assert "Of 106 objects 63 are missed" in paragraph(kept(tmp_path, rows), "all")
    assert "**All 7 medium objects are found.**" in paragraph(kept(tmp_path, rows), "medium")


def test_one_object_is_said_in_the_singular(tmp_path: Path) -> None:
    words = paragraph(kept(tmp_path, lost("proposals", 1, **UNREACHED), images=1))
    assert "**Of 1 small object 1 is missed.** 1 was never proposed, because no anchor reaches IoU 0.3." in words
    assert "n = 1 object in 1 image" in words
    assert "**The only small object is found.** 1 of them is found too late: at every score cut that shows it" in paragraph(
        kept(tmp_path, lost("ranking", 1)))


def test_no_objects_of_a_size_are_said_to_be_none(tmp_path: Path) -> None:
    words = paragraph(kept(tmp_path, lost("detected", 3, "large")))
    assert words == "**Val has no small objects**, so nothing can be said of them. It has: 3 large."


def test_an_undetermined_cost_is_not_among_the_told(tmp_path: Path) -> None:
    words = paragraph(kept(tmp_path, lost("box", 4, box_iou=0.3), undetermined=("proposals", "ap"), images=5))
    told, _, vague = words.partition("Undetermined, with these 4 objects: ")
    assert "cost: class" in told and vague.startswith("proposals 0.300")
    assert "too wide to be used" in told and "4 objects in 5 images are too few to be sure" in vague
    assert "Most of the missed are lost at box" in vague
    narrow = "fewer than 50 images are somewhat too narrow"
    assert narrow in words and narrow not in paragraph(kept(tmp_path, lost("box", 4, box_iou=0.3), images=50))


@pytest.mark.parametrize(("stages", "first", "said"), [
    (DENSE, "candidates", "2 have no point that answers for them, all because no point's box comes near"),
    (QUERY, "queries", "2 have no query that looks at them, all because no query's box comes near")])
def test_detectors_without_proposals_have_their_own_words(tmp_path: Path, stages, first: str, said: str) -> None:
    cut = "no point's box is near it" if first == "candidates" else "no query's box is near it"
    words = paragraph(kept(tmp_path, lost(first, 2, candidate_cut=cut), stages=stages))
    assert said in words and f"**The costliest stage is {first}**" in words and "anchor" not in words
