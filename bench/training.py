"""Rows P1, P1e, P1s, P1t, P2, P8, P9, P10 and P17: a training step and a validation against stock mmdet's, a step against torchvision's,
at every size, two at once, and by what the processor can."""

from __future__ import annotations

import json
import os
import re
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
from bench.torchvision_side import Torchvision
from workbook.training.environment import peak_memory_mb
from workbook.training.loader import batches

STEPS, ROUNDS = 4, 3  # steps an epoch of the timed sides, and how often both take their turn
SIZES = (256, 384, 512, 768, 1024)
MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"
# What oneDNN and torch may use of the processor, what torch has to report for it, and the precision that the workbook takes there.
LEVELS = {
    "AVX2": ("AVX2", "avx2", "avx2", "fp32"),
    "AVX-512": ("AVX512_CORE", "avx512", "avx512_f", "fp32"),
    "AVX512-BF16": ("AVX512_CORE_BF16", "avx512", "avx512_bf16", "bf16"),
    "AMX": ("AVX512_CORE_AMX", "avx512", "amx_bf16", "bf16"),
}


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


def p1t() -> list[Row]:
    """Against the best of torchvision's Faster R-CNN, as it is and with its backbone compiled, in either precision."""
    return [row for size, mixed, single in ((256, 2.5, 2.0), (512, 2.5, 2.0)) for row in _beside_torchvision(size, mixed, single)]


def _beside_torchvision(size: int, mixed_target: float, single_target: float) -> list[Row]:
    name = few_images(4, 4)  # two steps a turn: there are six sides
    jobs = {precision: job_of(dataset=name, backbone="resnet50", image_size=size, precision=precision) for precision in ("bf16", "fp32")}
    ours = {precision: Ours(job) for precision, job in jobs.items()}
    sides = {("ours", precision): side.epoch for precision, side in ours.items()}
    for precision, job in jobs.items():
        for how in ("eager", "compiled"):
            other = Torchvision(job, precision, how == "compiled")
            sides[how, precision] = lambda other=other, side=ours[precision]: side.epoch_of(other.step)
    seconds: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
    for turn in range(ROUNDS + 1):
        for side, epoch in sides.items():
            taken = epoch()
            if turn:  # the first one warms up, and compiles
                seconds[side].append(taken)
    timings = {side: Timing(tuple(taken)) for side, taken in seconds.items()}
    return [_torchvision_row(size, timings, "bf16", ("bf16", "fp32"), mixed_target),
            _torchvision_row(size, timings, "fp32", ("fp32",), single_target)]


def _torchvision_row(size: int, timings: dict[tuple[str, str], Timing], ours: str, precisions: tuple[str, ...], target: float) -> Row:
    others = {f"{how} {precision}": timings[how, precision] for how in ("eager", "compiled") for precision in precisions}
    best = min(others, key=lambda name: others[name].median)
    return ratio_row("P1t", f"training step, R50, {size} px, batch 2, 512 RoIs, {ours}; stock is torchvision's, the best of "
                     f"{', '.join(f'{name} {timing.median:.2f} s' for name, timing in others.items())}",
                     others[best], timings["ours", ours], target)


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
    work = f"P1's step of {counter.get_total_flops() / 1e9:.0f} GFLOP, share of the {limit:.0f} GFLOP/s of a large matrix product beside it"
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


def p17() -> list[Row]:
    """A step of the demo's detector with what each kind of processor has, as far as this one has it, in a process of its own.

    MKL, which makes the matrix products of float32, does not let itself be held on every processor.
    """
    few_images(2 * STEPS, 4)
    able, rows = torch.cpu.get_capabilities(), []
    for level, (onednn, aten, needed, precision) in LEVELS.items():
        if not able.get(needed):
            rows.append(Row("P17", f"training step of the demo's lite0, {level}", "", "", "not on this machine", "stated", None, {}))
            continue
        env = {**os.environ, "ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": aten}
        printed = subprocess.run([sys.executable, "-m", "bench.training", "demo", precision], capture_output=True, text=True, check=True,
                                 env=env).stdout
        seconds = Timing(tuple(json.loads(printed.splitlines()[-1])))
        work = f"training step of the demo's lite0, 320 px, batch 2, oneDNN and torch held to {level}: {precision}"
        rows.append(Row("P17", work, "", str(seconds), f"{seconds.median:.2f} s", "stated", None, {"ours": seconds.seconds}))
    return rows


def demo_step(precision: str) -> None:
    """Prints the seconds of a step of the demo's lite0, as often as a row takes turns, as JSON."""
    found = re.search(r'-p overrides "([^"]+)"', MAKEFILE.read_text())
    assert found is not None, "the Makefile has no overrides of the demo"
    overrides = " ".join(found[1].replace("\\\n", " ").split())
    ours = Ours(job_of(dataset=few_images(2 * STEPS, 4), backbone="tf_efficientnet_lite0", recipe="finetune", image_size=320,
                       precision=precision, overrides=overrides))
    ours.epoch()
    print(json.dumps([ours.epoch() for _ in range(ROUNDS)]))


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
    elif sys.argv[1] == "demo":
        demo_step(sys.argv[2])
    else:
        one_size(int(sys.argv[1]))
