"""The kernel of the notebooks is the Python that runs papermill, whatever kernels Jupyter finds first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest

import workbook.kernel  # noqa: F401  as the entry point does it
from workbook import notebooks
from workbook.errors import RunError
from workbook.notebooks import execute_notebook

PROJECT = notebooks.PROJECT


@pytest.fixture(autouse=True)
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel python3 on JUPYTER_PATH that cannot start, one called other that can, and a notebook that says where it runs."""
    own = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    for name, argv, env in (("python3", ["/bin/false", "{connection_file}"], {}), ("other", own, {"KERNEL": "other"})):
        folder = tmp_path / "jupyter" / "kernels" / name
        folder.mkdir(parents=True)
        spec = {"argv": argv, "env": env, "display_name": name, "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [nbformat.v4.new_code_cell("import os, sys\nprint(sys.executable, os.environ.get('KERNEL'))")]
    nbformat.write(notebook, tmp_path / "where.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    return tmp_path


def said(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[0].outputs[0].text.strip()


def test_the_command_runs_its_notebooks_in_its_own_python(foreign: Path) -> None:
    execute_notebook("where", foreign / "out.ipynb", {})
    assert said(foreign / "out.ipynb") == f"{sys.executable} None"


def test_so_does_a_papermill_that_a_user_calls(foreign: Path) -> None:
    """The entry point is read from pyproject.toml, since the package may have been installed before it was there."""
    points = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    about = foreign / "site" / "workbook_of_a_test-1.dist-info"
    about.mkdir(parents=True)
    lines = [f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in named.items()) for group, named in points.items()]
    (about / "entry_points.txt").write_text("".join(lines))
    path = os.pathsep.join([str(foreign / "site"), str(PROJECT / "lib"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "papermill", str(foreign / "where.ipynb"), str(foreign / "out.ipynb")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert said(foreign / "out.ipynb") == f"{sys.executable} None"


def test_a_kernel_of_another_name_is_the_one_that_is_found(foreign: Path) -> None:
    papermill.execute_notebook(str(foreign / "where.ipynb"), str(foreign / "out.ipynb"), kernel_name="other", progress_bar=False)
    assert said(foreign / "out.ipynb") == f"{sys.executable} other"


def test_a_kernel_that_does_not_start_is_said_in_words(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (foreign / "ipykernel_launcher.py").write_text("raise SystemExit(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(foreign))
    with pytest.raises(RunError, match="the kernel of the notebook did not start.*ipykernel_launcher` says why"):
        execute_notebook("where", foreign / "out.ipynb", {})
