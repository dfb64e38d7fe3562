"""The runs of a sweep in processes of this machine: each forked from one warm process, which has imported but not computed.

A fork costs nothing where a fresh process imports torch and mmdet for seconds; and what ends one run (a crash, the system
when memory runs out) ends neither the others nor the sweep.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from workbook.errors import WorkbookError
from workbook.runs.folder import RunBusyError, runs_root
from workbook.sweep.plan import Entry, Known, Resolved, SweepError, in_parts, joined, resolve_all
from workbook.training.parameters import Parameters

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
# While the warm process imports, mmcv asks whether there is a GPU. Asked in torch's usual way, no fork of that process may use one any
# more; by NVML it may: https://docs.pytorch.org/docs/stable/notes/cuda.html#environment-variables. The runs ask in the usual way.
ASK_NVML = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
LEAVING = 10.0  # seconds that a process which has answered has to release what its libraries hold
SAVING = 120.0  # seconds that a run has for its checkpoint when it is asked to leave


class LocalExecutor:
    """So many runs at once, each with its share of the cores; with several GPUs, each on its own."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.threads = max(1, len(os.sched_getaffinity(0)) // slots)
        self.running: dict[Connection, tuple[Entry, Any, int]] = {}  # → entry, process, slot
        self.stopping = False
        self.environment = {**os.environ, **dict.fromkeys(THREADS, str(self.threads))}
        self.context = multiprocessing.get_context("forkserver")
        self._warm_up()

    def resolve(self, asked: Sequence[Parameters]) -> list[Resolved]:
        """What weights and precision became, of each."""
        return self.ask(resolve_all, list(asked))

    def check(self, asked: Sequence[Parameters]) -> list[Known | str]:
        """Prepare each of these without training it: what was found, or why it cannot start."""
        return self.ask(check_all, list(asked)) if asked else []

    def ask(self, task: Callable[[list[Any]], Any], asked: list[Any]) -> Any:
        """The task's answer, from a process that has the libraries. Raises RuntimeError with its traceback for an error of the
        code."""
        return self._answers(task, [asked])[0]

    def ask_at_once(self, task: Callable[[list[Any]], list[Any]], asked: list[Any]) -> list[Any]:
        """The same from as many processes as there are slots, each with its part; in the order of `asked`."""
        return joined(self._answers(task, in_parts(asked, self.slots)))

    def _answers(self, task: Callable[[list[Any]], Any], parts: Sequence[list[Any]]) -> list[Any]:
        forks = [self._fork(task, part) for part in parts]
        try:
            found = [_received(answer, process) for answer, process in forks]
            for _, process in forks:
                process.join(LEAVING)
            return found
        finally:
            for _, process in forks:
                process.terminate()

    def start(self, entry: Entry) -> None:
        """Train this run in a process of its own."""
        slot = min(set(range(self.slots)) - {slot for *_, slot in self.running.values()})
        parameters = entry.parameters
        known = entry.progress.known
        gpus = known.gpus if known else 0
        if gpus > 1 and parameters.devices == 1 and parameters.device in ("auto", "cuda"):
            parameters = parameters.model_copy(update={"device": f"cuda:{slot % gpus}"})
        answer, process = self._fork(train_one, parameters, entry.run.name)
        self.running[answer] = entry, process, slot

    def ended(self, seconds: float) -> list[tuple[Entry, str, str]]:
        """The runs that have ended, with state and reason; waits so long for the first."""
        if not self.running:
            time.sleep(seconds)
        return [self._outcome(answer) for answer in wait(list(self.running), seconds)]  # type: ignore[arg-type]

    def stop(self) -> None:
        """Ask every run to save and leave, and wait until it has."""
        self.stopping = True
        for _, process, _ in self.running.values():
            process.terminate()
        for _, process, _ in self.running.values():
            process.join(SAVING)
            process.kill()

    def _warm_up(self) -> None:
        """Start the process that the runs are forked from; it imports while the caller goes on."""
        own = dict(os.environ)
        os.environ.update({**self.environment, **ASK_NVML})  # the number of threads is read when the libraries are loaded
        try:
            self.context.set_forkserver_preload(["typer", "workbook.sweep.command", "workbook.training.launch"])
            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(own)

    def _fork(self, task: Callable[..., Any], *arguments: Any) -> tuple[Connection, Any]:
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_child, args=(task, arguments, self.environment, self.threads, theirs))
        process.start()
        theirs.close()  # so that the end of the process ends the pipe
        return ours, process

    def _outcome(self, answer: Connection) -> tuple[Entry, str, str]:
        entry, process, _ = self.running.pop(answer)
        try:
            state, reason = answer.recv()
        except EOFError:
            process.join()
            state, reason = ("stopped", "") if self.stopping else ("failed", _how_it_ended(process.exitcode))
        answer.close()
        process.join()
        return entry, state, reason


