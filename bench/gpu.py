"""The workbook on a GPU: steps and validation against stock mmdet in mixed precision and against torchvision, and what limits them.

    python -m bench.gpu DATASET [work ...]      # work: peak, steps, layout, loader, validation, epoch; all when none is named

Writes bench/gpu.md, with the rows of the works that were done again. Every backbone has random weights: speed does not depend on them,
and those of R50, Swin and PVT need a network. Where mmcv-full was compiled without CUDA, both sides have torchvision's NMS and RoIAlign.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import Hook
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench.stock import Ours, Stock, job_of, without_sleep
from bench.torchvision_side import Torchvision
from workbook.data.catalog import data_root
from workbook.files import write_json, write_text
from workbook.training.job import Job
from workbook.training.loader import batches
from workbook.training.train import train

HERE = Path(__file__).parent
# stock pvtv2_b5 runs out of 79 GB with a batch of 8
STEPS = (("resnet50", 2), ("resnet50", 8), ("swin_t", 8), ("pvtv2_b0", 8), ("pvtv2_b5", 4))
IMAGES = {"train": 64, "val": 32}  # of the timed steps and validations
ROUNDS, WARM = 3, 2  # passes of either side, in turn; the first steps of a pass wait for the loader
WORKERS = 8
COLUMNS = ("work", "stock", "torchvision", "ours", "figure", "target", "met")
PAGE = """# The workbook on a GPU

`python -m bench.gpu DATASET` makes this page. Stock is mmdet 2.28's own runner, loader and `fp16 = dict(loss_scale=512.)`; torchvision is
its Faster R-CNN R50 under bfloat16 autocast; both with the workbook's images, RoIs and number of loader processes. The sides
take turns; a figure is the median of three passes, in brackets the slowest and fastest. {machine}

| work | stock | torchvision | ours | figure | target | met |
|---|---|---|---|---|---|---|
{rows}

{note}
"""


def main(dataset: str, asked: Sequence[str]) -> None:
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU: this bench is for one")
    path = HERE / "gpu.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBOOK_OUTPUTS"] = folder
        for work in asked or WORKS:
            kept[work] = []
            kept.pop("note", None)  # it was about what stands there no longer
            for row in WORKS[work](dataset):
                print(work, json.dumps(row), flush=True)
                kept[work].append(row)
                kept["machine"] = f"Machine: {torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}."
                write_json(path, kept)
    write_page(kept)


def write_page(kept: dict[str, Any]) -> None:
    rows = [row for work in WORKS for row in kept.get(work, [])]
    lines = "\n".join("| " + " | ".join(str(row.get(key, "")) for key in COLUMNS) + " |" for row in rows)
    write_text(HERE / "gpu.md", PAGE.format(machine=kept["machine"], rows=lines, note=kept.get("note", "")).rstrip() + "\n")


def few(dataset: str, train_images: int, val_images: int) -> str:
    """The name of a dataset of the first images of a folder of data/, beside it."""
    name = f"{dataset}_{train_images}_{val_images}"
    folder = data_root() / name
    if not folder.exists():
        folder.mkdir()
        (folder / "images").symlink_to(data_root() / dataset / "images")
        for split, count in (("train", train_images), ("val", val_images)):
            content = json.loads((data_root() / dataset / f"{split}.json").read_text())
            with_objects = {a["image_id"] for a in content["annotations"]}
            content["images"] = [image for image in content["images"] if image["id"] in with_objects][:count]
            ids = {image["id"] for image in content["images"]}
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
            (folder / f"{split}.json").write_text(json.dumps(content))
    return name


def job(dataset: str, backbone: str, batch: int, size: int = 1024) -> Job:
    return job_of(dataset=few(dataset, IMAGES["train"], IMAGES["val"]), backbone=backbone, image_size=size, batch_size=batch)


class Stamps(Hook):
    """When each step of mmcv's runner ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def after_train_iter(self, runner: Any) -> None:
        self.at.append(time.perf_counter())


