"""`workbook remedy`: from a run to what would fix it, proven: the plan, the search, the proof, and proof.json."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbook.diagnosis.store import SavedDiagnosis, load_or_diagnose
from workbook.errors import RunError
from workbook.files import read_json, write_json
from workbook.progress import duration
from workbook.proofs.compare import AFTER, BEFORE
from workbook.proofs.curve import Curve
from workbook.proofs.labels import label_bound
from workbook.proofs.store import (
    CURVE,
    LABELS,
    MENDED_LABELS,
    MORE_IMAGES,
    ArmResult,
    Proof,
    load_proof,
    save_proof,
    search_folder,
    unmeasured,
)
from workbook.runs.folder import Run
from workbook.runs.listing import open_run
from workbook.search.lab import Lab, with_remedies
from workbook.search.parameters import parse_budget
from workbook.search.plan import Arm, Pace, Plan, make_plan, unused_seed
from workbook.search.prove import not_proven, prove
from workbook.search.question import Question, arms_of, ask_question
from workbook.search.search import Found, Search
from workbook.sweep.command import INTERRUPTED, open_executor
from workbook.sweep.eta import Eta
from workbook.terminal import open_console
from workbook.words import counted

PLAN_FILE = "plan.json"


def find_remedy(run: Run, size: str, budget: str = "", jobs: int | None = None, on: str = "local", address: str = "") -> Proof | None:
    """The proof of this run and size: read when it is there, else searched for and proven. None when it was interrupted.

    budget: such as 30m or 2h; empty for all that the plan has. Raises WorkbookError for what the user can mend.
    """
    seconds = parse_budget(budget)
    known = load_proof(search_folder(run.name, size))
    if known and known.is_proven:
        return known
    console = open_console()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the runs save and leave
    try:
        question, plan, lab = _prepare(run, size, seconds, jobs, on, address, console)
        _show(plan, console)
        folder = search_folder(run.name, size)
        if seconds is not None:
            _save_plan(folder, plan, seconds, is_done=False)
        proof = _carry_out(question, plan, lab)
        if seconds is not None:
            _save_plan(folder, plan, seconds, is_done=True)
        return proof
    except KeyboardInterrupt:
        console.print("Interrupted: the same call goes on.")
        return None
    finally:
        signal.signal(signal.SIGTERM, before)


def require_remedy(run: Run, size: str, budget: str = "") -> Proof:
    """The same for a notebook, on this machine; what a search within the same budget has found is read. Raises RunError when it
    was interrupted."""
    proof = _found_within(search_folder(run.name, size), parse_budget(budget)) or find_remedy(run, size, budget)
    if proof is None:
        raise RunError("interrupted: every run has saved. Execute the notebook again, and the search goes on")
    return proof


def diagnosed_pair(proof: Proof) -> tuple[SavedDiagnosis, SavedDiagnosis] | None:
    """The diagnoses of the baseline and of the winner, of the first seed; None where the winner is no run of its own."""
    runs = [open_run(proof.cost[name].runs[0]) for name in (BEFORE, AFTER) if name in proof.cost]
    if len({run.name for run in runs}) < 2:
        return None
    before, after = (load_or_diagnose(run) for run in runs)
    return before, after


def run_remedy(run: Run, size: str, budget: str, jobs: int | None, on: str, address: str, dry_run: bool) -> int:
    """The command. Returns the exit code: 0, or 130 when interrupted. The last line is the page."""
    if dry_run:
        console = open_console()
        _, plan, _ = _prepare(run, size, parse_budget(budget), jobs, on, address, console)
        _show(plan, console)
        return 0
    proof = find_remedy(run, size, budget, jobs, on, address)
    if proof is None:
        return INTERRUPTED
    print(f"page: {_page(run, size, budget)}")
    return 0


def _prepare(
    run: Run, size: str, budget: float | None, jobs: int | None, on: str, address: str, console: Console
) -> tuple[Question, Plan, Lab]:
    """The question and its plan; nothing of the search is trained yet."""
    question = ask_question(run, size)
    lab = Lab(open_executor([question.parameters], jobs, on, address), console)
    arms = arms_of(question, lab)
    folder = search_folder(run.name, size)
    plan = _plan_of(folder, arms, budget) or make_plan(arms, _pace(question, lab), budget)
    return question, plan, lab


def _plan_of(folder: Path, arms: Sequence[Arm], budget: float | None) -> Plan | None:
    """The plan within the same budget that a broken-off search was at: times that were measured since must not change it."""
    path = folder / PLAN_FILE
    if budget is None or not path.exists():
        return None
    saved: dict[str, Any] = read_json(path)
    if saved["budget"] != budget:
        return None
    chosen = [tuple(keys) for keys in saved["trained"]]
    unbound = Pace(0.0, 0.0, 0.0, 1)
    whole = make_plan(arms, unbound)
    trained = [arm for arm in whole.trained if arm.remedies in chosen]
    others = [arm for arm in whole.trained if arm.remedies not in chosen]
    return Plan(whole.evaluated, tuple(trained), (*others, *whole.left_out), saved["seeds"], saved["has_proof"], None, None)


def _pace(question: Question, lab: Lab) -> Pace:
    """What a training of the baseline takes here, from finished runs of its kind."""
    seed = unused_seed(question.parameters.seed)
    asked = [question.on_cut(seed), with_remedies(question.parameters, [], seed=seed)]
    plan = lab.plan(asked)
    fit, whole = Eta(plan).left()
    per_image = question.run.record.get("val_images_per_second")
    images = len(question.diagnosis.ground_truth["images"])
    return Pace(fit, whole, images / per_image if per_image else None, lab.executor.slots)


def _show(plan: Plan, console: Console) -> None:
    """The plan: every arm, what it promises and costs, and how long all takes."""
    table = Table("arm", "needs", "addresses", "promised", "work", box=None, pad_edge=False)
    for arm in (*plan.evaluated, *plan.trained):
        needs = "training" if arm.trains else "evaluation"
        table.add_row(escape(arm.key), needs, ", ".join(arm.stages), f"{arm.promised:.3f}", f"x{arm.work:.2f}" if arm.trains else "")
    console.print(table)
    for arm in plan.left_out:
        console.print(f"not tried: {arm.key}: {arm.misfit}", soft_wrap=True, markup=False)
    console.print(plan_words(plan), soft_wrap=True, markup=False)


def plan_words(plan: Plan) -> str:
    """How many arms and seeds, what for, and how long it takes."""
    seeds = counted(plan.seeds, "seed")
    words = (f"{counted(len(plan.evaluated), 'arm')} of the evaluation, {len(plan.trained)} that are trained, with up to {seeds} each, on "
             "images cut from train. ")
    if plan.search_seconds is None or plan.proof_seconds is None:
        time_needed = "How long it takes is unknown until a run of this kind has trained on this machine"
    else:
        time_needed = f"About {duration(plan.search_seconds)} for the search"
        if plan.has_proof:
            time_needed += f", then {duration(plan.proof_seconds)} for the proof if anything helps"
    proof = "" if plan.has_proof else " The budget does not hold the proof: what is found will not be proven."
    return f"{words}{time_needed}.{proof}"


def _carry_out(question: Question, plan: Plan, lab: Lab) -> Proof:
    folder = search_folder(question.run.name, question.size)
    folder.mkdir(parents=True, exist_ok=True)
    found = Search(question, plan, lab).run()
    fields = prove(question, found.winner, lab) if found.winner and plan.has_proof else not_proven(found.winner)
    proof = Proof(run=question.run.name, size=question.size, arms=(*found.arms, *_beyond_remedies(question, found)), **fields)
    save_proof(folder, proof)
    return proof


def _beyond_remedies(question: Question, found: Found) -> list[ArmResult]:
    """What only the user can do: mend labels, label more images."""
    bound = label_bound(question.diagnosis, question.size)
    labels = _arm(MENDED_LABELS, LABELS, f"at most, if all {bound.suspects} suspect labels of val were wrong", bound.after, bound.gain)
    return [labels, *([_curve_arm(found.curve)] if found.curve else [])]


def _curve_arm(curve: Curve | str) -> ArmResult:
    if isinstance(curve, str):
        return unmeasured((MORE_IMAGES,), CURVE, f"not measured: {curve}")
    counts = ", ".join(f"{count} images {score:.3f}" for count, score in zip(curve.images, curve.scores, strict=True))
    return _arm(MORE_IMAGES, CURVE, f"predicted for twice as many, from {counts}", curve.twice, curve.gain, curve.low, curve.high)


def _arm(
    key: str, kind: str, outcome: str, score: float | None, gain: float | None, low: float | None = None, high: float | None = None
) -> ArmResult:
    return replace(unmeasured((key,), kind, outcome), score=score, gain=gain, low=low, high=high)


def _page(run: Run, size: str, budget: str) -> Path:
    from workbook.notebooks import execute_notebook

    folder = search_folder(run.name, size)
    return execute_notebook("6_remedy", folder / "6_remedy.ipynb", {"run": str(run.folder), "size": size, "budget": budget})


def _save_plan(folder: Path, plan: Plan, budget: float, is_done: bool) -> None:
    """So that a search that goes on tries the same arms."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / PLAN_FILE, {"budget": budget, "is_done": is_done, **plan.to_json()})


def _found_within(folder: Path, budget: float | None) -> Proof | None:
    """What a search that ended within this budget has found; None where none has."""
    path = folder / PLAN_FILE
    if budget is None or not path.exists():
        return None
    saved = read_json(path)
    return load_proof(folder) if saved["budget"] == budget and saved.get("is_done") else None


