"""What is tried, in which order and for how many seeds, and what is dropped: on made numbers."""

from __future__ import annotations

import pytest

from workbook.diagnosis.waterfall import Cost, SizeWaterfall
from workbook.errors import ParameterError
from workbook.proofs.gains import Gain
from workbook.search.command import plan_words
from workbook.search.parameters import parse_budget
from workbook.search.plan import (
    Arm,
    Pace,
    join,
    make_plan,
    may_join,
    promised,
    proof_seeds,
    rungs,
    search_seeds,
    survivors,
    unused_seed,
)
from workbook.search.work import Work, stretched
from workbook.training.parameters import check_parameters

COSTS = SizeWaterfall(0.1, 0.05, 0.15, 100, 20, False, 0.95, (), tuple(
    Cost(stage, value, None, None, None, None)
    for stage, value in (("proposals", 0.3), ("class", 0.2), ("box", 0.25), ("suppression", -0.01), ("ranking", None))
))
PACE = Pace(fit=60.0, whole=80.0, evaluation=3.0, slots=1)


def arm(key: str, promised: float = 0.1, work: float = 1.0, excludes: tuple[str, ...] = (), misfit: str = "") -> Arm:
    return Arm((key,), frozenset({key}), ("box",), promised, work, frozenset(excludes), misfit)


def evaluation(key: str, promised: float = 0.01) -> Arm:
    return Arm((key,), frozenset(), ("suppression",), promised, 0.0)


def gain(value: float, error: float = 0.01) -> Gain:
    return Gain(value, error, value - 2 * error, value + 2 * error, 1, 20, 100)


def test_a_promise_is_the_cost_of_the_stages_and_never_below_zero() -> None:
    assert promised(["proposals", "box", "queries"], COSTS) == pytest.approx(0.55)  # queries are no stage of this detector
    assert promised(["suppression"], COSTS) == 0
    assert promised(["ranking", "queries"], COSTS) is None


def test_the_order_is_that_of_promise_for_work_and_evaluations_come_first() -> None:
    arms = [arm("dear", 0.8, 4.0), arm("cheap", 0.3, 1.0), evaluation("weak", 0.01), arm("misfit", misfit="no"), evaluation("strong", 0.1)]
    plan = make_plan(arms, PACE)
    assert [one.key for one in plan.evaluated] == ["strong", "weak"]
    assert [one.key for one in plan.trained] == ["cheap", "dear"]
    assert [(one.key, one.misfit) for one in plan.left_out] == [("misfit", "no")]
    assert plan.seeds == 3 and plan.has_proof


def test_half_of_the_arms_go_on_and_only_those_that_gain() -> None:
    assert rungs(5, 3) == [5, 3, 2] and rungs(1, 3) == [1, 1, 1] and rungs(0, 3) == []
    gains = {arm("a"): gain(0.02), arm("b"): gain(-0.01), arm("c"): gain(0.05), arm("d"): gain(0.03), arm("e"): gain(0.0)}
    assert [one.key for one in survivors(gains, 2)] == ["c", "d"]
    assert [one.key for one in survivors(gains, 5)] == ["c", "d", "a"]


def test_the_time_is_counted_by_hand() -> None:
    plan = make_plan([arm("a", work=1.0), arm("b", work=2.0), evaluation("e")], PACE)
    trainings = 3 + (1 + 2) + 1 + 1 + 3 * 2  # baseline, rungs of 2, 1 and 1 arm (the first), a combination
    assert plan.search_seconds == pytest.approx(60 * trainings + 3 * 3.0)
    assert plan.proof_seconds == pytest.approx(80 * 3 * (1 + 1.5 + 1.5))
    assert make_plan([arm("a", work=1.0)], PACE).proof_seconds == pytest.approx(80 * 3 * 2)  # its control is the baseline
    assert make_plan([arm("a")], Pace(60.0, 80.0, 3.0, 2)).search_seconds == pytest.approx(30 * 6)
    assert "About 14 min for the search, then 16 min for the proof" in plan_words(plan)
    assert "How long it takes is unknown" in plan_words(make_plan([arm("a")], Pace(None, None, 3.0, 1)))


