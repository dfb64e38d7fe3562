"""One of the processes that train a run on several devices together. torchrun starts it; see launch.py."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from workbook.training.distributed import World
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
from workbook.training.train import train


def main(parameters: str, root: str) -> None:
    """Train as one rank; torchrun sets RANK and WORLD_SIZE. parameters: of the run, as JSON. root: the folder of all runs."""
    threading.Thread(target=_leave_with_the_caller, daemon=True).start()
    world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    job = prepare(check_parameters(json.loads(parameters)), Path(root))
    if not world.is_main:
        redirect_output(job.run_folder / f"device-{world.rank}.log")
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


def redirect_output(path: Path | str) -> None:
    """From here on all that this process prints, C libraries included, goes to a new file at `path`."""
    with open(path, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _leave_with_the_caller() -> None:
    """When the caller is killed, the pipe of stdin ends: print to nobody, then save and leave as after SIGTERM."""
    while os.read(0, 1):
        pass
    redirect_output(os.devnull)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
