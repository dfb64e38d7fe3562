"""What an arm gains, against the t intervals of scipy where only the seeds vary, and against the draws where only the images do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from made_samples import flat, trainings
from workbook.proofs.gains import SeedNoise, gain, gain_on_same_weights, seed_noise

FIGURE = "bbox_mAP_s"
BASELINE, ARM = [0.10, 0.12, 0.11], [0.15, 0.18, 0.13]


def test_two_trained_arms_have_the_interval_of_a_t_test_with_pooled_variance() -> None:
    arm, baseline = trainings(ARM), trainings(BASELINE)
    found = gain(arm, baseline, FIGURE, seed_noise([arm, baseline], FIGURE))
    expected = ttest_ind(ARM, BASELINE, equal_var=True).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(ARM) - np.mean(BASELINE), *expected))


def test_an_arm_of_one_seed_has_the_noise_of_the_others() -> None:
    baseline = trainings(BASELINE)
    noise = seed_noise([baseline, trainings([0.3])], FIGURE)
    assert noise == SeedNoise(pytest.approx(np.var(BASELINE, ddof=1)), 2)
    found = gain(trainings([0.2]), baseline, FIGURE, noise)
    assert found.error == pytest.approx(np.sqrt(np.var(BASELINE, ddof=1) * (1 + 1 / 3)))


def test_the_same_weights_are_pairs() -> None:
    found = gain_on_same_weights(trainings(ARM), trainings(BASELINE), FIGURE)
    assert (found.low, found.high) == pytest.approx(tuple(ttest_rel(ARM, BASELINE).confidence_interval(0.95)))
    with pytest.raises(ValueError, match="each training is measured both ways, but there are 2 and 3"):
        gain_on_same_weights(trainings(ARM[:2]), trainings(BASELINE), FIGURE)


def test_what_the_images_move_alike_cancels_and_what_they_move_in_one_counts() -> None:
    alike = gain(trainings([0.2], spread=0.05), trainings([0.1], spread=0.05), FIGURE, SeedNoise(0.0, 0))
    assert alike.error == pytest.approx(0, abs=1e-12)
    arm = flat(0.2, spread=0.05)
    alone = gain([arm], trainings([0.1]), FIGURE, SeedNoise(0.0, 0))
    assert alone.error == pytest.approx(np.std(arm.figures[FIGURE].values[1:]) * np.sqrt(40 / 39))
    assert alone.low < 0.1 < alone.high and alone.images == 40 and alone.objects == 120


def test_an_arm_helps_from_its_own_error_on() -> None:
    noise = SeedNoise(0.03**2 / (1 + 1 / 3), 4)  # an error of .03 for one seed against three
    baseline = trainings([0.1, 0.1, 0.1])
    assert gain(trainings([0.1301]), baseline, FIGURE, noise).helps
    assert not gain(trainings([0.1299]), baseline, FIGURE, noise).helps
    assert not gain(trainings([0.05]), baseline, FIGURE, noise).helps