def rate(at: Sequence[float], batch: int) -> float:
    """Images a second between the steps that ended at these times, without the first ones."""
    return batch * (len(at) - 1 - WARM) / (at[-1] - at[WARM])


def our_rate(job: Job, step: Callable[[dict[str, Any]], Any], train_set: Any) -> float:
    """Images a second of one pass of the workbook's loader and this step."""
    at = []
    gc.collect()  # stock's batches lie in circles, and the loader's processes are forked from this one
    for batch in batches(train_set, job.parameters.batch_size, 0, 0, job.device):
        step(batch)
        at.append(time.perf_counter())
    return rate(at, job.parameters.batch_size)


def stock_rate(stock: Stock, stamps: Stamps, batch: int) -> float:
    stamps.at.clear()
    with without_sleep():
        stock.runner.train(stock.train_loader)
    return rate(stamps.at, batch)


def shown(rates: Sequence[float]) -> str:
    return f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def steps(dataset: str) -> Iterator[dict[str, Any]]:
    for backbone, batch in STEPS:
        yield step_row(job(dataset, backbone, batch), backbone == "resnet50")


def step_row(job: Job, beside_torchvision: bool) -> dict[str, Any]:
    """Training of one backbone, the sides in turn: images a second."""
    batch = job.parameters.batch_size
    ours = Ours(job)
    stock = Stock(job, ours.training.model.state_dict(), mixed=job.device.type == "cuda", workers=WORKERS)
    stock.runner.register_hook(stamps := Stamps())
    ours.training.model.train()
    sides: dict[str, Callable[[], float]] = {
        "stock": lambda: stock_rate(stock, stamps, batch),
        "ours": lambda: our_rate(job, lambda batch: ours.training._train_step(batch, 1e-4), ours.training.train_set),
    }
    if beside_torchvision:
        other = Torchvision(job)
        sides["torchvision"] = lambda: our_rate(job, other.step, ours.training.train_set)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name, side in sides.items():
            images = side()
            if turn:  # the first one warms up
                found[name].append(images)
    ratios = {name: statistics.median(found["ours"]) / statistics.median(rates) for name, rates in found.items() if name != "ours"}
    return {
        "work": f"training, {job.parameters.backbone}, {job.parameters.image_size[0]} px, batch {batch}, {job.precision}: images/s",
        **{name: shown(rates) for name, rates in found.items()},
        "figure": ", ".join(f"**{ratio:.2f} times {name}**" for name, ratio in ratios.items()), "target": ">= 1.5",
        "met": "yes" if min(ratios.values()) >= 1.5 else "no",
    }


def layout(dataset: str) -> Iterator[dict[str, Any]]:
    """What channels-last brings, and the share of the card's peak that the convolutions of R50 reach."""
    ours = Ours(job(dataset, "resnet50", 8))
    model = ours.training.model.train()
    maps = next(iter(batches(ours.training.train_set, 8, 0, 0, ours.job.device)))["img"]
    last = backbone_seconds(model.backbone, maps)
    flops, convolutions = convolution_work(model.backbone, maps)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.contiguous_format)
    plain = backbone_seconds(model.backbone, maps)
    limit = product_rate(ours.job.device)
    work = f"backbone of R50, forward and backward, {list(maps.shape)}"
    yield {"work": f"{work}: channels-last; stock's column is contiguous", "stock": f"{plain * 1e3:.1f} ms", "ours": f"{last * 1e3:.1f} ms",
           "figure": f"**{plain / last:.2f} times**"}
    yield {"work": f"{work}, {flops / 1e12:.1f} TFLOP: share of the {limit / 1e12:.0f} TFLOP/s of a large bf16 matrix product",
           "ours": f"{flops / last / 1e12:.0f} TFLOP/s", "figure": f"**{flops / last / limit:.0%}**", "target": "stated"}
    yield {"work": "its convolutions alone (the time of their kernels)", "ours": f"{flops / convolutions / 1e12:.0f} TFLOP/s",
           "figure": f"**{flops / convolutions / limit:.0%}**", "target": ">= 40%",
           "met": "yes" if flops / convolutions / limit >= 0.4 else "no"}


