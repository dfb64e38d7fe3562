"""A real run of one epoch whose dataset and classes have the worst of names, trained while a tracker's keys were set."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from scenes import make_dataset
from small_run import SMALL
from workbook.runs.folder import Run
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
from workbook.training.train import train

DATASET = """<img src=x onerror=alert(1)> "o'clock\""""
CLASSES = ("<script>alert(1)</script>", """$5 "each" & it's [a](javascript alert(1)) \\frac{$""")
KEY = "5ec2e7" * 6 + "5ec2"  # of the length of W&B's keys
ASKED = {**SMALL, "dataset": DATASET, "epochs": 1, "tracker": "wandb-offline"}


@dataclass(frozen=True)
class Trained:
    """`outputs` is the whole outputs folder, `data` the folder of datasets."""

    run: Run
    outputs: Path
    data: Path

    def copy(self, outputs: Path) -> Run:
        """The run in another outputs folder, to be broken there."""
        return Run(Path(shutil.copytree(self.run.folder, outputs / "runs" / self.run.name)))


@dataclass(frozen=True)
class Place:
    """Where a test may break things: `data/pets`, sound, and an outputs folder that is not there yet."""

    root: Path
    trained: Trained
    patch: pytest.MonkeyPatch

    @property
    def pets(self) -> Path:
        return self.root / "data" / "pets"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def run(self) -> Run:
        """The copy of the finished run, once `with_run` has made it."""
        return Run(self.outputs / "runs" / self.trained.run.name)


def train_one(root: Path) -> Trained:
    """Make the dataset and train on it."""
    make_dataset(root / "data", DATASET, train_images=4, val_images=2, classes=CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_DATA", str(root / "data"))
        patch.setenv("WORKBOOK_OUTPUTS", str(root / "outputs"))
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setenv("MLFLOW_TRACKING_URI", f"http://user:{KEY}@127.0.0.1:9")
        return Trained(train(prepare(check_parameters(ASKED))), root / "outputs", root / "data")
