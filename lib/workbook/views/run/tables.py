"""What one run is asked and what it reached, as small tables for its notebook."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler

from workbook.data.catalog import summary
from workbook.remedies.apply import Change
from workbook.runs.folder import Run
from workbook.training.job import Job


def outline(job: Job) -> Styler:
    """What a job will do, one row a fact, before it does it; nothing is written."""
    config, data, asked = job.config, summary(job.dataset), job.parameters
    optimizer = {key: value for key, value in config.optimizer.items() if key not in ("type", "lr", "paramwise_cfg")}
    init = config.model.backbone.get("init_cfg")
    rows = {
        "run folder": job.run_folder,
        "data": f"{data['name']}: {data['train_images']} train and {data['val_images']} val images, {len(data['classes'])} classes",
        **({"train images": job.left_out} if job.left_out else {}),
        "val objects": f"{data['val_objects']}: {data['val_small']} small, {data['val_medium']} medium, {data['val_large']} large",
        "detector": f"{config.model.type} with {asked.backbone}",
        "start weights": config.load_from or (init.checkpoint if init else "random, as asked by pretrained=none"),
        "optimizer": f"{config.optimizer.type}, lr {config.optimizer.lr:.4g}, {_words(optimizer)}",
        "lr schedule": _words({key: value for key, value in config.lr_config.items() if key != "policy"}),
        "steps": f"{job.epochs} epochs of {job.steps_an_epoch} steps with {config.data.samples_per_gpu} images",
        "image size": "x".join(map(str, asked.image_size)),
        **{f"remedy {applied.key}": _changed(applied.changes) for applied in job.remedies},
        "device": f"{job.device}, {job.precision}",
        **{f"warning {number}": warning for number, warning in enumerate(job.warnings, start=1)},
    }
    return _column(rows)


def figures(run: Run) -> Styler:
    """The best epoch's metrics and losses, one row a figure, to four decimals, and how many objects they rest on."""
    metrics = run.metrics()
    shown = {key: value for key, value in metrics.items() if key.startswith(("bbox_mAP", "loss", "acc")) or ".loss" in key}
    rows = {
        "best epoch": metrics["best_epoch"],
        **{key: "" if value is None else f"{value:.4f}" for key, value in shown.items()},
        **{f"{key} in val": value for key, value in metrics["counts"].items()},
    }
    return _column(rows)


def _column(rows: dict[str, object]) -> Styler:
    """One value a row, shown whole: pandas would cut a path after 50 characters."""
    table = pd.DataFrame({"": [str(value) for value in rows.values()]}, index=list(rows))
    return table.style.format(escape="html").hide(axis="columns").set_table_styles([{"selector": "td, th", "props": "text-align: left"}])


def _changed(changes: Mapping[str, Change]) -> str:
    """`model.test_cfg.rcnn.score_thr 0.05 → 0.001`, a change after the other."""
    return ", ".join(f"{key} {before} → {after}" for key, (before, after) in changes.items()) or "changes nothing here"


def _words(values: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
