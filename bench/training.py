"""Rows P1, P1e, P1s, P2, P8, P9 and P10: a training step and a validation against stock mmdet's, at every size, and two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.row import Row, Timing, gemm_gflops, in_turn, ratio_row, timed
from bench.stock import Ours, both, few_images, job_of
from bench.sweep_overhead import sweep_seconds
from workbook.training.environment import peak_memory_mb
from workbook.training.loader import batches

STEPS, ROUNDS = 4, 3  # steps an epoch of the timed sides, and how often both take their turn
SIZES = (256, 384, 512, 768, 1024)


def step_row(key: str, work: str, backbone: str, target: float, precision: str) -> Row:
    """A training step of Faster R-CNN at 256 px, batch 2, 512 RoIs: the published config."""
    stock, ours = both(job_of(dataset=few_images(2 * STEPS, 4), backbone=backbone, image_size=256, precision=precision))
    return ratio_row(key, f"{work}, {precision}", *in_turn(stock.epoch, ours.epoch, ROUNDS), target)


def p1() -> list[Row]:
    return [step_row("P1", "training step, R50, 256 px, batch 2, 512 RoIs", "resnet50", 3.0, "auto")]


def p1e() -> list[Row]:
    return [step_row("P1e", "training step, R50, 256 px, batch 2, 512 RoIs", "resnet50", 1.8, "fp32")]


def p1s() -> list[Row]:
    return [step_row("P1s", f"training step, {backbone}, 256 px, batch 2, 512 RoIs", backbone, 2.5, "auto")
            for backbone in ("swin_t", "pvtv2_b0")]


def p2() -> list[Row]:
    """Both sides after a short training would differ in detections; with the same random weights both do the same work."""
    stock, ours = both(job_of(dataset=few_images(2 * STEPS, 4), backbone="resnet50", image_size=256))
    timings = in_turn(stock.validation, ours.validation, ROUNDS)
    return [ratio_row("P2", "validation of 4 images, R50, 256 px: losses, detections, mAP", *timings, 2.5)]


def p8() -> list[Row]:
    """Floating point operations of a whole step by torch's counter (two a multiply-add); the limit is what one large product reaches."""
    ours = Ours(job_of(dataset=few_images(2 * STEPS, 4), backbone="resnet50", image_size=256))
    training = ours.training
    batch = next(iter(batches(training.train_set, 2, 0, 0, ours.job.device)))
    with FlopCounterMode(display=False) as counter:
        training._train_step(batch, 1e-4)
    steps = Timing(tuple(ours.epoch() for _ in range(ROUNDS)))
    rate = counter.get_total_flops() / steps.median / 1e9
    limit = gemm_gflops(torch.bfloat16 if ours.job.precision == "bf16" else torch.float32)
    work = f"P1's step of {counter.get_total_flops() / 1e9:.0f} GFLOP, share of the {limit:.0f} GFLOP/s of a large matrix product"
    return [Row("P8", work, "", f"{rate:.0f} GFLOP/s", f"{rate / limit:.0%}", "stated; 50%", rate / limit >= 0.5, {"ours": steps.seconds})]


def p9() -> list[Row]:
    """Time and peak memory of a step by image area, each size in a process of its own."""
    asked = [sys.executable, "-m", "bench.training"]
    found = [subprocess.run([*asked, str(size)], capture_output=True, text=True, check=True).stdout.split()[-2:] for size in SIZES]
    seconds, memory = ([float(one[place]) for one in found] for place in (0, 1))
    growth = (SIZES[-1] / SIZES[0]) ** 2
    return [
        Row("P9", f"step time, R50, batch 2, {SIZES[0]} to {SIZES[-1]} px: {growth:.0f} times the area", "",
            ", ".join(f"{size} px {second:.1f} s" for size, second in zip(SIZES, seconds, strict=True)),
            f"{seconds[-1] / seconds[0]:.1f} times", "near linear", None, {"ours": tuple(seconds)}),
        Row("P9", "peak memory of the same", "", ", ".join(f"{size} px {mb / 1024:.1f} GB" for size, mb in zip(SIZES, memory, strict=True)),
            f"{(memory[-1] - memory[0]) / (SIZES[-1] ** 2 - SIZES[0] ** 2) * 1e6 / 1024:.1f} GB a megapixel", "near linear", None, {}),
        _sweeps(),
    ]


def _sweeps() -> Row:
    found = {runs: sweep_seconds(runs, 2) for runs in (4, 8, 16)}
    each = [wall / runs for runs, (_, wall) in found.items()]
    return Row("P9", "a sweep of 4, 8 and 16 tiny runs, 2 at once; before them the checks", "",
               ", ".join(f"{runs} runs {before:.0f} + {wall:.0f} s" for runs, (before, wall) in found.items()),
               f"{each[0]:.1f} to {each[-1]:.1f} s a run", "near linear", None, {"ours": tuple(wall for _, wall in found.values())})


def p10() -> list[Row]:
    """A step of a training that is alone on the machine, and of two that are started by hand and know nothing of each other."""
    few_images(4, 4)  # once, before both want to write it
    with tempfile.TemporaryDirectory() as folder:
        asked = [sys.executable, "-m", "bench.training", "two", folder]
        pair = [subprocess.Popen([*asked, who], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, "WORKBOOK_OUTPUTS": f"{folder}/{who}"}) for who in ("first", "second")]
        first, second = (json.loads(process.communicate()[0].splitlines()[-1]) for process in pair)
    alone, both = Timing(tuple(first["alone"])), Timing(tuple(first["both"] + second["both"]))
    ratio = both.median / alone.median
    return [Row("P10", "training step, R50, 256 px, batch 2: two trainings at once, started by hand; stock is one alone", str(alone),
                str(both), f"{ratio:.2f} times", "<= 2.2", ratio <= 2.2, {"stock": alone.seconds, "ours": both.seconds})]


def one_of_two(folder: Path, who: str) -> None:
    """Prints the seconds of a step as JSON: of the first one alone while the second one waits, then of each while both train."""
    ours = Ours(job_of(dataset=few_images(4, 4), backbone="resnet50", image_size=256))
    ours.epoch()
    (folder / f"{who} is warm").touch()
    alone: list[float] = []
    if who == "first":
        wait_for(folder / "second is warm")
        alone = [ours.epoch() for _ in range(ROUNDS)]
        (folder / "both").touch()
    wait_for(folder / "both")
    print(json.dumps({"alone": alone, "both": [ours.epoch() for _ in range(ROUNDS)]}))


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def one_size(size: int) -> None:
    """Prints the seconds of a step, after one to warm up, and the peak memory in MB."""
    ours = Ours(job_of(dataset=few_images(2, 4), backbone="resnet50", image_size=size))
    ours.epoch()
    seconds = min(timed(ours.epoch) for _ in range(2))
    print(seconds, peak_memory_mb(ours.job.device))


if __name__ == "__main__":
    if sys.argv[1] == "two":
        one_of_two(Path(sys.argv[2]), sys.argv[3])
    else:
        one_size(int(sys.argv[1]))
