"""Every parameter of every notebook, given in every way that papermill knows: taken for what it means, or refused in words."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill.cli
import papermill.iorw
import pytest
import yaml
from papermill.translators import PythonTranslator

from run_folders import write_run
from small_dataset import write_dataset
from workbook.browse.parameters import BrowseParameters
from workbook.data.parameters import DataParameters
from workbook.diagnosis.parameters import DiagnosisParameters
from workbook.errors import ParameterError
from workbook.notebooks import NOTEBOOKS, notebook_parameters
from workbook.parameters import Asked, as_papermill, as_yaml
from workbook.search.parameters import RemedyParameters
from workbook.studies.parameters import StudyParameters
from workbook.studies.study import read_grids
from workbook.sweep.plan import asked_runs
from workbook.training.parameters import Parameters, check_parameters
from workbook.views.compare.parameters import ComparisonParameters

MODELS: dict[str, type[Asked]] = {
    "1_data": DataParameters, "2_train": Parameters, "3_diagnose": DiagnosisParameters, "4_browse": BrowseParameters,
    "5_compare": ComparisonParameters, "6_remedy": RemedyParameters, "7_study": StudyParameters,
}
WORDS = ("7", "0.5", "-3", "1e5", "nan", "inf", "07", "0,5", "word", "None", "null", "True", "true", "False", "false", "yes", "no",
         "[a, b]", "[7]", "{a: 1}", '""', "", "2024-01-01")
REFUSED = object()


# ---- the ways to papermill -------------------------------------------------------------------------------------------


def by_file(text: str, folder: Path) -> Any:
    path = folder / "given.yaml"
    path.write_text(f"given: {text}\n")
    return papermill.iorw.read_yaml_file(str(path))["given"]


def by_yaml(text: str, folder: Path) -> Any:
    return yaml.load(f"given: {text}", papermill.iorw.NoDatesSafeLoader)["given"]


WAYS: dict[str, Callable[[str, Path], Any]] = {
    "-p": lambda text, folder: papermill.cli._resolve_type(text), "-r": lambda text, folder: text, "-y": by_yaml, "-f": by_file,
}


def given(notebook: str, **values: Any) -> dict[str, Any]:
    """The names of the notebook after papermill has written its own cell with these values below the parameters cell."""
    cell = next(cell for cell in nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", 4).cells if "parameters" in cell.metadata.get("tags", []))
    own = PythonTranslator.codify(values)
    names: dict[str, Any] = {"In": ["", cell.source, own]}
    for source in (cell.source, own):
        exec(source, names)
    return names


# ---- what each kind of parameter may mean ----------------------------------------------------------------------------


def text(value: Any) -> Any:
    return value if isinstance(value, str) else REFUSED


def some_text(value: Any) -> Any:
    return text(value) if value != "" else REFUSED


def one_of(*known: str) -> Callable[[Any], Any]:
    return lambda value: value if value in known and isinstance(value, str) else REFUSED


def number(value: Any) -> float | None:
    """The finite number that it means, if it means one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value) if math.isfinite(float(value)) else None
    except ValueError:
        return None


def whole(least: int, most: int) -> Callable[[Any], Any]:
    def meant(value: Any) -> Any:
        found = number(value)
        return int(found) if found is not None and found == int(found) and least <= found <= most else REFUSED

    return meant


def real(least: float, below: float) -> Callable[[Any], Any]:
    def meant(value: Any) -> Any:
        found = number(value)
        return found if found is not None and least <= found < below else REFUSED

    return meant


def yes_no(value: Any) -> Any:
    return {"true": True, "false": False}.get(str(value).lower(), REFUSED)


