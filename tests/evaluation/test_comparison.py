"""The comparison of settings against scipy's tests, the published example of Holm's procedure, and made pages of equal settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from coco_cases import coco, detection, truth_box
from made_samples import trainings
from workbook.evaluation.bootstrap import Figure, Samples, bootstrap
from workbook.evaluation.comparison import FIGURES, Difference, compare
from workbook.evaluation.matching import match
from workbook.evaluation.resampling import resample_weights

IMAGES = 50
NO_DRAWS = 20  # resamples that all say the same: of images without influence


def samples_of(figures: dict[str, np.ndarray | float], images: int = IMAGES, with_objects: int | None = None) -> Samples:
    """One training. figures: name → its value, or the value and its draws, of one class in every image."""
    count = images if with_objects is None else with_objects
    made = {}
    for name, value in figures.items():
        drawn = np.full(1 + NO_DRAWS, value) if np.isscalar(value) else np.asarray(value)
        made[name] = Figure(drawn[:, None], np.array([count]), objects=2 * count, images=count)
    return Samples(tuple(range(images)), 0, made, {})


def of_seeds(values: Sequence[float], figure: str = "bbox_mAP") -> list[Samples]:
    return [samples_of({figure: value}) for value in values]


def only(settings: dict[str, list[Samples]], figure: str = "bbox_mAP") -> Difference:
    found, = compare(settings, [figure])
    return found


def test_without_chance_of_images_it_is_welch_s_test() -> None:
    one, other = [0.31, 0.35, 0.33, 0.36], [0.30, 0.29, 0.33, 0.37]  # a seed level, a seed behind
    found = only({"a": of_seeds(one), "b": of_seeds(other)})
    truth = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((truth.low, truth.high), abs=1e-12)
    assert (found.higher, found.lower, found.seeds, found.ahead, found.comparisons) == ("a", "b", 4, 2, 1)


def test_without_chance_of_seeds_it_is_the_paired_test_over_images() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.40, 0.1, IMAGES), rng.normal(0.37, 0.1, IMAGES)
    weights = np.vstack([np.ones(IMAGES), resample_weights(IMAGES, 20_000, 1)]) / IMAGES
    settings = {name: [samples_of({"bbox_mAP": weights @ values})] * 3 for name, values in (("a", one), ("b", other))}
    found = only(settings)
    truth = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((truth.low, truth.high), abs=0.001)


def test_both_sources_of_chance_are_added() -> None:
    rng = np.random.default_rng(0)
    drawn = np.r_[0.0, rng.normal(0, 0.02, 20_000)]
    settings = {"a": [samples_of({"bbox_mAP": 0.4 + shift + drawn}) for shift in (-0.03, 0, 0.03)],
                "b": [samples_of({"bbox_mAP": 0.3 + shift + 0 * drawn}) for shift in (-0.03, 0, 0.03)]}
    found = only(settings)
    image, seeds = 0.02**2 * IMAGES / (IMAGES - 1), 0.03**2 / 3
    freedom = (image + 2 * seeds) ** 2 / (image**2 / (IMAGES - 1) + 2 * seeds**2 / 2)
    assert found.high - found.value == pytest.approx(stats.t.isf(0.025, freedom) * np.sqrt(image + 2 * seeds), rel=0.02)


def test_holm_s_published_example() -> None:
    """p-values of .01, .04, .03 and .005: the first and the last are rejected at 5% (Wikipedia, "Holm-Bonferroni method")."""
    p_values = dict(zip(FIGURES, (0.01, 0.04, 0.03, 0.005), strict=True))
    spread, error = np.array([-0.01, 0, 0.01]), np.sqrt(2 * 0.01**2 / 3)
    leads = {figure: stats.t.isf(p / 2, 4) * error for figure, p in p_values.items()}
    settings = {"a": [samples_of({figure: 0.3 + lead + shift for figure, lead in leads.items()}) for shift in spread],
                "b": [samples_of(dict.fromkeys(FIGURES, 0.3 + shift)) for shift in spread]}
    found = {each.figure: each for each in compare(settings)}
    assert {figure for figure, each in found.items() if each.has_winner} == {"bbox_mAP", "bbox_mAP_l"}
    for figure, level in (("bbox_mAP_l", 0.05 / 4), ("bbox_mAP", 0.05 / 3), ("bbox_mAP_m", 0.05 / 2), ("bbox_mAP_s", 0.05 / 2)):
        assert found[figure].low == pytest.approx(leads[figure] - stats.t.isf(level / 2, 4) * error)
        assert found[figure].comparisons == 4


def test_equal_settings_have_a_winner_on_few_pages() -> None:
    rng = np.random.default_rng(0)
    pages = 400
    wrong = sum(
        any(each.has_winner for each in compare({name: of_seeds(rng.normal(0.3, 0.02, 3)) for name in "abcde"}, ["bbox_mAP"]))
        for _ in range(pages)
    )
    assert wrong <= stats.binom.isf(0.001, pages, 0.05)


def test_a_true_lead_is_found_and_its_words_say_by_how_much() -> None:
    settings = {"b": of_seeds((0.30, 0.31, 0.30)), "a": of_seeds((0.41, 0.40, 0.41))}
    found = only(settings)
    assert found.has_winner
    assert found.words() == (f"a is better than b by +0.103 bbox_mAP (95%: {found.low:+.3f} to {found.high:+.3f} over 3 seeds and 50 val "
                             "images)")


def test_ahead_with_all_seeds_is_never_said_alone() -> None:
    found = only({"a": of_seeds((0.31, 0.35, 0.33)), "b": of_seeds((0.30, 0.34, 0.30))})
    assert not found.has_winner and found.words().startswith("undetermined: a is above b by +0.017 bbox_mAP (95%: -")
    assert found.words().endswith("a was ahead with 3 of 3 seeds, which equal backbones also are by chance in 25% of all cases or more")


def test_two_seeds_and_one_name_no_winner() -> None:
    two = only({"a": of_seeds((0.80, 0.80001)), "b": of_seeds((0.10, 0.10001))})
    assert two.excludes_zero and not two.has_winner and "train at least 3 of each" in two.words()
    drawn = np.r_[0.0, np.random.default_rng(0).normal(0, 0.01, 500)]
    one = only({"a": [samples_of({"bbox_mAP": 0.8 + drawn})], "b": [samples_of({"bbox_mAP": 0.1 + 0 * drawn})]})
    assert one.excludes_zero and not one.has_winner
    assert one.words().startswith("the training of a scores above that of b by +0.700 bbox_mAP (95%: +0.6")
    assert "not about the backbones" in one.words()


def test_what_nothing_moves_is_undetermined() -> None:
    """No resample and no seed changes the difference: there is no test of it."""
    found = only({"a": of_seeds((0.5,) * 3), "b": of_seeds((0.4,) * 3)})
    assert not found.has_winner and found.words().startswith("undetermined: ")
    same = only({"a": of_seeds((0.5,) * 3), "b": of_seeds((0.5,) * 3)})
    assert "a and b have the same mean bbox_mAP" in same.words()


def test_few_images_have_no_interval_and_are_no_comparison() -> None:
    rng = np.random.default_rng(0)

    def setting(lead: float) -> list[Samples]:
        made = []
        for noise in rng.normal(0, 0.001, 3):
            many, few = samples_of({"bbox_mAP": lead + noise}), samples_of({"bbox_mAP_s": lead + noise}, with_objects=9)
            made.append(Samples(many.images, 0, {**many.figures, **few.figures}, {}))
        return made

    many, few = compare({"a": setting(0.6), "b": setting(0.2)}, ["bbox_mAP", "bbox_mAP_s"])
    assert many.has_winner and many.comparisons == 1
    assert (few.low, few.high) == (None, None) and not few.has_winner
    assert few.words() == "undetermined: bbox_mAP_s of a and b rests on 18 objects in 9 images, too few for an interval"


def test_real_detections_give_the_mean_of_their_ap() -> None:
    truth = coco(*(truth_box(n, image_id=n) for n in range(1, 13)), images=12)
    found = [[detection(image_id=n) for n in range(1, last)] for last in (4, 5, 6, 10, 11, 12)]
    samples = [bootstrap(match(truth, each), 200) for each in found]
    difference = next(each for each in compare({"few": samples[:3], "many": samples[3:]}) if each.figure == "bbox_mAP_s")
    maps = [each.figures["bbox_mAP_s"].values[0] for each in samples]
    assert (difference.higher, difference.ahead, difference.objects, difference.images) == ("many", 3, 12, 12)
    assert difference.value == pytest.approx(np.mean(maps[3:]) - np.mean(maps[:3])) and difference.has_winner
    assert {each.figure for each in compare({"few": samples[:3], "many": samples[3:]})} == {"bbox_mAP", "bbox_mAP_s"}


@pytest.mark.parametrize(("settings", "message"), [
    ({"a": of_seeds((0.3, 0.4)), "b": of_seeds((0.3,))}, "a 2, b 1"),
    ({"a": of_seeds((0.3,)), "b": []}, "a 1, b 0"),
    ({"a": of_seeds((0.3,)), "b": [samples_of({"bbox_mAP": 0.3}, images=49, with_objects=49)]}, "50 and 49 images"),
])
def test_what_cannot_be_compared_is_refused(settings: dict[str, list[Samples]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(settings, ["bbox_mAP"])


def test_settings_of_the_same_trainings_are_compared_in_pairs() -> None:
    before, after = [0.10, 0.12, 0.11], [0.15, 0.18, 0.13]
    [found] = compare({"before": trainings(before), "after": trainings(after)}, ("bbox_mAP_s",), paired=True)
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert found.higher == "after" and (found.low, found.high) == pytest.approx(tuple(expected), rel=0.01)
    [alone] = compare({"before": trainings(before), "after": trainings(after)}, ("bbox_mAP_s",))
    assert alone.low < found.low