def test_a_budget_gives_up_arms_then_seeds_then_the_proof() -> None:
    arms = [arm(f"a{number}", promised=1 - number / 10) for number in range(6)]
    whole = make_plan(arms, PACE)
    enough = (whole.search_seconds or 0) + (whole.proof_seconds or 0)
    assert make_plan(arms, PACE, enough) == whole
    fewer = make_plan(arms, PACE, enough - 1)
    assert [one.key for one in fewer.trained] == [f"a{number}" for number in range(5)] and fewer.seeds == 3
    assert [(one.key, one.misfit) for one in fewer.left_out] == [("a5", "the budget does not hold it")]
    seed_less = make_plan(arms, PACE, 900)
    assert seed_less.seeds < 3 and seed_less.has_proof and len(seed_less.trained) >= 3
    unproven = make_plan(arms, PACE, 400)
    assert not unproven.has_proof and unproven.proof_seconds == 0 and "will not be proven" in plan_words(unproven)
    for plan in (fewer, seed_less, unproven):
        assert (plan.search_seconds or 0) + (plan.proof_seconds or 0) <= enough - 1


def test_a_budget_that_holds_nothing_says_what_would_do() -> None:
    with pytest.raises(ParameterError, match="one training of the baseline and 1 evaluations, takes about 2 min here"):
        make_plan([arm("a"), evaluation("e")], PACE, 60)
    assert make_plan([arm("a"), evaluation("e")], PACE, 120).trained == ()
    with pytest.raises(ParameterError, match="no time is known"):
        make_plan([arm("a")], Pace(None, None, None, 1), 600)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("", None)])
def test_a_budget_in_words(text: str, seconds: float | None) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["30", "m", "-5m", "0m", "5 days", "1h30m"])
def test_another_budget_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="give a number above 0 with s, m or h"):
        parse_budget(text)


def test_arms_that_exclude_each_other_or_share_a_remedy_are_not_joined() -> None:
    first, second, third = arm("a", excludes=("c",)), arm("b", work=2.0), arm("c")
    assert may_join(first, second) and not may_join(first, third) and not may_join(third, first) and not may_join(first, first)
    both = join(first, second, COSTS, 2.0)
    assert both.remedies == ("a", "b") and both.trains and both.work == 2.0 and not may_join(both, third)
    with_evaluation = join(both, evaluation("e"), COSTS, 2.0)
    assert with_evaluation.remedies == ("a", "b", "e") and with_evaluation.trained == {"a", "b"}
    assert with_evaluation.promised == pytest.approx(0.24) and not may_join(with_evaluation, arm("d"))  # three are the most


def test_the_proof_has_seeds_that_neither_run_nor_search_had() -> None:
    for seed in (0, 7, 2**31 - 2):
        used = {seed, *search_seeds(seed, 3)}
        assert len(used) == 4 and len({*used, *proof_seeds(seed)}) == 7
        assert all(0 <= one < 2**31 for one in {*used, *proof_seeds(seed), unused_seed(seed)})
        assert unused_seed(seed) not in {*used, *proof_seeds(seed)}


def test_a_stretched_training_drops_its_rate_at_the_same_shares() -> None:
    parameters = check_parameters({"epochs": 12, "overrides": "optimizer.lr=1e-3 lr_config.step=[8,11]"})
    work = Work(steps=120, pixels=1e4, batch_size=2, epochs=12, drops=(8, 11))
    longer = stretched(parameters, work, 2.0)
    assert longer.epochs == 24 and longer.overrides == "lr_config.step=[16,22] optimizer.lr=1e-3"
    assert stretched(parameters, work, 0.1).epochs == 1 and check_parameters(longer.model_dump()) == longer
