"""The way of the data is one direction: a module imports only from rooms to its left, from its own room, and what all share."""

import ast
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[1] / "lib"
ROOMS = ("data", "models", "evaluation", "training", "diagnosis", "views")  # training measures each epoch with evaluation
SHARED = ("runs", "claims", "progress", "notebook")  # small and free of the rooms: every room may use them
OUTSIDE = ("cli", "sweep", "sweep_command", "sweep_jobs", "sweep_pace", "sweep_ray", "sweep_table")
# they call the rooms; no room calls them


def imported(source: str, module: str = "lib.x") -> set[str]:
    """Every module of lib that the source imports, wherever in the file: `lib.data.coco`, ..."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (start, node.module) if part)
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "lib" else {base}
    return {name for name in found if name == "lib" or name.startswith("lib.")}


def forbidden(path: str, source: str) -> set[str]:
    """What a module at `path`, relative to lib/, imports though it may not."""
    parts = path.removesuffix(".py").split("/")
    own = parts[0]
    if own in OUTSIDE:
        return set()
    left = ROOMS[: ROOMS.index(own) + 1] if own in ROOMS else ()
    names = imported(source, ".".join(["lib", *parts]))
    return {name for name in names if room(name) not in (*left, *SHARED, "")}


def room(name: str) -> str:
    """`data` for `lib.data.coco`; the module itself for one that stands in lib/."""
    return (name.split(".") + [""])[1]


FILES = sorted(str(path.relative_to(LIB)) for path in LIB.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_a_module_imports_only_from_its_left(path):
    assert forbidden(path, (LIB / path).read_text()) == set()


def test_every_folder_is_a_room():
    folders = {path.name for path in LIB.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= set(ROOMS)
    assert {"data", "models", "training", "evaluation", "views"} <= folders


def test_lib_knows_neither_tests_nor_notebooks():
    for path in FILES:
        tops = {node.module.split(".")[0] for node in ast.walk(ast.parse((LIB / path).read_text()))
                if isinstance(node, ast.ImportFrom) and node.module}
        assert not tops & {"tests", "notebooks", "bench", "scenes"}, path


@pytest.mark.parametrize(
    ("path", "source"),
    [("data/coco.py", "from lib.models.config import build_config"), ("data/coco.py", "def f():\n    import lib.views.plots"),
     ("models/weights.py", "from lib import training"), ("models/weights.py", "from ..training.train import train"),
     ("evaluation/coco_metrics.py", "from lib.cli import app"), ("runs.py", "from lib.data.catalog import Dataset"),
     ("data/coco.py", "from lib.unheard import of"),
     ("training/train.py", "if True:\n    from lib.diagnosis import trace")],
)
def test_the_rule_sees_a_step_to_the_right(path, source):
    assert forbidden(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [("views/plots.py", "from lib.diagnosis.trace import trace\nfrom lib.runs import Run"), ("data/coco.py", "from .reading import Coco"),
     ("training/train.py", "from lib import models, runs\nimport numpy"), ("cli.py", "from lib.views import tables")],
)
def test_the_rule_allows_a_step_to_the_left(path, source):
    assert not forbidden(path, source)
