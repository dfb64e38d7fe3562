"""A training from its start to its end: one job in, one finished run folder out.

A run that was broken off goes on from its last checkpoint, in the middle of an epoch too; a finished one is returned as it is.
"""

from __future__ import annotations

from contextlib import nullcontext

from workbook.files import outputs_root
from workbook.runs.folder import Run, RunBusyError
from workbook.training.distributed import SINGLE, World
from workbook.training.job import Job
from workbook.training.loop import Training
from workbook.training.memory import explained
from workbook.training.record import record_failure, sweep_up
from workbook.training.signals import StopSignals
from workbook.training.trackers import Tracker, open_tracker


def train(job: Job, world: World = SINGLE) -> Run:
    """Train until the last epoch and return the run, `done`. Prints the run folder; a bar shows loss, lr and time left.

    Raises TrainingError for a loss that is not finite (the last good checkpoint stays), MemoryFullError, WriteError when the disk is full,
    RunBusyError when another process trains the same run, Stopped (a KeyboardInterrupt) after Ctrl-C or SIGTERM. After any
    of them, and after a kill, the same call on the same number of ranks goes on from the last checkpoint, and on a CPU ends
    with the bits of an undisturbed training.

    world: the ranks that train it together, each of which calls this (see worker.py); rank 0 alone writes.
    """
    if job.parameters.devices != world.size:
        raise ValueError(f"a job on {job.parameters.devices} devices and {world.size} processes: use "
                         "workbook.training.launch.run(job)")
    run = job.open_run()
    with run.acquire() if world.is_main else nullcontext(lambda: None) as check, StopSignals() as signals:
        if run.status == "done":
            print(f"already done: {run.folder}")
            return run
        print(f"run folder: {run.folder}", flush=True)
        if job.left_out:
            print(f"note: {job.left_out}", flush=True)
        for warning in job.warnings:
            print(f"warning: {warning}", flush=True)
        if world.is_main:
            sweep_up(run)
        try:
            with _tracker(job, run) if world.is_main else Tracker() as tracker:
                Training(job, run, tracker, signals, check, world).go()
        except KeyboardInterrupt:
            print(f"\nstopped. The same call goes on from the last checkpoint of {run.folder}", flush=True)
            raise
        except RunBusyError:  # the run is another process's now
            raise
        except Exception as error:
            known = explained(error, job.parameters)
            if world.is_main:
                record_failure(run, known)
            if known is error:
                raise
            raise known from error
        signals.check()  # one that came after the last step
    return run


def _tracker(job: Job, run: Run) -> Tracker:
    asked = job.parameters.model_dump(mode="json")
    return open_tracker(job.parameters.tracker, run.name, run.folder, asked, outputs_root() / "trackers")
