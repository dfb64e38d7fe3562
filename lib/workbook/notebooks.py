"""Notebooks: parameters in, page out. What the first cell asks, papermill's execution, and the HTML that people without Jupyter read."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbook.ending import end_quickly
from workbook.errors import RunError
from workbook.files import PROJECT, write_text
from workbook.parameters import Model, check
from workbook.progress import in_notebook

if TYPE_CHECKING:  # the command line does not load matplotlib
    from matplotlib.figure import Figure

NOTEBOOKS = PROJECT / "notebooks"


def notebook_parameters(model: type[Model], namespace: Mapping[str, Any]) -> Model:
    """The checked parameters of the notebook that calls this with `globals()`. Raises ParameterError with all that is wrong.

    papermill runs a notebook even when it is given a name that the notebook does not have, and only warns. So the names are read
    from its parameters cell, which it always opens with `# Parameters`, and an unknown one is refused here.
    """
    if in_notebook():
        end_quickly()
    known = {name: namespace[name] for name in model.model_fields if name in namespace}
    return check(model, {**injected(namespace.get("In", [])), **known})


def injected(cells: Sequence[str]) -> dict[str, str]:
    """Name → literal, as papermill wrote them into its own cell (`# Parameters`). `cells` is IPython's `In`."""
    found: dict[str, str] = {}
    for source in cells:
        if source.startswith("# Parameters\n"):
            for statement in ast.parse(source).body:
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    found[statement.targets[0].id] = ast.unparse(statement.value)
    return found


def execute_notebook(name: str, output: Path, parameters: Mapping[str, Any]) -> Path:
    """Run `notebooks/<name>.ipynb` with these parameters, write it to `output` (.ipynb) and its HTML beside; returns the HTML.

    Paths in the parameters mean what they mean to the caller: the notebook runs in the caller's folder.
    Raises RunError with the words of the cell that failed, and where the notebook written so far is, or when its kernel does not start.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    import workbook.kernel  # noqa: F401  papermill's engine: the notebook runs in this very Python

    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            NOTEBOOKS / f"{name}.ipynb", output, parameters=dict(parameters), cwd=Path.cwd(), progress_bar=False, log_output=False
        )
    except PapermillExecutionError as error:
        raise RunError(f"{error.evalue}\nThe notebook so far: {output}") from error
    except RuntimeError as error:  # nbclient's, of a kernel that does not come up
        raise RunError(f"the kernel of the notebook did not start ({error}): `{sys.executable} -m ipykernel_launcher` says why. "
                       "`make setup` mends the environment. What was trained or diagnosed is done, and the same call goes on") from error
    return write_html(output)


def write_html(notebook: Path) -> Path:
    """The executed notebook as one HTML file beside it, pictures inside; needs no network to be read."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", exclude_input_prompt=True, exclude_output_prompt=True)
    page, _ = exporter.from_filename(str(notebook))
    path = notebook.with_suffix(".html")
    write_text(path, page)
    return path


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Save the figure as `<folder>/figures/<name>.png`, beside the run's other pictures; a notebook shows that very picture.

    The figure is closed: Jupyter would draw an open one again at the end of the cell, for as long as the saving took.
    """
    import matplotlib.pyplot as plt

    path = folder / "figures" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    # at level 3 a page of photos takes half the time of 6, the default, and a tenth more room
    figure.savefig(path, bbox_inches="tight", pil_kwargs={"compress_level": 3})
    if in_notebook():
        _show_picture(path, figure.dpi)
    plt.close(figure)


def _show_picture(path: Path, dpi: float) -> None:
    """Show a saved picture in the size that it has at so many pixels an inch."""
    from IPython.display import Image, display
    from PIL import Image as Picture

    with Picture.open(path) as picture:
        display(Image(filename=str(path), width=round(picture.width * dpi / picture.info["dpi"][0])))


def save_text(text: str, folder: Path, name: str) -> str:
    """Save the Markdown as `<folder>/<name>.md`, and give it back to be shown."""
    write_text(folder / f"{name}.md", text + "\n")
    return text
