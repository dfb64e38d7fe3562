"""The proof on made detections whose truth is known: a planted gain is claimed, equal settings never, and what it costs is counted."""

from __future__ import annotations

import pytest

from measured_runs import detections, val_truth
from workbook.evaluation.bootstrap import Samples, bootstrap
from workbook.evaluation.matching import Matches, match
from workbook.proofs.compare import prove, recall

TRUTH = val_truth()
PROMISED = {"all": 0.3, "small": 0.4, "medium": None, "large": 0.1}


def matched(small: float, large: float, seed: int) -> Matches:
    """A training that finds these shares of the small and of the large objects; which, the seed decides."""
    found = []
    for size, share in (("small", small), ("large", large)):
        is_size = [a for a in TRUTH["annotations"] if (a["area"] < 32**2) == (size == "small")]
        found += detections({**TRUTH, "annotations": is_size}, share, 10 * seed + len(size))
    return match(TRUTH, found)


def samples(small: float, large: float, seeds: range) -> list[Samples]:
    return [bootstrap(matched(small, large, seed)) for seed in seeds]


def test_a_planted_gain_is_claimed_for_its_size_alone() -> None:
    found = prove(samples(0.4, 0.5, range(3)), samples(0.7, 0.5, range(50, 53)), PROMISED)
    small = found["small"]
    assert small.gains and not small.loses and 0.2 < small.difference < 0.4
    assert small.low < small.difference < small.high and small.promised == 0.4
    assert small.after - small.before == pytest.approx(small.difference)
    assert not found["large"].gains and not found["large"].loses


def test_a_planted_loss_is_called_a_loss() -> None:
    found = prove(samples(0.7, 0.5, range(3)), samples(0.4, 0.5, range(50, 53)), PROMISED)["small"]
    assert found.loses and not found.gains and found.difference < 0 and found.low < found.difference < found.high < 0


def test_a_size_without_objects_has_no_figures_but_what_was_promised() -> None:
    medium = prove(samples(0.4, 0.5, range(3)), samples(0.7, 0.5, range(3)), PROMISED)["medium"]
    assert medium.before is None and medium.difference is None and medium.low is None and medium.promised is None


@pytest.mark.parametrize("draw", range(4))
def test_equal_settings_are_never_called_different(draw: int) -> None:
    first, second = range(1000 + 10 * draw, 1003 + 10 * draw), range(2000 + 10 * draw, 2003 + 10 * draw)
    found = prove(samples(0.5, 0.5, first), samples(0.5, 0.5, second), PROMISED)
    assert not any(size.gains or size.loses for size in found.values())


def test_the_same_detections_twice_gain_nothing() -> None:
    before = samples(0.4, 0.5, range(3))
    same = prove(before, before, PROMISED, same_weights=True)["small"]
    assert same.difference == 0 and not same.gains


def test_the_recall_is_the_share_of_the_objects_that_are_found() -> None:
    every = matched(1.0, 1.0, 0)
    half = matched(0.5, 0.0, 1)
    found = len(half.candidates)
    assert recall([every]) == {"all": 1.0, "small": 1.0, "medium": None, "large": 1.0}
    assert recall([half])["small"] == pytest.approx(found / 120) and recall([half])["large"] == 0
    assert recall([every, half])["small"] == pytest.approx((1 + found / 120) / 2)


def test_a_box_that_fits_half_is_found() -> None:
    narrow = [{"image_id": a["image_id"], "category_id": 1, "bbox": [*a["bbox"][:2], 0.6 * a["bbox"][2], a["bbox"][3]], "score": 0.9}
              for a in TRUTH["annotations"]]
    assert recall([match(TRUTH, narrow)])["small"] == 1.0  # IoU .6
