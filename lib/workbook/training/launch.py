"""One run on several devices of this machine: a process for each, started by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from workbook.errors import RunError
from workbook.runs.folder import Run
from workbook.training.distributed import World
from workbook.training.job import Job, prepare
from workbook.training.parameters import check_parameters
from workbook.training.signals import StopSignals

END = 60  # seconds that the processes have to save and leave


def train_on_devices(job: Job) -> Run:
    """Train `job` on its `devices` and return the run, as `train` does on one; what the first process prints is printed here.

    The others write to `device-<number>.log` in the run folder. Raises RunBusyError when somebody else trains it, RunError with the
    reason when one of the processes failed, and Stopped after Ctrl-C or SIGTERM, with a checkpoint.
    """
    count = job.parameters.devices
    run = job.open_run()
    if run.status == "done":
        print(f"already done: {run.folder}")
        return run
    with run.claim():  # asked here, where the answer is an exception and not the end of a process
        pass
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count),
               "-m", "workbook.training.launch", job.parameters.model_dump_json(), str(job.root)]
    with StopSignals() as signals, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        stdin=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    ) as process:
        assert process.stdout is not None
        try:
            with signals.at_once():
                for line in process.stdout:
                    print(line, end="", flush=True)
        except KeyboardInterrupt:
            process.terminate()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if run.status != "done":
        raise RunError(f"{run.name} on {count} devices ended with code {process.returncode}: "
                       f"{run.record['error'] or 'see above'}. The others' words: {run.folder}/device-*.log")
    return run


def main(parameters: str, root: str) -> None:
    """One of the processes: torchrun says which in the environment."""
    from workbook.training.train import train  # which starts this module

    threading.Thread(target=_leave_with_the_caller, daemon=True).start()
    world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    job = prepare(check_parameters(json.loads(parameters)), Path(root))
    if not world.is_main:
        log = os.open(job.run_folder / f"device-{world.rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1), os.dup2(log, 2)
    if job.device.type == "cuda":
        job = replace(job, device=torch.device("cuda", world.rank))
        torch.cuda.set_device(job.device)
    distributed.init_process_group("nccl" if job.device.type == "cuda" else "gloo")
    try:
        train(job, world)
    except KeyboardInterrupt as stop:
        sys.exit(getattr(stop, "code", 130))
    finally:
        distributed.destroy_process_group()


def _leave_with_the_caller() -> None:
    """When `train_on_devices` is killed, the pipe of stdin ends: save and leave as if asked to, and print to nobody."""
    while os.read(0, 1):
        pass
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, 1), os.dup2(nobody, 2)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
