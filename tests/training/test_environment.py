"""One list of pins, the conda door, and what `make` says on a machine that lacks something."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
PINS = [Requirement(line) for line in LINES if line]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
PYTHONS = [SpecifierSet(PROJECT["requires-python"]).contains(f"3.{minor}") for minor in range(20)]
UNIX = {"os_name": "posix", "implementation_name": "cpython", "platform_python_implementation": "CPython"}
LINUX = {**UNIX, "sys_platform": "linux", "platform_machine": "x86_64"}
MAC = {**UNIX, "sys_platform": "darwin", "platform_machine": "arm64"}
PLATFORMS = [
    {**system, "python_version": python, "python_full_version": f"{python}.9"}
    for system in (LINUX, MAC)
    for python in ("3.11", "3.12")
]


def pinned(environment: dict[str, str]) -> dict[str, str]:
    """Name and version of every package that requirements.txt installs there."""
    valid = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(environment)]
    names = [canonicalize_name(pin.name) for pin in valid]
    assert len(names) == len(set(names)), "a package is pinned twice"
    return {name: str(pin.specifier).removeprefix("==") for name, pin in zip(names, valid, strict=True)}


# ---- the three files agree -------------------------------------------------------------------------------------------


def test_every_line_of_the_list_is_one_exact_version():
    inexact = [str(pin) for pin in PINS if pin.url or pin.extras or not re.fullmatch(r"==[^,*]+", str(pin.specifier))]
    assert inexact == []


@pytest.mark.parametrize("environment", PLATFORMS, ids=lambda e: f"{e['sys_platform']}-{e['python_version']}")
def test_what_pyproject_asks_for_is_pinned_to_the_same_version(environment):
    extras = [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
    asked = [Requirement(text) for text in [*PROJECT["dependencies"], *extras]]
    wanted = [need for need in asked if need.marker is None or need.marker.evaluate(environment)]
    found = pinned(environment)
    wrong = [str(need) for need in wanted if str(need.specifier) != f"=={found.get(canonicalize_name(need.name))}"]
    assert wrong == [], "compile requirements.txt again: uv pip compile --universal --all-extras pyproject.toml -o requirements.txt"


def test_the_list_serves_every_python_of_the_project():
    assert [minor for minor in range(20) if PYTHONS[minor]] == [11, 12]
    for environment in PLATFORMS:
        assert "torch" in pinned(environment)


def test_the_conda_door_brings_an_allowed_python_and_the_tools_and_no_second_pin():
    # conda's python=3.11 is ==3.11.* elsewhere
    needs = [Requirement(re.sub(r"(?<![=<>!~])=([\d.]+)$", r"==\1.*", text)) for text in CONDA["dependencies"]]
    assert {need.name for need in needs} == {"python", "cxx-compiler", "make", "uv"}
    python = next(need.specifier for need in needs if need.name == "python")
    assert any(python.contains(f"3.{minor}.0") for minor in range(20))
    assert all(PYTHONS[minor] for minor in range(20) if python.contains(f"3.{minor}.0"))


def test_conda_and_make_get_a_uv_that_pyproject_accepts():
    accepted = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["required-version"])
    own = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert own and accepted.contains(own[1])
    assert f"uv{accepted}" in CONDA["dependencies"]


def test_the_build_backend_is_the_pinned_one():
    # the project is installed without a build environment of its own, by what requirements.txt brings
    backend = Requirement(*tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    assert backend.specifier == SpecifierSet(f"=={pinned(PLATFORMS[0])[backend.name]}")


def test_what_is_installed_here_is_what_is_pinned():
    wrong = {}
    for name, version in pinned(dict(default_environment())).items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found == "missing" or Version(found) != Version(version):
            wrong[name] = f"{found}, pinned {version}"
    assert wrong == {}, "run `make setup`"


def test_the_notebooks_kernel_is_this_python():
    jupyter = Path(sys.executable).with_name("jupyter")
    listed = subprocess.run([jupyter, "kernelspec", "list", "--json"], stdout=subprocess.PIPE, check=True).stdout
    kernel = json.loads(listed)["kernelspecs"]["python3"]
    assert Path(kernel["resource_dir"]).is_relative_to(sys.prefix)
    assert kernel["spec"]["argv"][0] in ("python", sys.executable)  # jupyter takes its own Python for "python"


# ---- make on other machines ------------------------------------------------------------------------------------------

TOOLS = ("bash", "make", "cat", "nproc", "awk", "touch")


@pytest.fixture
def machine(tmp_path):
    """A copy of what the set-up reads, on a machine that has only `TOOLS` and what a test adds to `bin/`."""
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def add(machine: Path, program: str, script: str) -> None:
    path = machine / "bin" / program
    path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
    path.chmod(0o755)


def make(machine: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine / "bin"), "HOME": str(machine), **environment}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=machine, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("target", ["setup", "demo", "test"])
def test_a_missing_compiler_is_named_at_once(machine, target):
    add(machine, "python3.11", "echo 3.11")
    answer = make(machine, target)
    assert answer.returncode != 0
    assert "no working C++ compiler (c++)" in answer.stderr and "apt install g++" in answer.stderr
    assert not (machine / ".venv").exists() and not (machine / ".uv").exists()


def test_a_compiler_without_its_library_counts_as_missing(machine):
    add(machine, "c++", "exit 1")
    assert "no working C++ compiler" in make(machine, "setup").stderr


@pytest.mark.parametrize(
    ("python", "said"),
    [("echo 3.9", "python3 is 3.9"), ("echo 3.13", "python3 is 3.13"), ("exit 127", "none that runs"),
     ("echo '3.11 without its headers (Python.h)'", "python3 is 3.11 without its headers")],
)
def test_a_wrong_python_is_named_at_once(machine, python, said):
    add(machine, "c++", "exit 0")
    add(machine, "python3", python)
    answer = make(machine, "setup")
    assert answer.returncode != 0
    assert "Python 3.11 or 3.12" in answer.stderr and said in answer.stderr and "PYTHON=" in answer.stderr
    assert not (machine / ".venv").exists() and not (machine / ".uv").exists()


def test_a_python_that_does_not_run_is_passed_over(machine):
    add(machine, "c++", "exit 0")
    add(machine, "python3.11", "echo 'pyenv: command not found' >&2; exit 127")
    add(machine, "python3.12", "[[ $2 == *venv* || $1 == -m ]] && exit 1; echo 3.12")
    assert "cannot make environments" in make(machine, "setup").stderr  # came as far as making one with 3.12


def test_a_second_call_does_nothing(machine):
    (machine / ".venv").mkdir()
    (machine / ".venv" / ".workbook-is-set-up").write_text(f"{machine}\n")
    assert make(machine, "setup").stdout == "make: Nothing to be done for 'setup'.\n"
    assert make(machine, "setup", "-q").returncode == 0


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml"])
def test_changed_pins_are_installed(machine, changed):
    (machine / ".venv").mkdir()
    stamp = machine / ".venv" / ".workbook-is-set-up"
    stamp.write_text(f"{machine}\n")
    os.utime(stamp, (0, 0))
    for name in ("requirements.txt", "pyproject.toml"):
        os.utime(machine / name, (1, 1) if name == changed else (0, 0))
    assert make(machine, "setup", "-q").returncode == 1


def test_a_copy_of_the_folder_is_set_up_anew(machine):
    (machine / ".venv").mkdir()
    (machine / ".venv" / ".workbook-is-set-up").write_text("/somewhere/else\n")
    assert make(machine, "setup", "-q").returncode == 1


@pytest.mark.parametrize(("name", "own"), [("workbook", True), ("base", False)])
def test_an_active_conda_environment_is_used_unless_it_is_base(machine, name, own):
    conda = machine / "conda"
    conda.mkdir()
    (conda / ".workbook-is-set-up").write_text(f"{machine}\n")
    answer = make(machine, "setup", "-q", CONDA_PREFIX=str(conda), CONDA_DEFAULT_ENV=name)
    assert (answer.returncode == 0) == own  # set up there already, or not in .venv


def test_help_is_the_default_and_names_every_target(machine):
    text = make(machine).stdout
    for target in ("help", "setup", "demo", "test", "lint", "lab", "clean"):
        assert f"make {target}" in text
