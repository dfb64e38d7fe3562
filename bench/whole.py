"""Rows P6, P7 and P11: `make demo`, what one run costs beside its training and validation, and the set-up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.row import Row, Timing, timed
from bench.stock import few_images
from workbook.runs.listing import finished_run

ROOT = Path(__file__).resolve().parents[1]


def p6() -> list[Row]:
    """The demo in an empty folder of outputs; the environment is there already."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "WORKBOOK_OUTPUTS": folder}
        seconds = timed(lambda: subprocess.run(["make", "demo", f"DEMO={folder}/demo"], cwd=ROOT, env=env, check=True,
                                               stdout=subprocess.DEVNULL))
    return [Row("P6", "`make demo` after set-up", "", f"{seconds / 60:.1f} minutes", f"{seconds / 60:.1f} minutes", "<= 8 minutes",
                seconds <= 480, {"ours": (seconds,)})]


def p7() -> list[Row]:
    """Papermill on `2_train.ipynb`, less the seconds of training and validation that the run has recorded."""
    asked = {"dataset": few_images(4, 4), "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "epochs": "1", "image_size": "128"}
    beside = []
    for seed in range(3):
        names = [part for name, value in {**asked, "seed": str(seed)}.items() for part in ("-p", name, value)]
        command = [str(Path(sys.executable).parent / "papermill"), "--no-progress-bar", "notebooks/2_train.ipynb", os.devnull, *names]
        whole = timed(lambda command=command: subprocess.run(command, cwd=ROOT, check=True, capture_output=True))
        beside.append(whole - finished_run().record["seconds"])
    timing = Timing(tuple(beside))
    return [Row("P7", "one run beside its training and validation: kernel, imports, checks, notebook, records", "", str(timing),
                f"{timing.median:.1f} s", "<= 6 s", timing.median <= 6, {"ours": timing.seconds})]


def p11() -> list[Row]:
    """The set-up of a fresh clone with empty caches: needs a network, and takes what the network gives."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        env = {key: value for key, value in os.environ.items() if key not in ("CONDA_PREFIX", "VIRTUAL_ENV")}
        env |= {"UV_CACHE_DIR": f"{folder}/uv", "PIP_CACHE_DIR": f"{folder}/pip"}
        seconds = timed(lambda: subprocess.run(["make", "setup"], cwd=clone, env=env, check=True, stdout=subprocess.DEVNULL))
    return [Row("P11", "`make setup`, nothing cached, downloads included", "", f"{seconds / 60:.1f} minutes", f"{seconds / 60:.1f} minutes",
                "<= 5 minutes", seconds <= 300, {"ours": (seconds,)})]
