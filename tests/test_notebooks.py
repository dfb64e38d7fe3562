"""Every notebook through the real papermill, one after the other as a person would, and the command making the same run."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from scenes import make_dataset
from small_run import NARROW
from workbook.notebooks import NOTEBOOKS, write_html
from workbook.runs.folder import Run, runs_root
from workbook.runs.listing import list_runs
from workbook.training.parameters import Parameters

ROOT = NOTEBOOKS.parent
TRAINING = {
    "dataset": "scenes", "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "epochs": 2, "image_size": 128, "overrides": NARROW,
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    make_dataset(tmp_path / "data", "scenes", train_images=4, val_images=2)
    return tmp_path


def through_papermill(name: str, root: Path, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """The executed notebook, run by the `papermill` command as README says, and turned into HTML."""
    out = root / f"{name}.ipynb"
    words = [word for key, value in parameters.items() for word in ("-p", key, str(value))]
    command = [str(Path(sys.executable).with_name("papermill")), str(NOTEBOOKS / f"{name}.ipynb"), str(out), "--no-progress-bar", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise AssertionError(done.stderr[-3000:])
    notebook, page = nbformat.read(out, as_version=4), write_html(out).read_text()
    assert page.count("<img") >= pictures(notebook)
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def workbook(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(Path(sys.executable).with_name("workbook")), *words], cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_data_train_and_compare_one_after_the_other(root: Path) -> None:
    assert pictures(through_papermill("1_data", root, {"dataset": "scenes", "image_size": 128})) >= 3
    trained = through_papermill("2_train", root, TRAINING)
    (run,) = list_runs()
    assert run.status == "done"
    assert pictures(trained) == 4 and {path.stem for path in (run.folder / "figures").iterdir()} == {
        "curves", "learning_rate", "per_class", "detections"}
    drawn = {b64decode(output["data"]["image/png"]) for output in outputs(trained) if "image/png" in output.get("data", {})}
    assert drawn == {path.read_bytes() for path in (run.folder / "figures").iterdir()}, "drawn again to be shown"
    assert not [output for output in outputs(trained) if output.get("name") == "stderr"], "a bar's stale lines, or a warning"
    assert trained.cells[-1].outputs[0].text.strip() == str(run.folder)

    same = workbook("run", *[word for key, value in TRAINING.items() for word in (f"--{key.replace('_', '-')}", str(value))])
    assert same.returncode == 0, same.stderr
    assert same.stdout.strip().splitlines()[-1] == str(run.folder) and "already done" in same.stdout
    assert [other.folder for other in list_runs()] == [run.folder]
    assert (run.folder / "2_train.html").exists()

    diagnosed = workbook("diagnose", run.name)
    assert diagnosed.returncode == 0, diagnosed.stderr
    assert "Both small objects are missed" in diagnosed.stdout and str(run.folder / "3_diagnose.html") in diagnosed.stdout
    assert (run.folder / "figures" / "waterfall.png").exists()
    made = (run.folder / "waterfall.json").stat().st_mtime_ns
    again = through_papermill("3_diagnose", root, {"other": run.name})
    assert (run.folder / "waterfall.json").stat().st_mtime_ns == made, "what is kept is read, not computed again"
    shown = [output for output in outputs(again) if "text/markdown" in output.get("data", {})]
    assert "Both small objects are missed" in shown[0].data["text/markdown"] and "the same run" in shown[-1].data["text/markdown"]
    first = next(cell for cell in again.cells if cell.cell_type == "code" and any("image/png" in o.get("data", {}) for o in cell.outputs))
    assert "waterfall" in first.source and pictures(again) >= 8

    adopted = adopted_detections(run, root)
    diagnosed = workbook("diagnose", adopted)
    assert diagnosed.returncode == 0, diagnosed.stderr
    said = (runs_root() / adopted / "diagnosis.md").read_text()
    assert "Made from detections alone" in said and "Both small objects are missed" in said and "no reported box that fits" in said

    both = {"runs": f"{run.name},{adopted}", "launch": True}
    browsed = outputs(through_papermill("4_browse", root, both))  # the App ends with the notebook
    assert "small: lost at proposals" in browsed[0].data["text/html"] and "small: lost at unreported" in browsed[0].data["text/html"]
    assert "The App: http://127.0.0.1:" in "".join(output.get("text", "") for output in browsed)

    assert pictures(through_papermill("5_compare", root, {"dataset": "scenes"})) == 4
    by_notebook = (root / "outputs" / "comparison.csv").read_text()
    compared = workbook("compare")
    assert compared.returncode == 0 and (root / "outputs" / "comparison.csv").read_text() == by_notebook
    listed = workbook("list")
    assert run.name in listed.stdout and "done" in listed.stdout


def adopted_detections(run: Run, root: Path) -> str:
    """The run's own detections, adopted as if another program had written them; the name of that run."""
    theirs = root / "theirs" / "predictions.json"
    theirs.parent.mkdir()
    theirs.write_text((run.folder / "predictions.json").read_text())
    adopted = workbook("adopt", str(theirs), "--dataset", "scenes")
    assert adopted.returncode == 0, adopted.stderr
    return next(other.name for other in list_runs() if other.name.startswith("adopted-theirs-"))


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS.glob("*.ipynb")])
def test_an_unknown_parameter_is_refused(name: str, root: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)no such parameter.*colour|colour.*no such parameter"):
        through_papermill(name, root, {"colour": "red"})


def test_papermill_understands_every_parameters_cell() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        cell = next(cell for cell in nbformat.read(path, 4).cells if "parameters" in cell.metadata.get("tags", []))
        named = [line.partition("=")[0].strip() for line in cell.source.splitlines()]
        assert list(papermill.inspect_notebook(path)) == named, path.name


def test_the_notebook_has_the_parameters_and_defaults_of_the_command() -> None:
    cell = next(c for c in nbformat.read(NOTEBOOKS / "2_train.ipynb", 4).cells if "parameters" in c.metadata.get("tags", []))
    written: dict[str, Any] = {}
    exec(cell.source, {}, written)
    assert list(written) == list(Parameters.model_fields)
    assert Parameters(**written) == Parameters()
