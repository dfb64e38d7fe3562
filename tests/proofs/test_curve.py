"""The learning curve, against power laws that it must find again, and against the spread of its own predictions."""

from __future__ import annotations

import numpy as np
import pytest

from made_samples import trainings
from workbook.proofs.curve import learning_curve

FIGURE = "bbox_mAP"


def law(images: int) -> float:
    return 1 - 1.4 * images**-0.2


def test_a_power_law_is_found_again() -> None:
    found = learning_curve({count: trainings([law(count)]) for count in (400, 100, 200)}, FIGURE)
    assert found.images == (100, 200, 400) and found.scores == pytest.approx([law(100), law(200), law(400)])
    assert found.twice == pytest.approx(law(800)) and found.gain == pytest.approx(law(800) - law(400))
    assert found.low == pytest.approx(found.gain) == found.high


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        noisy = {count: trainings(law(count) + rng.normal(0, 0.01, 3)) for count in (100, 200, 400)}
        found = learning_curve(noisy, FIGURE)
        held += found.low <= law(800) - law(400) <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_the_images_that_score_widen_it() -> None:
    def found(spread: float) -> float:
        curve = learning_curve({count: trainings([law(count)], spread * count) for count in (100, 200, 400)}, FIGURE)
        return curve.high - curve.low

    assert found(0.0) < found(0.0001) < found(0.0002)


def test_a_perfect_score_and_a_single_count() -> None:
    perfect = learning_curve({count: trainings([1.0]) for count in (100, 200)}, FIGURE)
    assert perfect.gain == pytest.approx(0)
    with pytest.raises(ValueError, match=r"at least two numbers of images, but there are those on \[100\]"):
        learning_curve({100: trainings([0.1])}, FIGURE)
