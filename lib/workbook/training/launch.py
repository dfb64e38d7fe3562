"""Where a job trains: in this process, or on several devices of this machine, a process each, started by torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from workbook.cores import usable_cores
from workbook.errors import RunError
from workbook.runs.folder import Run
from workbook.training.job import Job
from workbook.training.signals import StopSignals
from workbook.training.train import train

SAVING = 60  # seconds that the processes have to save and leave


def run(job: Job) -> Run:
    """Train `job` on its device or its `devices` and return the finished run. After a break the same call goes on.

    On several devices the output of rank 0 is printed here; the others write to `device-<rank>.log` in the run folder.
    Raises what `train` raises, and RunError with the reason when one of the processes failed.
    """
    if job.parameters.devices > 1:
        return _run_on_devices(job)
    return train(job)


def _run_on_devices(job: Job) -> Run:
    run = job.open_run()
    if run.status == "done":
        print(f"already done: {run.folder}")
        return run
    with run.acquire():  # asked here, where the answer is an exception and not the end of a process
        pass
    with StopSignals() as signals, _start(job) as process:
        assert process.stdout is not None
        try:
            with signals.at_once():
                for line in process.stdout:
                    print(line, end="", flush=True)
        except KeyboardInterrupt:
            _stop(process)
            raise
    if run.status != "done":
        raise RunError(f"{run.name} on {job.parameters.devices} devices ended with code {process.returncode}: "
                       f"{run.record['error'] or 'see above'}. The output of the others: {run.folder}/device-*.log")
    return run


def _start(job: Job) -> subprocess.Popen[str]:
    count = job.parameters.devices
    threads = max(1, usable_cores() // count)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count),
               "-m", "workbook.training.worker", job.parameters.model_dump_json(), str(job.root)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        stdin=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask the processes to save and leave; end them when they have not done so in time."""
    process.terminate()
    try:
        process.wait(SAVING)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
