"""What an error message advises is done here once, as it says it, and the error is gone."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bad_inputs import PETS, ordinary_user
from processes import forked
from run_folders import write_run
from small_dataset import load, save, write_dataset
from trained_run import ASKED, Place, Trained
from workbook import cli
from workbook.browse.app import free_port
from workbook.browse.parameters import BrowseParameters
from workbook.browse.samples import read_runs
from workbook.data.catalog import find_dataset
from workbook.data.parameters import DataParameters
from workbook.data.split import split
from workbook.diagnosis.parameters import DiagnosisParameters
from workbook.diagnosis.store import load_or_diagnose
from workbook.errors import WorkbookError
from workbook.files import PROJECT, outputs_root
from workbook.models import device as devices
from workbook.parameters import check
from workbook.runs.folder import Run, create_run
from workbook.runs.listing import finished_run, open_run
from workbook.studies.study import read_grids
from workbook.sweep.plan import asked_runs
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
from workbook.training.trackers import open_tracker
from workbook.training.train import train
from workbook.views import fonts
from workbook.views.compare.tables import select


@dataclass(frozen=True)
class Situation(Place):
    """`values` are the parameters that a person asks for, which advice may change."""

    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """`arrange` makes the trouble, `ask` meets it, `says` is a pattern of the advice, `follow` does it, and `ask` passes."""

    name: str
    ask: Callable[[Situation], Any]
    says: str
    follow: Callable[[Situation, re.Match[str]], Any]
    arrange: Callable[[Situation], Any] = lambda here: None


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained) -> Situation:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    write_dataset(tmp_path / "data" / "pets")
    return Situation(tmp_path, trained, monkeypatch)


def command(words: str) -> None:
    """Run a `workbook` command that a message names; it must end well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shlex.split(words))
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code


# ---- parameters ------------------------------------------------------------------------------------------------------


def prepared(here: Situation) -> Any:
    return prepare(check_parameters({**PETS, **here.values}))


def parameter(name: str, says: str, take: Callable[[str], Any] = str, **values: Any) -> Advice:
    """The parameter `name` is given what the first group of `says` found."""
    def follow(here: Situation, found: re.Match[str]) -> None:
        here.values[name] = take(found[1])

    shown = ", ".join(f"{key}={value}" for key, value in values.items())
    return Advice(shown, prepared, says, follow, lambda here: here.values.update(values))


def instead(says: str, follow: Callable[[dict[str, Any]], Any], **values: Any) -> Advice:
    """As `parameter`, where the advice is to be done by hand."""
    shown = ", ".join(f"{key}={value}" for key, value in values.items())
    return Advice(shown, prepared, says, lambda here, _: follow(here.values), lambda here: here.values.update(values))


def without_bf16(here: Situation) -> None:
    here.patch.setattr(devices, "has_bf16", lambda device: False)
    here.values["precision"] = "bf16"


def without_network(here: Situation) -> None:
    here.patch.setenv("TORCH_HOME", str(here.root / "torch"))
    here.values["backbone"] = "resnet18"


def copied_weights(here: Situation, found: re.Match[str]) -> None:
    import torch
    import torchvision

    path = here.root / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    here.values[found[1]] = str(path)


PARAMETERS = [
    parameter("detector", r"unknown detector 'yolo'\. Known: [\w, ]*?(retinanet)", detector="yolo"),
    parameter("backbone", r"unknown backbone 'resnet5'\. Known: .*?(tf_efficientnet_lite1)", backbone="resnet5"),
    parameter("recipe", r"unknown recipe 'best'\. Known: .*?(finetune)", recipe="best"),
    parameter("recipe", r"(finetune|seed)", recipe="official"),
    parameter("tracker", r"Known: (none)", tracker="comet"),
    parameter("precision", r"Known: (auto)", precision="fp8"),
    parameter("device", r"Known: auto, (cpu)", device="gpu"),
    parameter("device", r"torch sees no GPU\. Use device=(cpu)", device="cuda"),
    parameter("batch_size", r"Allowed: 1 to (\d+)", int, batch_size=8),
    parameter("batch_size", r"Allowed: batch sizes (\d+)", int, batch_size=3, devices=2),
    parameter("epochs", r"Allowed: a whole number from (\d+) to 10000", int, epochs="twelve"),
    parameter("image_size", r"a side has (\d+) to", int, image_size=16),
    parameter("image_size", r"width x height as (\d+x\d+)", image_size="large"),
    parameter("dataset", r"There are: .*?(pets)", dataset="cats"),
    parameter("checkpoint_minutes", r"write it with a point: ([\d.]+\d)", checkpoint_minutes="0,5"),
    instead(r"write key=value", lambda values: values.update(overrides="optimizer.lr=0.001"), overrides="optimizer.lr"),
    instead(r"use the parameter epochs instead", lambda values: values.update(overrides="", epochs=3), overrides="runner.max_epochs=3"),
    instead(r"Known at this level: .*optimizer", lambda values: values.update(overrides="optimizer.lr=1"), overrides="optimiser.lr=1"),
    Advice("precision=bf16 without it", prepared, r"Use precision=(fp32), or auto",
           lambda here, found: here.values.update(precision=found[1]), without_bf16),
    Advice("no network, the weights copied", prepared, r"pass its path as `(pretrained)=/path/to/file`", copied_weights, without_network),
    Advice("no network, from random weights", prepared, r"with `(pretrained)=(none)`",
           lambda here, found: here.values.update({found[1]: found[2]}), without_network),
]

