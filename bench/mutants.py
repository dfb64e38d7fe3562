"""How many small faults the tests notice: the share of sampled mutants that make a test fail.

    python -m bench.mutants [how many] [seed]        # 200 mutants take about half an hour on 2 cores

A mutant is the code with one expression changed: a comparison (< for <=, == for !=), an operator (+ for -, * for /), `and` for `or`, a
number by one, a condition turned round, True for False, min for max. They are drawn by chance from diagnosis/, evaluation/, and loop.py
and train.py of training/. Each runs in a process of its own, forked after torch and mmdet are loaded, against the tests that mirror its
file and those that use it most; a test that fails, or that does not end in time, has caught it. Those that are not caught are printed.
"""

from __future__ import annotations

import ast
import importlib.machinery
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib" / "workbook"
SECONDS = 420
# file or folder of the package → the tests that must notice, the quickest first
TESTS = {
    "evaluation": ["evaluation"],
    "models/assigners.py": ["diagnosis/test_assignable.py"],
    "diagnosis/parameters.py": ["test_parameters.py"],
    "diagnosis/probing.py": ["diagnosis/test_probing.py", "diagnosis/test_trace.py"],
    "diagnosis/families/dense.py": ["diagnosis/test_probing.py", "diagnosis/test_trace.py", "diagnosis/test_waterfall.py"],
    "diagnosis/assignable.py": ["diagnosis/test_assignable.py", "diagnosis/test_trace.py"],
    "diagnosis/false_positives.py": ["diagnosis/test_false_positives.py"],
    "diagnosis/suspects.py": ["diagnosis/test_suspects.py"],
    "diagnosis/store.py": ["diagnosis/test_store.py", "views/diagnosis/test_summary.py"],
    "diagnosis/views.py": ["diagnosis/test_views.py"],
    "diagnosis": ["diagnosis/test_oracle.py", "diagnosis/test_trace.py", "diagnosis/test_waterfall.py", "diagnosis/test_store.py",
                  "views/diagnosis/test_summary.py", "diagnosis/test_plugins.py"],
    "training/train.py": ["training/test_train.py", "training/test_resume.py"],
    "training/loop.py": ["training/test_train.py", "training/test_against_stock.py", "training/test_resume.py"],
}
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Add: ast.Sub,
    ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "argmax": "argmin", "argmin": "argmax", "maximum": "minimum",
         "minimum": "maximum", "ones": "zeros", "zeros": "ones"}


@dataclass(frozen=True)
class Mutant:
    """One change: the file, the line, what is written there instead."""

    path: Path
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.before}  →  {self.after}"


def sites(path: Path) -> list[tuple[Path, int, int]]:
    """Every change of a file: the file, the number of the node, and which of its changes."""
    nodes = _counted_nodes(ast.parse(path.read_text()))
    return [(path, number, which) for number, node in enumerate(nodes) for which, _ in enumerate(_changes(node))]


def mutant(path: Path, number: int, which: int) -> Mutant:
    """The file with that one change."""
    tree = ast.parse(path.read_text())
    node: Any = _counted_nodes(tree)[number]
    before = ast.unparse(node)
    list(_changes(node))[which](node)
    return Mutant(path, node.lineno, before[:70], ast.unparse(node)[:70], ast.unparse(ast.fix_missing_locations(tree)))


def _counted_nodes(tree: ast.AST) -> list[ast.AST]:
    skipped = {id(inner) for node in ast.walk(tree) for part in _uncounted(node) for inner in ast.walk(part)}
    return [node for node in ast.walk(tree) if id(node) not in skipped]


def _uncounted(node: ast.AST) -> list[ast.AST]:
    """What of a node is no computation, or computes the same when it is changed.

    The first are annotations, decorators, words and the messages of errors. The second: an empty array has neither zeros nor ones; an
    `axis` of -1 is mostly that of 1; `strict` matters where lengths differ, which no caller lets happen; `order` is a mere rank; the -1
    that fills an array or stands where nothing was found is asked only whether it is below 0, and `reshape(-1)` takes any such number.
    """
    parts: list[Any] = [getattr(node, name, None) for name in ("annotation", "returns")]
    parts += getattr(node, "decorator_list", [])
    if isinstance(node, ast.Call):
        parts += [keyword.value for keyword in node.keywords if keyword.arg in ("axis", "strict", "order")]
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("full", "fillna", "where", "reshape"):
            parts += [argument for argument in node.args if ast.unparse(argument) == "-1"]
        if _is_empty_array(node):
            parts += [node.func, *node.args]
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
        parts.append(node)
    return [part for part in parts if part is not None]