def names(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    return tuple(filter(None, (name.strip() for name in value.split(",")))) if isinstance(value, str) else REFUSED


def never(value: Any) -> Any:
    return REFUSED


MEANT: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("1_data", "dataset"): some_text, ("1_data", "image_size"): never,  # 7 pixels are too few
    ("2_train", "dataset"): some_text, ("2_train", "detector"): never, ("2_train", "backbone"): never, ("2_train", "recipe"): never,
    ("2_train", "pretrained"): some_text, ("2_train", "load_from"): text, ("2_train", "epochs"): whole(1, 10_000),
    ("2_train", "image_size"): never, ("2_train", "batch_size"): whole(1, 1024), ("2_train", "seed"): whole(0, 2**31 - 1),
    ("2_train", "device"): never, ("2_train", "devices"): whole(1, 64), ("2_train", "precision"): never, ("2_train", "tracker"): never,
    ("2_train", "checkpoint_minutes"): real(0, math.inf), ("2_train", "overrides"): one_of(""),
    ("2_train", "empty_images"): never, ("2_train", "remedies"): one_of(""),
    ("3_diagnose", "run"): text, ("3_diagnose", "other"): text, ("3_diagnose", "iou"): real(1e-9, 1),
    ("4_browse", "runs"): names, ("4_browse", "launch"): yes_no, ("4_browse", "port"): whole(1, 65_535),
    ("5_compare", "runs"): names, ("5_compare", "dataset"): text,
    ("6_remedy", "run"): text, ("6_remedy", "size"): never, ("6_remedy", "budget"): one_of(""), ("7_study", "study"): text,
}


def test_the_table_has_every_parameter_of_every_notebook_and_its_default() -> None:
    assert set(MODELS) <= {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert set(MEANT) == {(notebook, name) for notebook, model in MODELS.items() for name in model.model_fields}
    for notebook, model in MODELS.items():
        assert notebook_parameters(model, given(notebook)) == model(), "the defaults of the notebook are those of its model"
        written = [name for name in given(notebook) if name not in ("In", "__builtins__")]
        assert written == list(model.model_fields), notebook


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("notebook", "name"), MEANT, ids=lambda part: part)
def test_a_value_is_taken_for_what_it_means_or_refused_with_what_is_allowed(notebook: str, name: str, way: str, tmp_path: Path) -> None:
    for word in WORDS:
        value = WAYS[way](word, tmp_path)
        meant = MEANT[notebook, name](value)
        try:
            found = getattr(notebook_parameters(MODELS[notebook], given(notebook, **{name: value})), name)
        except ParameterError as error:
            assert meant is REFUSED, f"{name} = {value!r} means {meant!r}, but: {error}"
            assert f"- {name} = " in str(error) and "Meant for: " in str(error), error
        else:
            assert (type(found), found) == (type(meant), meant), f"{name} = {value!r} was taken as {found!r}"


@pytest.mark.parametrize("word", WORDS)
def test_the_reading_of_papermill_and_yaml_is_theirs(word: str) -> None:
    assert repr(as_papermill(word)) == repr(papermill.cli._resolve_type(word))
    if word not in ('""', "2024-01-01"):
        assert repr(as_yaml(word)) == repr(yaml.safe_load(word))


@pytest.mark.parametrize("name", ["tracker", "device", "recipe", "detector", "precision", "remedies", "overrides", "empty_images"])
def test_the_words_of_a_list_are_not_asked_for_as_a_name(name: str) -> None:
    """`-r tracker None` would be refused as `-p tracker None` is: the advice is for names alone."""
    with pytest.raises(ParameterError, match=f"- {name} = None: ") as caught:
        notebook_parameters(Parameters, given("2_train", **{name: None}))
    assert "papermill's -r" not in str(caught.value) and "Meant for: " in str(caught.value)


def test_what_may_be_given_is_said_for_no_name_and_for_names(datasets: Path) -> None:
    with pytest.raises(ParameterError, match="dataset = '': a name is needed. There are: .*007.*tree_crowns"):
        notebook_parameters(DataParameters, given("1_data", dataset=""))
    with pytest.raises(ParameterError, match="runs = .*names are needed, with commas between them, not a dict. There are: "):
        notebook_parameters(ComparisonParameters, given("5_compare", runs={"a": "b"}))


# ---- names that read as something else -------------------------------------------------------------------------------

NAMES = ("2024", "007", "1e5", "True", "None", "null", "-12", "3.50", "yes")


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    for name in NAMES:
        write_dataset(tmp_path / "data" / name)
        write_run(tmp_path / "outputs", data={"name": name, "hash": name.ljust(64, "0")})
    return tmp_path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("None", "null")])
