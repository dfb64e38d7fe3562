"""Contrasts against scipy's tests and against simulation; Holm's levels against the published example."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from workbook.evaluation.bootstrap import Figure
from workbook.evaluation.contrast import Contrast, Part, contrast, holm_levels

IMAGES, DRAWS = 50, 20


def figure(value: float) -> Figure:
    """A figure that no resample moves."""
    return Figure(np.full((1 + DRAWS, 1), value), np.array([IMAGES]), objects=2 * IMAGES, images=IMAGES)


def figures(values: list[float]) -> list[Figure]:
    return [figure(value) for value in values]


def test_two_settings_with_unequal_seeds_are_welch_s_test() -> None:
    one, other = [0.31, 0.35, 0.33, 0.36, 0.30], [0.30, 0.29, 0.33]
    found = contrast([(1.0, figures(one)), (-1.0, figures(other))])
    test = stats.ttest_ind(one, other, equal_var=False)
    assert found.value == pytest.approx(np.mean(one) - np.mean(other)) and found.seeds == 3
    assert found.freedom == pytest.approx(test.df)
    assert 2 * found.p_above(0) == pytest.approx(test.pvalue)
    assert found.interval(0.1) == pytest.approx(tuple(test.confidence_interval(0.9)))
    assert found.p_below(0) == pytest.approx(1 - found.p_above(0))


def test_a_mean_over_pairs_has_the_variance_of_its_parts() -> None:
    values = [[0.3, 0.34], [0.2, 0.26], [0.1, 0.18], [0.05, 0.07]]
    found = contrast([(0.5, figures(values[0])), (-0.5, figures(values[1])), (0.5, figures(values[2])), (-0.5, figures(values[3]))])
    assert found.error**2 == pytest.approx(sum(0.25 * np.var(each, ddof=1) / 2 for each in values))


def test_with_other_seeds_the_seeds_part_alone_has_their_variance_and_freedom() -> None:
    found = Contrast(0.1, Part(0.2, 49), (Part(0.3, 2), Part(0.4, 2)), seeds=3, images=50, objects=90)
    grown = found._with_seeds(6)
    assert (grown.seeds, grown.of_images) == (6, Part(0.2, 49))
    assert [(part.variance, part.freedom) for part in grown.of_seeds] == [(pytest.approx(0.15), 5), (pytest.approx(0.2), 5)]


def test_what_nothing_moves_reaches_to_zero_and_decides_nothing() -> None:
    found = contrast([(1.0, figures([0.5] * 3)), (-1.0, figures([0.4] * 3))])
    assert found.error == 0 and found.p_above(0) == found.p_below(0) == 1
    assert found.interval(0.05) == pytest.approx((0, 0.2))
    never = contrast([(1.0, figures([0.0] * 3)), (-1.0, figures([0.0] * 3))])
    unseen = 1 - 0.05 ** (1 / IMAGES)  # the rule of three: about 3 / images
    assert never.interval(0.05) == pytest.approx((-unseen, unseen)) and unseen == pytest.approx(3 / IMAGES, rel=0.05)


def test_what_the_images_move_is_the_bootstraps_variance_with_its_freedom() -> None:
    """Of one class in 50 images and 20 draws: (n / (n - 1)) of the variance, known by 49 and by 19 - 1 degrees of freedom together."""
    drawn = np.random.default_rng(0).normal(0.3, 0.02, DRAWS)
    found = contrast([(1.0, [Figure(np.r_[0.3, drawn][:, None], np.array([IMAGES]), 2 * IMAGES, IMAGES)])])
    assert found.of_images.variance == pytest.approx(drawn.var() * 50 / 49)
    assert found.of_images.freedom == pytest.approx(1 / (1 / 49 + 1 / 19))
    assert found.of_seeds == () and (found.seeds, found.images) == (1, IMAGES)


def test_a_p_value_at_its_level_is_rejected_and_the_next_is_asked() -> None:
    assert holm_levels([0.025, 0.04], 0.05) == [0.025, 0.05]
    assert holm_levels([0.0251, 0.04], 0.05) == [0.025, 0.025]


def test_holm_s_published_example() -> None:
    """p-values of .01, .04, .03 and .005 at 5% (Wikipedia, "Holm-Bonferroni method"): the first and the last are rejected."""
    p_values = [0.01, 0.04, 0.03, 0.005]
    levels = holm_levels(p_values, 0.05)
    assert levels == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    assert [p <= level for p, level in zip(p_values, levels, strict=True)] == [True, False, False, True]


def power(distance: float, deviation: float, seeds: int, image_error: float, error_rate: float) -> float:
    """The share of simulated studies that tell a true difference of `distance` from 0."""
    rng = np.random.default_rng(0)
    settled = 0
    for _ in range(2_000):
        one, other = rng.normal(distance, deviation, seeds), rng.normal(0, deviation, seeds)
        of_seeds = tuple(Part(float(each.var(ddof=1)) / seeds, seeds - 1) for each in (one, other))
        value = one.mean() - other.mean() + rng.normal(0, image_error)
        found = Contrast(float(value), Part(image_error**2, 10_000), of_seeds, seeds, IMAGES, IMAGES)
        settled += found.interval(error_rate)[0] > 0
    return settled / 2_000


def test_with_the_seeds_that_are_named_a_true_difference_is_found_in_about_four_of_five_studies() -> None:
    now = Contrast(0.02, Part(0.002**2, 10_000), (Part(0.011**2 / 3, 2),) * 2, 3, IMAGES, IMAGES)
    needed = now.seeds_needed(0.02, 0.05)
    assert needed is not None and needed > 3
    assert power(0.02, 0.011, needed, 0.002, 0.05) > 0.75
    assert power(0.02, 0.011, needed - 2, 0.002, 0.05) < 0.8


def test_the_images_that_are_named_shrink_the_images_part_alone() -> None:
    now = Contrast(0.03, Part(0.02**2, 40), (Part(0.0, 2),) * 2, 3, IMAGES, IMAGES)
    needed = now.images_needed(0.03, 0.05)
    z = stats.norm.isf(0.025) + stats.norm.isf(0.2)
    assert needed == pytest.approx(IMAGES * (0.02 * z / 0.03) ** 2, rel=0.05)
    stuck = Contrast(0.03, Part(0.02**2, 40), (Part(0.03**2, 2),) * 2, 3, IMAGES, IMAGES)
    assert stuck.images_needed(0.03, 0.05) is None
    assert stuck.seeds_needed(0.03, 0.05) is None
    seeds, images = stuck.both_needed(0.03, 0.05) or (0, 0)
    error = ((0.02**2 + 2 * 0.03**2) * 3 / seeds) ** 0.5
    assert images == pytest.approx(IMAGES * seeds / 3, abs=1) and error * z == pytest.approx(0.03, rel=0.03)


def test_seeds_cannot_mend_what_the_images_leave_open() -> None:
    assert Contrast(0.01, Part(0.02**2, 40), (Part(0.01**2, 2),) * 2, 3, IMAGES, IMAGES).seeds_needed(0.01, 0.05) is None