# ---- names, ports, fonts, files of a sweep ---------------------------------------------------------------------------


def two_names(here: Situation) -> None:
    for name in ("7", "007"):
        shutil.copytree(here.pets, here.root / "data" / name)
    here.values["dataset"] = 7


def sweep_file(text: str) -> Callable[[Situation], None]:
    def arrange(here: Situation) -> None:
        (here.root / "sweep.yaml").write_text(text)

    return arrange


def quoted(here: Situation, found: re.Match[str]) -> None:
    path = here.root / "sweep.yaml"
    path.write_text(re.sub(rf"({found[1]}): (\S+)", r'\1: "\2"', path.read_text()))


def named_font(here: Situation) -> None:
    here.patch.setenv("WORKBOOK_FONT", "Nosuch")
    fonts.families.cache_clear()


def other_font(here: Situation, found: re.Match[str]) -> None:
    here.patch.setenv("WORKBOOK_FONT", found[1])
    fonts.families.cache_clear()


VALUES = [
    Advice("a name that reads as a number", lambda here: check(DataParameters, here.values), r"it may be (007) or 7.*-r dataset|as text",
           lambda here, found: here.values.update(dataset="007"), two_names),
    Advice("launch that is neither", lambda here: check(BrowseParameters, here.values), r"Allowed: (True), False",
           lambda here, found: here.values.update(launch=found[1]), lambda here: here.values.update(launch="yes")),
    Advice("an iou that is too large", lambda here: check(DiagnosisParameters, here.values), r"over 0 under (1)",
           lambda here, found: here.values.update(iou=int(found[1]) - 0.5), lambda here: here.values.update(iou=1.5)),
    Advice("a port that is none", lambda here: free_port(here.values["port"]), r"from 1 to (65535)",
           lambda here, found: here.values.update(port=int(found[1])), lambda here: here.values.update(port=70_000)),
    Advice("a name in YAML without quotes", lambda here: asked_runs(read_grids(here.root / "sweep.yaml")),
           r"- line 1: (dataset): .*in quotes", quoted, sweep_file("dataset: 2024-01-01\nbackbone: tf_efficientnet_lite0\n")),
    Advice("no sweep file", lambda here: read_grids(here.values["file"]), r"There are: .*?(studies/\w+\.yaml)",
           lambda here, found: here.values.update(file=Path(found[1])), lambda here: here.values.update(file=Path("studies/demos.yaml"))),
    Advice("a font that is not there", lambda here: fonts.families(), r"or one of: .*?(DejaVu Sans)", other_font, named_font),
]

# ---- data ------------------------------------------------------------------------------------------------------------


def no_val(here: Situation) -> None:
    (here.pets / "val.json").unlink()


def groups(here: Situation) -> None:
    no_val(here)
    here.values["group_by"] = "site"


def incomplete(here: Situation) -> None:
    (here.root / "data" / "tree_crowns").mkdir()


def empty_image(here: Situation) -> None:
    (here.pets / "images" / "train_1.png").write_bytes(b"")


def take_out(here: Situation, found: re.Match[str]) -> None:
    content = load(here.pets, "train")
    content["images"] = [image for image in content["images"] if image["id"] != int(found[1])]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != int(found[1])]
    save(here.pets, "train", content)


