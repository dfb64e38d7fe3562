"""How many cores this process may use, and that it leaves them to others while it waits."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """The cores that the system lets this process run on: a cluster or a container often gives it a few.

    macOS knows no affinity: there it is all cores of the machine.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def let_waiting_threads_sleep() -> None:
    """The threads of OpenMP, which torch computes with, soon sleep while they wait, unless the user has set it otherwise.

    GNU's libgomp lets them run in a loop first, up to 300,000 times, which takes the cores from whatever else computes: two trainings on
    two cores then took four times as long as one, and twice as long with 100 (bench row P10). One alone kept its speed with ResNet-50; with
    Swin-T, of many small operations, a step took 8% longer.
    It reads the environment when it is loaded, so this has to come before `import torch`.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = "100"