@pytest.mark.parametrize("notebook", ["1_data", "2_train", "5_compare"])
def test_a_dataset_may_have_such_a_name(notebook: str, name: str, way: str, datasets: Path) -> None:
    values = given(notebook, dataset=WAYS[way](name, datasets))
    if values["dataset"] is True:  # YAML makes the same of yes and of True
        with pytest.raises(ParameterError, match="it may be True or yes"):
            notebook_parameters(MODELS[notebook], values)
    else:
        assert notebook_parameters(MODELS[notebook], values).dataset == name  # type: ignore[attr-defined]


def test_two_names_that_read_as_one_number_are_both_named(datasets: Path) -> None:
    write_dataset(datasets / "data" / "7")
    with pytest.raises(ParameterError, match=r"dataset = 7: .*it may be 007 or 7\. Give the name as text with papermill's -r"):
        notebook_parameters(DataParameters, given("1_data", dataset=7))
    assert notebook_parameters(DataParameters, given("1_data", dataset="007")).dataset == "007"


def test_a_number_that_is_no_name_is_refused_with_the_names(datasets: Path) -> None:
    for notebook in ("1_data", "2_train", "5_compare"):
        with pytest.raises(ParameterError, match=r"dataset = 2025: .*-r.*There are: -12, 007, 1e5, 2024"):
            notebook_parameters(MODELS[notebook], given(notebook, dataset=2025))


def test_a_sweep_file_names_a_dataset_by_a_number(datasets: Path) -> None:
    path = datasets / "sweep.yaml"
    path.write_text("dataset: [2024, 007, '1e5']\nbackbone: tf_efficientnet_lite0\nrecipe: finetune\nepochs: ['3', 1.0]\n")
    asked = asked_runs(read_grids(path))
    assert [(one.dataset, one.epochs) for one in asked] == [(name, epochs) for name in ("2024", "007", "1e5") for epochs in (3, 1)]


def test_a_run_may_have_a_name_that_reads_as_a_number(datasets: Path) -> None:
    run = write_run(datasets / "outputs", data={"name": "a", "hash": "a" * 64})
    run.folder.rename(run.folder.with_name("20261126"))
    assert notebook_parameters(DiagnosisParameters, given("3_diagnose", run=20261126)).run == "20261126"
    assert notebook_parameters(BrowseParameters, given("4_browse", runs=20261126)).runs == ("20261126",)
    assert notebook_parameters(BrowseParameters, given("4_browse", runs=["b", 20261126])).runs == ("b", "20261126")


def test_an_empty_text_is_called_empty() -> None:
    with pytest.raises(ParameterError, match="pretrained = '': it is empty. Meant for: imagenet, none, or the path"):
        check_parameters({"pretrained": ""})


def test_all_that_is_wrong_is_said_at_once_and_a_long_value_is_cut() -> None:
    with pytest.raises(ParameterError) as error:
        notebook_parameters(BrowseParameters, given("4_browse", runs=None, launch="no", port="abc", colour="red"))
    for said in ("runs = None: ", "launch = 'no': it is neither True nor False. Allowed: True, False", "port = 'abc': ",
                 "Allowed: a whole number from 1 to 65535", "colour: no such parameter. Allowed: runs, launch, port"):
        assert said in str(error.value)
    with pytest.raises(ParameterError) as error:
        notebook_parameters(BrowseParameters, given("4_browse", port="9" * 500))
    assert len(str(error.value)) < 400


# ---- through papermill itself ----------------------------------------------------------------------------------------


def run_papermill(notebook: str, folder: Path, *words: str) -> str:
    """What papermill says of a notebook that stops at its first cell."""
    command = [str(Path(sys.executable).with_name("papermill")), str(NOTEBOOKS / f"{notebook}.ipynb"), str(folder / "out.ipynb"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=NOTEBOOKS.parent)
    assert done.returncode, "it was not refused"
    return done.stderr


def test_papermill_itself_shows_the_words(datasets: Path) -> None:
    said = run_papermill("4_browse", datasets, "-p", "runs", "None", "-p", "launch", "no", "-p", "port", "abc")
    assert "ParameterError" in said and "TypeError" not in said
    assert "runs = None: " in said and "launch = 'no': it is neither True nor False" in said and "port = 'abc': " in said
    assert "iou = '0,5': write it with a point: 0.5" in run_papermill("3_diagnose", datasets, "-p", "iou", "0,5")
