"""The way of the data is one direction: a module imports only from rooms to its left, from its own room, and what all share."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lib" / "workbook"
# evaluation knows boxes and scores alone, so it stands first; training measures each epoch with it
ROOMS = ("evaluation", "data", "models", "runs", "remedies", "training", "diagnosis", "studies", "proofs", "views", "browse", "sweep",
         "search")
# small and free of the rooms: every room may use them
SHARED = ("errors", "files", "cores", "progress", "terminal", "parameters", "kernel", "notebooks", "plugins", "words",
          "ending", "partial", "process")
OUTSIDE = ("cli", "cli_data", "cli_options", "cli_results", "__main__")  # the command calls the rooms; no room calls it


def imported(source: str, module: str = "workbook.x") -> set[str]:
    """Every module of the package that the source imports, wherever in the file: `workbook.data.checks`, ..."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(module.split(".")[: -node.level]) if node.level else ""
            base = ".".join(part for part in (start, node.module) if part)
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "workbook" else {base}
    return {name for name in found if name == "workbook" or name.startswith("workbook.")}


def forbidden(path: str, source: str) -> set[str]:
    """What a module at `path`, relative to the package, imports though it may not."""
    parts = path.removesuffix(".py").split("/")
    own = parts[0]
    if own in OUTSIDE:
        return set()
    left = ROOMS[: ROOMS.index(own) + 1] if own in ROOMS else ()
    names = imported(source, ".".join(["workbook", *parts]))
    return {name for name in names if room(name) not in (*left, *SHARED, "")}


def room(name: str) -> str:
    """`data` for `workbook.data.checks`; the module itself for one that stands in the package's own folder."""
    return (name.split(".") + [""])[1]


FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_a_module_imports_only_from_its_left(path):
    assert forbidden(path, (PACKAGE / path).read_text()) == set()


def test_every_folder_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == set(ROOMS)


def test_the_package_knows_neither_tests_nor_notebooks():
    for path in FILES:
        tops = {node.module.split(".")[0] for node in ast.walk(ast.parse((PACKAGE / path).read_text()))
                if isinstance(node, ast.ImportFrom) and node.module}
        assert not tops & {"tests", "notebooks", "bench", "scenes"}, path


@pytest.mark.parametrize(
    ("path", "source"),
    [("data/checks.py", "from workbook.models.config import build_config"), ("data/checks.py", "def f():\n    import workbook.views.style"),
     ("models/weights.py", "from workbook import training"), ("models/weights.py", "from ..training.train import train"),
     ("evaluation/coco_metrics.py", "from workbook.cli import app"), ("files.py", "from workbook.data.catalog import Dataset"),
     ("data/checks.py", "from workbook.unheard import of"),
     ("training/train.py", "if True:\n    from workbook.diagnosis import trace")],
)
def test_the_rule_sees_a_step_to_the_right(path, source):
    assert forbidden(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [("views/style.py", "from workbook.diagnosis.trace import trace\nfrom workbook.runs.folder import Run"),
     ("data/checks.py", "from .reading import Coco"),
     ("training/train.py", "from workbook import models, runs\nimport numpy"), ("cli.py", "from workbook.views import tables")],
)
def test_the_rule_allows_a_step_to_the_left(path, source):
    assert not forbidden(path, source)