def backward(backbone: nn.Module, maps: Tensor) -> None:
    sum(level.float().sum() for level in backbone(maps)).backward()  # type: ignore[union-attr]  # sum of tensors


def backbone_seconds(backbone: nn.Module, maps: Tensor, times: int = 10) -> float:
    for _ in range(3):
        backward(backbone, maps)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        backward(backbone, maps)
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


def convolution_work(backbone: nn.Module, maps: Tensor) -> tuple[int, float]:
    """Floating point operations (two a multiply-add) of forward and backward, and the seconds of its convolutions' kernels."""
    with FlopCounterMode(display=False) as counter:
        backward(backbone, maps)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as measured:
        backward(backbone, maps)
        torch.cuda.synchronize()
    spent = sum(event.self_device_time_total for event in measured.key_averages()
                if event.key in ("aten::cudnn_convolution", "aten::convolution_backward"))
    return counter.get_total_flops(), spent / 1e6


def product_rate(device: torch.device, size: int = 8192) -> float:
    """Floating point operations a second of a large bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    return 10 * 2 * size**3 / (time.perf_counter() - started)


def peak(dataset: str) -> Iterator[dict[str, Any]]:
    yield {"work": "bf16 matrix product, 8192 x 8192 x 8192", "ours": f"{product_rate(torch.device('cuda')) / 1e12:.0f} TFLOP/s"}


def loader(dataset: str) -> Iterator[dict[str, Any]]:
    """A whole pass of the loader alone, its start included: not the limit while it gives more images a second than a training takes."""
    made = job_of(dataset=dataset, backbone="resnet50", image_size=1024, batch_size=8)
    train_set = Ours(made).training.train_set
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        count = sum(len(batch["img"]) for batch in batches(train_set, 8, 0, 0, made.device))
        rates.append(count / (time.perf_counter() - started))
    yield {"work": f"the loader alone, {len(train_set)} images of 1024 px, batch 8: images/s", "ours": shown(rates),
           "target": "more than a training takes"}


def validation(dataset: str) -> Iterator[dict[str, Any]]:
    """Losses, detections and AP of the val images."""
    made = job(dataset, "resnet50", 8)
    ours = Ours(made)
    stock = Stock(made, ours.training.model.state_dict(), mixed=True, workers=WORKERS)
    stock.runner.train(stock.train_loader)  # the hook of mixed precision wraps the model before the first run
    found: dict[str, list[float]] = {"stock": [], "ours": []}
    for turn in range(ROUNDS + 1):
        for name, side in (("stock", stock.validation), ("ours", ours.validation)):
            started = time.perf_counter()
            side()
            if turn:
                found[name].append(IMAGES["val"] / (time.perf_counter() - started))
    ratio = statistics.median(found["ours"]) / statistics.median(found["stock"])
    yield {"work": f"validation of {IMAGES['val']} images, R50, 1024 px: images/s", **{name: shown(rates) for name, rates in found.items()},
           "figure": f"**{ratio:.2f} times stock**", "target": ">= 1.5", "met": "yes" if ratio >= 1.5 else "no"}


def epoch(dataset: str) -> Iterator[dict[str, Any]]:
    """One whole epoch and its validation, as `workbook run` does it."""
    made = job_of(dataset=dataset, backbone="resnet50", image_size=1024, batch_size=8)
    started = time.perf_counter()
    run = train(made)
    wall = time.perf_counter() - started
    record = json.loads((run.folder / "run.json").read_text())
    yield {"work": f"one epoch of {dataset} at 1024 px with its validation, R50, batch 8: {len(made.dataset.train['images'])} + "
                   f"{len(made.dataset.val['images'])} images",
           "ours": f"{wall:.0f} s: training {record['train_images_per_second']:.1f} images/s, validation "
                   f"{record['val_images_per_second']:.1f}; {record['peak_memory_mb'] / 1024:.1f} GB of the GPU"}


WORKS: dict[str, Callable[[str], Iterator[dict[str, Any]]]] = {
    "peak": peak, "steps": steps, "layout": layout, "loader": loader, "validation": validation, "epoch": epoch}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
