"""The form of every notebook: a question, parameters, one thing a cell introduced by a sentence, and nothing stored."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
LONGEST = 10
ONE_THING = 3  # statements besides imports: prepare, call, show


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def tree(cell):
    """The cell as Python; a trailing `;` hides the repr of a plot."""
    return ast.parse(cell.source)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_parameters(cell):
    return "parameters" in cell.metadata.get("tags", [])


def own_statements(cell):
    return [node for node in tree(cell).body if not isinstance(node, ast.Import | ast.ImportFrom)]


def names_in(nodes):
    return {inner.id for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def problems(notebook):
    """What breaks the rules, in words; an empty list for a notebook as it should be."""
    found = []
    cells = notebook.cells
    first = cells[0]
    if first.cell_type != "markdown" or not re.match(r"# \d · .+", first.source) or "?" not in first.source:
        found.append("the first cell is no title with a question")
    if not is_parameters(cells[1]) or sum(is_parameters(cell) for cell in cells if cell.cell_type == "code") != 1:
        found.append("the second cell is not the only parameters cell")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernel is not python3")
    for cell in code(notebook):
        if cell.outputs or cell.execution_count is not None:
            found.append(f"stored output: {cell.source[:40]!r}")
        if re.search(r"^\s*[!%]", cell.source, re.MULTILINE):
            found.append(f"a shell or magic line: {cell.source[:40]!r}")
            return found  # no Python to look at
        if len(cell.source.splitlines()) > LONGEST and not is_parameters(cell):
            found.append(f"more than {LONGEST} lines: {cell.source[:40]!r}")
        found += [f"{type(node).__name__}: {cell.source[:40]!r}" for node in ast.walk(tree(cell))
                  if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.For | ast.While)]
        if not is_parameters(cell) and cell is not checking(notebook) and len(own_statements(cell)) > ONE_THING:
            found.append(f"more than one thing: {cell.source[:40]!r}")
    return found + parameter_problems(notebook) + unintroduced(notebook)


def checking(notebook):
    """The first cell after the parameters that does something: it checks them, with a statement or two each."""
    return next((cell for cell in code(notebook)[1:] if own_statements(cell)), None)


def parameter_problems(notebook):
    """Plain literals that papermill can replace, and checked by the first cell that does something."""
    cell = code(notebook)[0]
    found, names = [], set()
    for statement in tree(cell).body:
        if not isinstance(statement, ast.Assign):
            found.append(f"parameters: not a plain assignment: {ast.unparse(statement)}")
            continue
        names |= names_in(statement.targets)
        try:
            ast.literal_eval(statement.value)
        except ValueError:
            found.append(f"parameters: not a literal: {ast.unparse(statement)}")
    working = checking(notebook)
    if working is None or not names_in(own_statements(working)) & (names | {"globals"}):
        found.append("the first cell after the parameters does not check them")
    return found


def unintroduced(notebook):
    """Cells that show something without a sentence before them; a cell of imports needs none and may stand between."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown" or not is_imports(cell)]
    pairs = zip(cells, cells[1:], strict=False)
    return [f"no sentence before {cell.source[:40]!r}" for before, cell in pairs
            if cell.cell_type == "code" and not is_parameters(cell) and before.cell_type != "markdown"]


def is_imports(cell):
    """Imports, and at most one line that sets something up."""
    return not is_parameters(cell) and isinstance(tree(cell).body[0], ast.Import | ast.ImportFrom) and not any(
        isinstance(node, ast.Assign) for node in own_statements(cell)) and len(own_statements(cell)) <= 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_keeps_the_rules(path):
    assert problems(read(path)) == []


def test_there_are_notebooks_to_look_at():
    assert {"1_data.ipynb", "2_train.ipynb", "3_diagnose.ipynb", "5_compare.ipynb"} <= {path.name for path in NOTEBOOKS}


def good():
    new = nbformat.v4
    notebook = new.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    parameters = new.new_code_cell('name = "x"  # which', metadata={"tags": ["parameters"]})
    notebook.cells = [new.new_markdown_cell("# 9 · Test: does it?"), parameters, new.new_markdown_cell("Look."),
                      new.new_code_cell("from workbook.runs import folder\n\nrun = folder.open_run(name)"), new.new_markdown_cell("See."),
                      new.new_code_cell("run.log()")]
    return notebook


def test_a_good_notebook_has_no_problems():
    assert problems(good()) == []


@pytest.mark.parametrize(
    ("cell", "source", "said"),
    [(0, "# 9 · Test", "no title with a question"), (1, "name = some()", "not a literal"), (1, "name: str = 'x'", "plain assignment"),
     (3, "print('hello')", "does not check them"), (5, "def f():\n    pass", "FunctionDef"), (5, "x = lambda: 1", "Lambda"),
     (5, "for p in run.folder.iterdir():\n    print(p)", "For"), (5, "%pip install x", "magic"), (5, "!ls", "magic"),
     (5, "\n".join("a" * 11), "more than 10 lines"), (5, "a = 1\nb = 2\nc = 3\nd = 4", "more than one thing"), (4, "", "no sentence")],
)
def test_every_rule_is_seen_when_it_is_broken(cell, source, said):
    notebook = good()
    if source:
        notebook.cells[cell].source = source
    else:
        del notebook.cells[cell]
    assert any(said in problem for problem in problems(notebook))


def test_stored_output_and_a_missing_tag_are_seen():
    notebook = good()
    notebook.cells[5].execution_count = 3
    assert any("stored output" in problem for problem in problems(notebook))
    notebook = good()
    notebook.cells[1].metadata.tags = []
    assert any("parameters cell" in problem for problem in problems(notebook))
