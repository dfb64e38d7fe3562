"""The command and its page: what is saved is read and shown, and nothing is trained for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from made_proofs import NOTHING_HELPS
from made_samples import trainings
from workbook.errors import RunError
from workbook.proofs.curve import Curve
from workbook.proofs.store import save_proof, search_folder
from workbook.runs.folder import Run
from workbook.runs.listing import list_runs
from workbook.search import command
from workbook.search.plan import Arm, Pace, make_plan
from workbook.search.search import Search, Trial


@pytest.fixture
def run(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("WORKBOOK_DATA", str(trained.data))
    return trained.copy(tmp_path / "outputs")


def test_a_finished_search_is_read_and_its_page_made_again(run: Run, capsys: pytest.CaptureFixture) -> None:
    folder = search_folder(run.name, "small")
    save_proof(folder, replace(NOTHING_HELPS, run=run.name))
    assert command.run_remedy(run, "small", "", None, "local", "", False) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == f"page: {folder / '6_remedy.html'}"
    notebook = nbformat.read(folder / "6_remedy.ipynb", as_version=4)
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert (folder / "remedy.md").read_text().startswith("**No remedy helps.**")
    assert {path.stem for path in (folder / "figures").iterdir()} == {"promised_and_got", "gains", "score_against_cost"}
    assert [one.name for one in list_runs()] == [run.name]


def test_a_search_within_a_budget_goes_on_with_the_arms_that_it_planned(tmp_path: Path) -> None:
    arms = [Arm((key,), frozenset({key}), ("box",), promise, 1.0) for key, promise in (("a", 0.3), ("b", 0.2), ("c", 0.1))]
    plan = make_plan(arms, Pace(60.0, 80.0, 3.0, 1), 420)
    assert len(plan.trained) > 0 and (plan.seeds < 3 or len(plan.trained) < 3)
    command._save_plan(tmp_path, plan, 420, is_done=False)
    again = command._plan_of(tmp_path, arms, 420)
    assert again is not None
    assert (again.trained, again.seeds, again.has_proof) == (plan.trained, plan.seeds, plan.has_proof)
    assert command._plan_of(tmp_path, arms, 500) is None and command._plan_of(tmp_path, arms, None) is None


def test_the_page_reads_what_a_search_within_the_same_budget_has_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unproven, for the budget held no proof; one that was broken off is gone on with, another budget is another search."""
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(command, "find_remedy", lambda *_: None)
    run = Run(tmp_path / "runs" / "one")
    folder = search_folder(run.name, "small")
    plan = make_plan([Arm(("a",), frozenset({"a"}), ("box",), 0.3, 1.0)], Pace(60.0, 80.0, 3.0, 1), 420)
    found = replace(NOTHING_HELPS, run=run.name, winner=("a",))
    save_proof(folder, found)
    command._save_plan(folder, plan, 420, is_done=False)
    with pytest.raises(RunError, match="interrupted"):
        command.require_remedy(run, "small", "7m")
    command._save_plan(folder, plan, 420, is_done=True)
    assert command.require_remedy(run, "small", "7m") == found
    for budget in ("8m", ""):
        with pytest.raises(RunError, match="interrupted"):
            command.require_remedy(run, "small", budget)


def test_a_combination_must_beat_the_simpler_arm_by_more_than_its_error() -> None:
    question = SimpleNamespace(parameters=SimpleNamespace(seed=0), figure="bbox_mAP_s")
    best, both, worse = (Arm((*keys,), frozenset(keys), ("box",), 0.1, 1.0) for keys in ("a", "ab", "ac"))
    search = Search(question, make_plan([best], Pace(None, None, None, 1)), None)  # type: ignore[arg-type]
    search.baseline = measured([0.10, 0.14, 0.12])  # a seed moves it by .02, so the difference of two arms has an error of .016
    scores = {best: [0.20, 0.24, 0.22], both: [0.25, 0.29, 0.27], worse: [0.21, 0.25, 0.23]}
    search.trials = {arm: Trial(measured(values)) for arm, values in scores.items()}
    assert search._is_better(both, best) and not search._is_better(worse, best)
    search.trials[both].outcome = "failed: out of memory"
    assert not search._is_better(both, best)
    evaluated = Arm(("a", "e"), frozenset({"a"}), ("box",), 0.1, 1.0)
    search.trials[evaluated] = Trial(measured([0.205, 0.245, 0.2251]))  # little, but with every seed
    assert search._is_better(evaluated, best)


def measured(values: list[float]) -> list[SimpleNamespace]:
    return [SimpleNamespace(samples=samples) for samples in trainings(values)]


def test_the_curve_and_why_there_is_none() -> None:
    arm = command._curve_arm(Curve((7, 14, 28), (0.03, 0.05, 0.07), 0.09, 0.02, 0.01, 0.03))
    assert (arm.remedies, arm.score, arm.gain, arm.low, arm.high) == (("more_images",), 0.09, 0.02, 0.01, 0.03)
    assert arm.outcome == "predicted for twice as many, from 7 images 0.030, 14 images 0.050, 28 images 0.070"
    assert command._curve_arm("batch_size=2: too few").outcome == "not measured: batch_size=2: too few"
