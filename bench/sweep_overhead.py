"""What a run of a sweep costs beyond its own training and validation, over 50 tiny runs.

    python -m bench.sweep_overhead [runs] [jobs]

Prints the plan and the summary as `workbook sweep` does, and then the seconds before the first run starts, and for
each run those from its start to its end that are neither training nor validation: a process, the checks, the model,
checkpoints and the record. Beside them what `workbook run` pays, the start of a process that imports torch and mmdet,
and how long the live table of 1,000 runs takes to be drawn, as a terminal does twice a second. Runs go to a temporary
folder; five minutes on 2 cores.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from unittest.mock import patch

from rich.console import Console

from workbook.sweep.command import sum_up
from workbook.sweep.eta import Eta
from workbook.sweep.execute import execute
from workbook.sweep.local import LocalExecutor
from workbook.sweep.plan import Known, check_plan, make_plan
from workbook.sweep.table import Screen, plan_table, plan_words
from workbook.terminal import open_console

# one step an epoch on 32 pixels, with an eighth of the channels
TINY = {
    "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "image_size": 32, "epochs": 1, "batch_size": 35, "device": "cpu",
    "overrides": "model.neck.out_channels=32 model.rpn_head.in_channels=32 model.rpn_head.feat_channels=32 "
                 "model.roi_head.bbox_roi_extractor.out_channels=32 model.roi_head.bbox_head.in_channels=32 "
                 "model.roi_head.bbox_head.fc_out_channels=64 model.train_cfg.rcnn.sampler.num=16 model.test_cfg.rpn.max_per_img=50",
}


def sweep_seconds(runs: int, slots: int) -> tuple[float, float]:
    """Seconds until a plan of tiny runs is checked, and from there until all are done; without a word on the screen."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, WORKBOOK_OUTPUTS=folder):
        started = time.monotonic()
        plan, executor = make_plan([{**TINY, "seed": list(range(runs))}]), LocalExecutor(slots)
        check_plan(plan, executor)
        checked = time.monotonic()
        for _ in execute(plan, executor):
            pass
        return checked - started, time.monotonic() - checked


def redraw_seconds(runs: int = 1000, rounds: int = 20) -> float:
    """Seconds of one redraw of the live table of so many runs, a twentieth of which train: the rows, the totals, the
    terminal's text."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, WORKBOOK_OUTPUTS=folder):
        sizes = [32 * size for size in range(1, 11)]
        plan = make_plan([{**TINY, "seed": list(range(runs // 10)), "image_size": sizes}])
    for at, entry in enumerate(plan):
        now = entry.progress
        now.known = Known(10, {}, 0, (), 1)
        now.state = "running" if at % 20 == 0 else "new"
        if now.state == "running":
            now.started = 1.0
            now.step = 10
    console = Console(width=160, height=50, file=io.StringIO(), force_terminal=True)
    screen = Screen(plan, Eta(plan), 4, console)
    started = time.perf_counter()
    for _ in range(rounds):
        console.print(screen.table())
    return (time.perf_counter() - started) / rounds


def main(runs: int, slots: int) -> None:
    console = open_console()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBOOK_OUTPUTS"] = folder
        started = time.monotonic()
        plan = make_plan([{**TINY, "seed": list(range(runs))}])
        executor = LocalExecutor(slots)
        check_plan(plan, executor)
        eta = Eta(plan)
        console.print(plan_table(plan, eta), plan_words(plan, eta, slots))
        before = time.monotonic() - started
        with Screen(plan, eta, slots, console) as screen:
            for _ in execute(plan, executor):
                screen.update()
        wall = time.monotonic() - started
        sum_up(plan, console)
        own = [entry.progress.seconds - entry.run.record["seconds"] for entry in plan]
    importing = time.monotonic()
    subprocess.run([sys.executable, "-c", "import workbook.training.train"], check=True)
    importing = time.monotonic() - importing
    print(f"\n{runs} runs, {slots} at once: {wall:.0f} s. Before the first run {before:.1f} s. Overhead a run: mean "
          f"{sum(own) / runs:.2f} s, largest {max(own):.2f} s. A process of its own would add {importing:.1f} s of imports to each")
    print(f"The live table of 1,000 runs is drawn in {1000 * redraw_seconds():.0f} ms")


if __name__ == "__main__":
    main(*map(int, [*sys.argv[1:], *("50", "2")[len(sys.argv) - 1:]]))