DATA = [
    Advice("no val.json", prepared, r"`(workbook split pets)`", lambda here, found: command(found[1]), no_val),
    Advice("val.json is there already", lambda here: split("pets", val_share=0.3, seed=0), r"To split anew, delete it",
           lambda here, found: (here.pets / "val.json").unlink()),
    Advice("an unknown field to group by", lambda here: split("pets", val_share=0.3, seed=0, group_by=here.values["group_by"]),
           r"Fields that every image has: .*?(file_name)", lambda here, found: here.values.update(group_by=found[1]), groups),
    Advice("an embedded dataset that is cut off", lambda here: find_dataset("tree_crowns"), r"(\S+) is incomplete: delete it",
           lambda here, found: shutil.rmtree(found[1]), incomplete),
    Advice("a file that is missing", prepared, r"image (\d+) of train\.json: the file is missing: .*take the image and its annotations out",
           take_out, lambda here: (here.pets / "images" / "train_1.png").unlink()),
]

# ---- runs ------------------------------------------------------------------------------------------------------------


def with_run(here: Situation) -> Run:
    here.patch.setenv("WORKBOOK_DATA", str(here.trained.data))
    return here.trained.copy(here.outputs)


def as_asked(here: Situation) -> Any:
    """The call that made the run, once more."""
    return train(prepare(check_parameters(ASKED)))


def broken_off(here: Situation) -> None:
    with_run(here).update(status="running")


def broken_checkpoint(here: Situation) -> None:
    broken_off(here)
    here.run.last_checkpoint.write_bytes(b"cut")


def without_best(here: Situation) -> None:
    with_run(here).best_checkpoint.unlink()


def first_run(here: Situation, found: re.Match[str]) -> None:
    """Its checks alone: the training itself takes minutes. Then a run stands for it."""
    words = shlex.split(found[1])[2:]
    prepare(check_parameters({key[2:].replace("-", "_"): value for key, value in zip(words[::2], words[1::2], strict=True)}))
    write_run(here.outputs)


def out_of_date(here: Situation) -> None:
    load_or_diagnose(with_run(here))
    path = here.run.folder / "predictions.json"
    path.write_text(path.read_text() + "\n")


RUNS = [
    Advice("no runs", lambda here: select(), r"make one with `(workbook run [^`]+)`", first_run),
    Advice("no finished run", lambda here: finished_run(), r"make one with `(workbook run [^`]+)`", first_run),
    Advice("an unknown run", lambda here: open_run(here.values["run"]), r"There are:\s+(\S+)",
           lambda here, found: here.values.update(run=found[1]), lambda here: (with_run(here), here.values.update(run="faster"))),
    Advice("no run on this dataset", lambda here: select(dataset=here.values["dataset"]), r"Leave `(dataset)` empty",
           lambda here, found: here.values.update({found[1]: ""}), lambda here: (with_run(here), here.values.update(dataset="cats"))),
    Advice("a run that was broken off", lambda here: finished_run(here.run.name), r"`workbook run` with its parameters goes on",
           lambda here, found: as_asked(here), broken_off),
    Advice("a checkpoint that is broken", as_asked, r"delete the run folder and train again",
           lambda here, found: shutil.rmtree(here.run.folder), broken_checkpoint),
    Advice("no best.pth", lambda here: load_or_diagnose(here.run), r"delete the run folder and train again",
           lambda here, found: (shutil.rmtree(here.run.folder), as_asked(here)), without_best),
    Advice("a run without a diagnosis, to browse", lambda here: read_runs([here.run]), r"`workbook diagnose (\S+)` first",
           lambda here, found: load_or_diagnose(open_run(found[1])), with_run),
    Advice("a diagnosis that is out of date", lambda here: read_runs([here.run]), r"out of date.*`workbook diagnose (\S+)` again",
           lambda here, found: load_or_diagnose(open_run(found[1])), out_of_date),
]


# ---- the machine -----------------------------------------------------------------------------------------------------


def write_run_folder(here: Situation) -> None:
    """As a user who may write where `mine` says, and not into the outputs of the others."""
    others = here.root / "others"
    others.mkdir(exist_ok=True)
    mine = here.values.get("mine")
    if mine:
        mine.mkdir(exist_ok=True)
        mine.chmod(0o777)
    with ordinary_user(others):
        create_run(check_parameters(PETS).model_dump(mode="json"), "5f" * 32)