@dataclass(frozen=True)
class Crash:
    """What a process answers in which the code failed."""

    traceback: str


def _received(answer: Connection, process: Any) -> Any:
    """What the process answers."""
    try:
        found = answer.recv()
    except EOFError:
        process.join()
        raise SweepError(f"the check of the runs broke off ({_how_it_ended(process.exitcode)})") from None
    if isinstance(found, Crash):
        raise RuntimeError(f"an error of the workbook, in the process that checks the runs:\n{found.traceback}")
    return found


def _how_it_ended(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return ("its process was killed, as the system does when memory runs out: use fewer --jobs, or a smaller "
                "image_size or batch_size. The sweep takes it up again when it is called again")
    return f"its process ended by itself (exit code {code})"


def _child(task: Callable[..., Any], arguments: Sequence[Any], environment: dict[str, str], threads: int, answer: Connection) -> None:
    os.setsid()  # Ctrl-C reaches the sweep alone, which then asks the runs to leave
    os.environ.clear()
    os.environ.update(environment)  # the warm process may be older than a change
    threading.Thread(target=_leave_with_the_sweep, daemon=True).start()
    use_threads(threads)
    try:
        found = task(*arguments)
    except Exception:
        found = Crash(traceback.format_exc())
    answer.send(found)


def _leave_with_the_sweep() -> None:
    """When the sweep is killed, its runs save and leave as if they had been asked to."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def use_threads(count: int) -> None:
    """So many threads for this process; the environment alone is too late for libraries that are loaded."""
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def check_all(asked: Sequence[Parameters]) -> list[Known | str]:
    """What `prepare` finds for each, or why it refuses."""
    with output_to(Path(os.devnull), also_errors=False):  # pycocotools announces every file; downloads show a bar on stderr
        return [_check(parameters) for parameters in asked]


def _check(parameters: Parameters) -> Known | str:
    import torch

    from workbook.training.environment import hardware
    from workbook.training.job import prepare
    from workbook.training.record import foreseen_record
    from workbook.training.trackers import check_tracker

    try:
        job = prepare(parameters)
        check_tracker(parameters.tracker)
    except (WorkbookError, ValueError) as error:  # anything else is an error of the code, and needs its traceback
        return f"{type(error).__name__}: {error}"
    gpus = torch.cuda.device_count() if job.device.type == "cuda" else 0
    return Known(job.steps_an_epoch, hardware(job.device), gpus, job.warnings, job.epochs, foreseen_record(job))


def train_one(parameters: Parameters, name: str) -> tuple[str, str]:
    """Train in this process with all output in `<run folder>/train.log`; returns the state it ended in, and the reason."""
    from workbook.training import launch
    from workbook.training.job import prepare

    folder = runs_root() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with output_to(folder / "train.log"):
            try:
                launch.run(prepare(parameters))
            except (RunBusyError, KeyboardInterrupt):
                raise
            except Exception:
                traceback.print_exc()
                raise
    except RunBusyError as error:
        return "busy", str(error)
    except KeyboardInterrupt:
        return "stopped", ""
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "done", ""


@contextmanager
def output_to(path: Path, also_errors: bool = True) -> Iterator[None]:
    """Everything that this process writes to stdout (and stderr), C libraries included, goes to the end of this file."""
    streams = (sys.stdout, sys.stderr) if also_errors else (sys.stdout,)
    with open(path, "a") as file:
        saved = {number: os.dup(number) for number in range(1, 1 + len(streams))}
        try:
            for number in saved:
                os.dup2(file.fileno(), number)
            yield
        finally:
            for stream in streams:
                stream.flush()
            for number, before in saved.items():
                os.dup2(before, number)
                os.close(before)