def _is_empty_array(call: ast.Call) -> bool:
    """`np.zeros(0)`, `np.ones((0, 4))`."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr in ("zeros", "ones") and call.args):
        return False
    shape = call.args[0].elts[0] if isinstance(call.args[0], ast.Tuple) else call.args[0]
    return isinstance(shape, ast.Constant) and shape.value == 0


def _changes(node: ast.AST) -> Iterator[Any]:
    """Functions that each change the node in place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield lambda twin: twin.ops.__setitem__(0, SWAPS[type(twin.ops[0])]())
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield lambda twin: setattr(twin, "op", SWAPS[type(twin.op)]())
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda twin: setattr(twin, "value", not twin.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield lambda twin: setattr(twin, "value", twin.value + 1 if isinstance(twin.value, int) else twin.value * 1.5 + 0.1)
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield lambda twin: setattr(twin, "test", ast.UnaryOp(ast.Not(), twin.test))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield lambda twin: setattr(twin, "op", ast.UAdd() if isinstance(twin.op, ast.USub) else ast.Not()) or _unwrap(twin)
    if isinstance(node, ast.Attribute) and node.attr in CALLS:
        yield lambda twin: setattr(twin, "attr", CALLS[twin.attr])
    if isinstance(node, ast.Name) and node.id in CALLS:
        yield lambda twin: setattr(twin, "id", CALLS[twin.id])


def _unwrap(twin: Any) -> None:
    """`not x` and `~x` lose their operator: `not not x`, which is the truth of x."""
    if isinstance(twin.op, ast.Not):
        twin.operand = ast.UnaryOp(ast.Not(), twin.operand)


def tests_of(path: Path) -> list[str]:
    """The tests that must notice a fault of this file."""
    name = str(path.relative_to(PACKAGE))
    key = max((key for key in TESTS if name == key or name.startswith(f"{key}/")), key=len)
    return [str(ROOT / "tests" / test) for test in TESTS[key]]


def _one_of_each(drawn: Iterable[Mutant]) -> list[Path]:
    """One file for each group of tests."""
    return list({tuple(tests_of(one.path)): one.path for one in drawn}.values())


def files() -> list[Path]:
    """diagnosis/, evaluation/, training/loop.py and train.py."""
    rooms = [path for room in ("diagnosis", "evaluation") for path in sorted((PACKAGE / room).rglob("*.py"))]
    return [*rooms, PACKAGE / "training" / "loop.py", PACKAGE / "training" / "train.py"]


def is_caught(mutant: Mutant) -> bool:
    """Whether a test fails on it. Runs in a forked process, in which the package is loaded anew."""
    child = os.fork()
    if not child:
        _run_tests(mutant)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.2)
    os.killpg(child, 9)
    os.waitpid(child, 0)
    return True


def _run_tests(mutant: Mutant) -> None:
    import pytest

    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    own = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: Any, name: str) -> Any:
        if loader.path == str(mutant.path):
            return compile(mutant.source, loader.path, "exec")
        return own(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    code = 1
    try:
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests_of(mutant.path)])
    finally:
        os._exit(int(code))


def main(count: int = 200, seed: int = 0) -> None:
    """Sample, run, and print the share that was caught and those that were not."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    import hotcoco  # noqa: F401  loaded before the forks, so that each has it
    import matplotlib.pyplot  # noqa: F401
    import mmdet.models  # noqa: F401
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import timm  # noqa: F401
    import torch

    torch.set_num_threads(1)
    assert not [name for name in sys.modules if name.startswith("workbook")], "the package must be loaded by each child"
    every = [site for path in files() for site in sites(path)]
    drawn = [mutant(*site) for site in random.Random(seed).sample(every, min(count, len(every)))]
    if failing := [str(path.relative_to(ROOT)) for path in _one_of_each(drawn) if is_caught(Mutant(path, 0, "", "", path.read_text()))]:
        sys.exit(f"the tests fail, or take more than {SECONDS} s, on the code as it is, so they say nothing of: {', '.join(failing)}")
    started = time.monotonic()
    caught = 0
    print(f"{len(every)} mutants, {len(drawn)} drawn", flush=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as workers:
        for number, (one, is_one) in enumerate(zip(drawn, workers.map(is_caught, drawn), strict=True), start=1):
            caught += is_one
            if not is_one:
                print(f"not caught  {one}", flush=True)
            if number % 20 == 0:
                print(f"{number} of {len(drawn)}: {caught / number:.0%} caught, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{caught} of {len(drawn)} caught: {caught / len(drawn):.1%}, seed {seed}, {(time.monotonic() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
