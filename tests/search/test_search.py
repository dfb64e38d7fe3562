"""A whole search with real tiny trainings: broken off by a kill it goes on, and decides as an undisturbed one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scenes import make_dataset
from small_run import NARROW
from workbook.errors import ParameterError, RunError
from workbook.files import outputs_root
from workbook.proofs.store import ArmResult, load_proof, search_folder
from workbook.runs.folder import Run
from workbook.runs.listing import list_runs, open_run
from workbook.search.lab import Ask, Lab
from workbook.search.plan import Arm, Plan
from workbook.search.question import Question, arms_of, ask_question
from workbook.search.search import Found, Search
from workbook.sweep.local import LocalExecutor
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
from workbook.training.train import train

ROOT = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {
    "dataset": "scenes", "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "image_size": 64, "epochs": 1, "batch_size": 2,
    "device": "cpu", "precision": "fp32", "overrides": NARROW,
}
ARMS = [
    Arm(("soft_nms",), frozenset(), ("suppression",), 0.01, 0.0),
    Arm(("fitted_anchors",), frozenset({"fitted_anchors"}), ("proposals",), 0.3, 1.0),
    Arm(("longer_training",), frozenset({"longer_training"}), ("class",), 0.2, 2.0),
]
PLAN = Plan(tuple(ARMS[:1]), tuple(ARMS[1:]), (), 2, True, None, None)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs and data folders with a finished, diagnosed run, and what a search for it needs. Tests copy it."""
    root = tmp_path_factory.mktemp("asked")
    make_dataset(root / "data", "scenes", train_images=8, val_images=3, width=64, height=64, sizes=("small",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_DATA", str(root / "data"))
        patch.setenv("WORKBOOK_OUTPUTS", str(root / "outputs"))
        ask_question(train(prepare(check_parameters(TINY))), "small")
    return root


@pytest.fixture
def question(asked: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Question:
    monkeypatch.setenv("WORKBOOK_DATA", str(asked / "data"))
    shutil.copytree(asked / "outputs", outputs_root(), symlinks=True)
    return ask_question(list_runs()[0], "small")


def lab() -> Lab:
    return Lab(LocalExecutor(2), Console(file=open(os.devnull, "w"), width=200))


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def finished() -> list[Run]:
    return [run for run in list_runs() if run.status == "done"]


def figures(found: Found) -> list[tuple[Any, ...]]:
    """All that is decided and measured, without times."""
    return [(arm.remedies, arm.kind, arm.outcome, arm.seeds, arm.score, arm.gain, arm.low, arm.high, arm.runs) for arm in found.arms]


def by_key(found: Found) -> dict[str, ArmResult]:
    return {"+".join(arm.remedies): arm for arm in found.arms}


def search() -> None:
    """What a test kills: the search in a process of its own."""
    Search(ask_question(open_run(sys.argv[1]), "small"), PLAN, lab()).run()


def test_a_killed_search_goes_on_and_decides_the_same(question: Question, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "lib")])
    process = subprocess.Popen([sys.executable, __file__, question.run.name], env={**os.environ, "PYTHONPATH": path})
    wait_for(lambda: len(finished()) >= 3 or process.poll() is not None)  # the run and the baseline of the search
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(run.busy for run in list_runs()))
    before = {run.name: (run.record["finished"], run.best_checkpoint.stat().st_mtime_ns) for run in finished()}
    assert len(before) >= 3
    found = Search(question, PLAN, lab()).run()
    for name, stamp in before.items():
        run = open_run(name)
        assert (run.record["finished"], run.best_checkpoint.stat().st_mtime_ns) == stamp, "a finished run was trained again"
    assert figures(Search(question, PLAN, lab()).run()) == figures(found)  # and a third call only reads
    _check(found, question)


def _check(found: Found, question: Question) -> None:
    arms = by_key(found)
    baseline = arms[""]
    assert baseline.seeds == 2 and len(set(baseline.runs)) == 2
    assert {open_run(name).record["parameters"]["dataset"] for arm in found.arms for name in arm.runs} <= {
        question.cut, f"{question.cut}-half", f"{question.cut}-quarter"}
    assert question.run.name not in {name for arm in found.arms for name in arm.runs}
    assert arms["soft_nms"].runs == baseline.runs and arms["soft_nms"].kind == "evaluation"
    assert arms["longer_training"].seeds >= 1
    seeds = [open_run(name).record["parameters"]["seed"] for name in baseline.runs]
    assert question.parameters.seed not in seeds
    assert (found.winner is None) == (found.curve is not None)


def test_every_remedy_is_tried_or_says_why_not(question: Question) -> None:
    arms = {arm.key: arm for arm in arms_of(question, lab())}
    assert all(set(arm.stages) <= set(question.diagnosis.stage_names) for arm in arms.values())
    assert not any(arm.misfit.startswith((key, "remedies that")) for key, arm in arms.items()), "the plan names the arm already"
    assert arms["coco_start"].misfit and "load_from is empty" in arms["coco_start"].misfit
    assert not arms["longer_training"].misfit and arms["longer_training"].work == pytest.approx(2.0)
    assert arms["larger_images"].work == pytest.approx((96 / 64) ** 2)
    assert not arms["soft_nms"].trains and arms["soft_nms"].work == 0
    assert "finer_level" not in arms  # of another kind of detector
    assert arms["fitted_anchors"].promised >= arms["nwd_assigner"].promised > 0


def test_a_training_that_fails_drops_its_arm_alone(question: Question) -> None:
    broken = question.on_cut(5).model_copy(update={
        "overrides": f"{NARROW} optimizer.lr=1e9 optimizer_config.grad_clip=None lr_config.warmup=None"})
    good = question.on_cut(6)
    found = lab().measure([Ask(broken), Ask(good)], "two")
    assert "not finite" in found[0].reason and found[1].run.status == "done"


def test_what_cannot_be_searched_is_refused(question: Question, asked: Path) -> None:
    with pytest.raises(ParameterError, match="size=tiny: allowed are all, small, medium, large"):
        ask_question(question.run, "tiny")
    with pytest.raises(RunError, match="part of train to fit on has no large object.*search for another size"):
        ask_question(question.run, "large")
    path = asked / "data" / "scenes" / "train.json"
    content = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(content), "images": json.loads(content)["images"][::-1]}))
        with pytest.raises(RunError, match="has changed since .* was trained: train the run again"):
            ask_question(question.run, "small")
    finally:
        path.write_text(content)
    assert load_proof(search_folder(question.run.name, "small")) is None


if __name__ == "__main__":
    search()
