"""Where a search has its trainings and evaluations done: each an ordinary run, or the evaluation of one, done once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from workbook.data.reading import of_classes, read_coco
from workbook.errors import RunError, WorkbookError
from workbook.evaluation.bootstrap import Samples, bootstrap
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.evaluation.matching import Matches, match
from workbook.files import read_json
from workbook.runs.data import run_config
from workbook.runs.folder import Run
from workbook.runs.listing import open_run
from workbook.search.work import Work, works_of
from workbook.sweep.eta import Eta
from workbook.sweep.execute import execute
from workbook.sweep.plan import Entry, Executor, check_plan, make_plan
from workbook.sweep.table import Screen, plan_words
from workbook.training.parameters import Parameters, check_parameters

Evaluated = tuple[str, str, str]  # the name of a run, remedies with commas, the device


@dataclass(frozen=True)
class Measurement:
    """One training (or the evaluation of one under other test settings) on the val set of its dataset."""

    run: Run
    evaluation: str  # the name of the evaluation's folder; empty for the run itself
    matches: Matches
    samples: Samples
    seconds_an_image: float | None

    @property
    def seconds_a_step(self) -> float:
        """Of its training, without validation."""
        record = self.run.record
        return float(record["parameters"]["batch_size"] / record["train_images_per_second"])

    @property
    def detections(self) -> int:
        """All that are reported, over all images."""
        folder = self.run.folder / "evaluations" / self.evaluation if self.evaluation else self.run.folder
        return int(read_json(folder / "metrics.json")["counts"]["detections"])


@dataclass(frozen=True)
class Failure:
    """A training or an evaluation that ended without a result, and why."""

    reason: str


@dataclass(frozen=True)
class Ask:
    """What to measure: a training, and the remedies that only change how it is evaluated."""

    parameters: Parameters
    evaluated_with: tuple[str, ...] = ()


@dataclass
class Lab:
    """Trains and evaluates by an executor of sweeps, and shows what it does."""

    executor: Executor
    console: Console
    truths: dict[tuple[str, ...], GroundTruth] = field(default_factory=dict)
    measured: dict[Ask, Measurement] = field(default_factory=dict)

    def works(self, asked: Sequence[Parameters]) -> list[Work | str]:
        """The work of each training, or why it cannot start."""
        return self.executor.ask(works_of, list(asked)) if asked else []

    def misfits(self, run: Run, keys: Sequence[str]) -> list[str]:
        """Why each of these remedies cannot change how the run is evaluated; empty for one that can."""
        return self.executor.ask(misfits_of, [(str(run.folder), key) for key in keys]) if keys else []

    def plan(self, asked: Sequence[Parameters]) -> list[Entry]:
        """The trainings as a sweep has them, checked. Raises SweepError with all that cannot start."""
        plan = make_plan([parameters.model_dump() for parameters in dict.fromkeys(asked)], self.executor.resolve)
        check_plan(plan, self.executor)
        return plan

    def measure(self, asks: Sequence[Ask], title: str) -> list[Measurement | Failure]:
        """Train what is not trained, evaluate what is not evaluated, and measure all; in the order of `asks`.

        Raises KeyboardInterrupt once every training has saved. The same call goes on.
        """
        runs = self._train([ask.parameters for ask in asks], title)
        others = [(ask, run) for ask, run in zip(asks, runs, strict=True) if ask.evaluated_with and isinstance(run, Run)]
        asked = [(run.name, ",".join(ask.evaluated_with), ask.parameters.device) for ask, run in others if ask not in self.measured]
        names = dict(zip(asked, self.executor.ask_at_once(evaluate_all, asked), strict=True))
        return [self._measurement(ask, run, names) for ask, run in zip(asks, runs, strict=True)]

    def _measurement(self, ask: Ask, run: Run | Failure, names: Mapping[Evaluated, Path | str]) -> Measurement | Failure:
        if isinstance(run, Failure):
            return run
        if ask not in self.measured:
            key = (run.name, ",".join(ask.evaluated_with), ask.parameters.device)
            folder = names[key] if ask.evaluated_with else run.folder
            if isinstance(folder, str):
                return Failure(folder)
            self.measured[ask] = self._read(run, folder)
        return self.measured[ask]

    def _train(self, asked: Sequence[Parameters], title: str) -> list[Run | Failure]:
        asked = [check_parameters(parameters.model_dump()) for parameters in asked]  # one form of each: they are looked up
        entries = {entry.parameters: entry for entry in self.plan(asked)}
        plan = list(entries.values())
        if any(entry.state != "done" for entry in plan):
            eta = Eta(plan)
            self.console.print(f"{title}: {plan_words(plan, eta, self.executor.slots)}", soft_wrap=True, markup=False)
            with closing(execute(plan, self.executor)) as steps, Screen(plan, eta, self.executor.slots, self.console) as screen:
                for _ in steps:
                    screen.update()
        return [_outcome(entries[parameters]) for parameters in asked]

    def _read(self, run: Run, folder: Path) -> Measurement:
        """The detections in the folder against the val set of the run."""
        val = run_config(run, images=False).data.val
        key = (val.ann_file, *val.classes)
        if key not in self.truths:
            self.truths[key] = GroundTruth.from_coco(of_classes(read_coco(Path(val.ann_file)), val.classes))
        matches = match(self.truths[key], Detections.from_coco(read_json(folder / "predictions.json")))
        return Measurement(run, folder.name if folder != run.folder else "", matches, bootstrap(matches), _seconds_an_image(run, folder))


def _outcome(entry: Entry) -> Run | Failure:
    if entry.state == "done":
        return entry.run
    return Failure(entry.progress.reason.partition("\n")[0] or f"its training is {entry.state}")


def _seconds_an_image(run: Run, folder: Path) -> float | None:
    if folder == run.folder:
        return 1 / float(run.record["val_images_per_second"])
    settings = read_json(folder / "settings.json")
    return settings["seconds"] / settings["images"]


def evaluate_all(asked: list[Evaluated]) -> list[Path | str]:
    """The folder of each evaluation, or why there is none; in the process that computes."""
    from workbook.training.evaluate import evaluate_run

    found: list[Path | str] = []
    for name, remedies, device in asked:
        try:
            found.append(evaluate_run(open_run(name), remedies, device=device).folder)
        except WorkbookError as error:
            found.append(str(error))
    return found


def misfits_of(asked: list[tuple[str, str]]) -> list[str]:
    """Why each run cannot be evaluated with this remedy; empty where it can."""
    from workbook.training.evaluate import other_settings

    found = []
    for name, key in asked:
        try:
            other_settings(open_run(name), key, "")
        except WorkbookError as error:
            found.append(str(error))
        else:
            found.append("")
    return found


def with_remedies(parameters: Parameters, keys: Sequence[str], **changed: Any) -> Parameters:
    """The same run with these remedies more. Raises ParameterError where they exclude each other."""
    remedies = ",".join([*filter(None, [parameters.remedies]), *keys])
    return check_parameters({**parameters.model_dump(), **changed, "remedies": remedies})


def require_all(found: Sequence[Measurement | Failure], what: str) -> list[Measurement]:
    """The measurements. Raises RunError with the reason where there is a failure."""
    failures = [one.reason for one in found if isinstance(one, Failure)]
    if failures:
        raise RunError(f"{what} failed: {failures[0]}. Mend that; the same call goes on")
    return [one for one in found if isinstance(one, Measurement)]