def another_outputs(here: Situation, found: re.Match[str]) -> None:
    here.values["mine"] = here.root / "mine"
    here.patch.setenv(found[1], str(here.values["mine"]))


def track(kind: str) -> Callable[[Situation], Any]:
    def ask(here: Situation) -> None:
        open_tracker(here.values.get("tracker", kind), "RUN", here.outputs / "runs" / "RUN", {}, here.root / "trackers").close()

    return ask


MACHINE = [
    Advice("an address for outputs", lambda here: outputs_root(), r"Give a folder of this machine",
           lambda here, found: here.patch.setenv("WORKBOOK_OUTPUTS", str(here.outputs)),
           lambda here: here.patch.setenv("WORKBOOK_OUTPUTS", "s3://bucket/outputs")),
    Advice("outputs of somebody else", write_run_folder, r"set (WORKBOOK_OUTPUTS) to another folder", another_outputs,
           lambda here: here.patch.setenv("WORKBOOK_OUTPUTS", str(here.root / "others"))),
    Advice("no key of W&B", track("wandb"), r"use tracker=(wandb-offline)", lambda here, found: here.values.update(tracker=found[1])),
    Advice("no server of MLflow", track("mlflow"), r"or unset (it) to use a local folder",
           lambda here, found: here.patch.delenv("MLFLOW_TRACKING_URI"),
           lambda here: here.patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")),
]
ALL = [*PARAMETERS, *VALUES, *DATA, *RUNS, *MACHINE]


@pytest.mark.parametrize("advice", ALL, ids=lambda advice: advice.name)
def test_advice_that_is_followed_leads_out(advice: Advice, here: Situation) -> None:
    here.patch.chdir(PROJECT)
    advice.arrange(here)
    with pytest.raises((WorkbookError, ValueError)) as error:
        advice.ask(here)
    found = re.search(advice.says, str(error.value), re.DOTALL)
    assert found, error.value
    advice.follow(here, found)
    advice.ask(here)
    fonts.families.cache_clear()


def test_a_run_that_another_process_trains_is_free_when_that_one_is_stopped(here: Situation) -> None:
    run = with_run(here)

    def hold() -> None:
        with run.acquire():
            time.sleep(60)

    pid = forked(hold)
    while not run.busy:
        time.sleep(0.01)
    with pytest.raises(WorkbookError) as error, run.acquire():
        pass
    found = re.search(r"is being trained by process (\d+) .*wait for it or stop it", str(error.value))
    assert found and int(found[1]) == pid
    os.kill(int(found[1]), signal.SIGTERM)
    os.waitpid(pid, 0)
    with run.acquire():
        pass


def python(code: str, **env: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_mongodb_that_does_not_answer_is_not_needed_once_its_address_is_unset(here: Situation) -> None:
    code = ("import os, re\nfrom workbook.browse.database import BrowseError, connect\n"
            "try:\n connect()\nexcept BrowseError as error:\n name = re.search(r'unset (\\w+) to use', str(error))[1]\n"
            "del os.environ[name]\nprint(name, connect().list_datasets())")
    assert python(code, FIFTYONE_DATABASE_URI="mongodb://127.0.0.1:9").split()[0] == "FIFTYONE_DATABASE_URI"


def test_a_memory_that_is_too_small_takes_a_smaller_image(here: Situation) -> None:
    code = ("import psutil, resource\nfrom workbook.training.job import prepare\n"
            "from workbook.training.parameters import check_parameters\n"
            "from workbook.training.memory import MemoryFullError\nfrom workbook.training.train import train\n"
            f"asked = {PETS!r}\n"
            "small, large = (prepare(check_parameters({**asked, 'image_size': size})) for size in (64, 2048))\n"
            "train(prepare(check_parameters({**asked, 'seed': 1})))\n"  # what is loaded late is loaded now
            "room = psutil.Process().memory_info().vms + 1_000_000_000\n"
            "resource.setrlimit(resource.RLIMIT_AS, (room, room))\n"
            "try:\n train(large)\nexcept MemoryFullError as error:\n print(error)\n"
            "print(train(small).status)")
    said = python(code)
    assert "the memory is full (device=cpu, batch_size=2, image_size=2048x2048)" in said and "Use a smaller batch_size or" in said
    assert said.split()[-1] == "done"
