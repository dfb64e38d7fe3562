"""The `workbook` command: its help, and what it says when something cannot be done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from run_folders import write_run
from scenes import make_dataset
from workbook.training.parameters import Parameters

WORKBOOK = str(Path(sys.executable).with_name("workbook"))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "data", "scenes")
    return tmp_path


def workbook(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([WORKBOOK, *words], capture_output=True, text=True, timeout=300)


def test_every_command_shows_an_example() -> None:
    listed = workbook("--help").stdout
    for command in ("run", "sweep", "study", "adopt", "report", "rerun", "list", "compare", "diagnose", "browse", "check", "split",
                    "import", "export"):
        assert command in listed
        assert f"Example: workbook {command}" in workbook(command, "--help").stdout


def test_wrong_parameters_are_all_named_with_what_is_allowed_and_without_a_traceback() -> None:
    done = workbook("run", "--backbone", "resnet5", "--epochs", "0", "--recipe", "best")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for words in ("backbone = 'resnet5': unknown backbone", "epochs = 0: Input should be greater than or equal to 1",
                  "recipe = 'best': unknown recipe 'best'. Known: official"):
        assert words in done.stderr


def test_list_and_compare_without_runs_say_how_to_make_one() -> None:
    for command in ("list", "compare"):
        done = workbook(command)
        assert done.returncode == 2 and "no runs in" in done.stderr and "workbook run --backbone" in done.stderr


def test_list_and_compare_name_a_broken_run_and_show_the_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = write_run(root / "outputs")
    broken = write_run(root / "outputs", parameters={"seed": 1})
    (broken.folder / "run.json").write_text("{")
    listed, compared = workbook("list"), workbook("compare")
    assert (listed.returncode, compared.returncode) == (0, 0), listed.stderr + compared.stderr
    assert good.name in listed.stdout and broken.name not in listed.stdout
    for shown in (listed.stderr, compared.stdout):
        assert " ".join(shown.split()).count("Left out because unreadable: 1 run folder") == 1
        assert broken.name in "".join(shown.split())
    assert compared.stderr == ""


def test_every_parameter_is_an_option_with_its_default_and_its_words() -> None:
    shown = " ".join(workbook("run", "--help").stdout.replace("│", " ").split())
    swept = " ".join(workbook("sweep", "--help").stdout.replace("│", " ").split())
    for name, field in Parameters.model_fields.items():
        option = f"--{name.replace('_', '-')} "
        assert option in shown and option in swept, name
        assert str(field.description)[:30] in shown and str(field.description)[:30] in swept
    assert "[default: 1024]" in shown and "[default: tree_crowns]" in shown and "[default: 12]" in shown


def test_help_says_what_each_argument_is_and_breaks_lines_where_the_terminal_does() -> None:
    shown = workbook("import", "--help").stdout
    assert "the new folder of data/" in shown and "the folder that holds labels" in shown
    wide = subprocess.run([sys.executable, "-m", "workbook", "run", "--help"], capture_output=True, text=True, check=True,
                          env={**os.environ, "COLUMNS": "200", "TERMINAL_WIDTH": "200"}).stdout
    assert "Ctrl-C and SIGTERM save a checkpoint and leave (exit codes 130 and 143)." in wide


def test_check_ends_with_1_when_there_are_errors(root: Path) -> None:
    good = workbook("check", "scenes")
    assert good.returncode == 0 and "scenes: 0 errors" in good.stdout
    next((root / "data" / "scenes" / "images").iterdir()).write_bytes(b"")
    bad = workbook("check", "scenes")
    assert bad.returncode == 1 and "scenes: 1 error" in bad.stdout


def test_split_makes_a_val_set_from_train_json_alone(root: Path) -> None:
    folder = root / "data" / "scenes"
    whole = json.loads((folder / "train.json").read_text())
    (folder / "val.json").unlink()
    done = workbook("split", "scenes", "--val-share", "0.5")
    assert done.returncode == 0, done.stderr
    parts = [json.loads((folder / f"{name}.json").read_text())["images"] for name in ("train", "val")]
    assert sorted(image["file_name"] for part in parts for image in part) == sorted(image["file_name"] for image in whole["images"])
    again = workbook("split", "scenes")
    assert again.returncode == 2 and "val.json" in again.stderr


HEAVY = ("torch", "mmcv", "mmdet", "fiftyone", "matplotlib", "pandas", "numpy", "cv2")
LOADED = "import sys; from workbook import cli; sys.argv = ['workbook', *sys.argv[1:]]\ntry: cli.main()\nfinally: print(*sys.modules)"


@pytest.mark.parametrize("command", ["--help", "list", "run --help"])
def test_what_needs_no_library_loads_none(root: Path, command: str) -> None:
    write_run(root / "outputs")
    answer = subprocess.run([sys.executable, "-c", LOADED, *command.split()], capture_output=True, text=True, check=True)
    loaded = answer.stdout.splitlines()[-1].split()
    assert "workbook.cli" in loaded and not set(HEAVY) & set(loaded)


STOPPED_WHILE_LOADING = """
import builtins, os, signal, sys
import typer.main
from workbook.__main__ import main
_, moment, at_first = sys.argv
load, make = builtins.__import__, typer.main.get_command
def stop(now):
    if now == moment:
        os.kill(os.getpid(), signal.SIGINT)
def load_or_stop(name, *rest):
    stop(name)
    return load(name, *rest)
def make_or_stop(app):
    stop("the command is made")
    return make(app)
builtins.__import__, typer.main.get_command = load_or_stop, make_or_stop
signal.signal(signal.SIGINT, signal.SIG_IGN if at_first == "ignored" else signal.default_int_handler)
sys.argv[1:] = ["--help"]
main()
"""


@pytest.mark.parametrize("moment", ["workbook.cli_options", "rich.console", "the command is made"])
@pytest.mark.parametrize(("at_first", "code"), [("heeded", -signal.SIGINT), ("ignored", 0)])
def test_ctrl_c_while_the_command_loads_ends_it_without_a_traceback(moment: str, at_first: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED_WHILE_LOADING, moment, at_first], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
