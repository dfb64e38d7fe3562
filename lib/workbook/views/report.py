"""Notebooks executed by papermill, and their HTML: the pages that people without Jupyter read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from workbook.runs.folder import RunError, write_text

NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"


def execute_notebook(name: str, output: Path, parameters: Mapping[str, Any]) -> Path:
    """Run `notebooks/<name>.ipynb` with these parameters, write it to `output` (.ipynb) and its HTML beside; returns the HTML.

    Paths in the parameters mean what they mean to the caller: the notebook runs in the caller's folder.
    Raises RunError with the words of the cell that failed, and where the notebook written so far is.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            NOTEBOOKS / f"{name}.ipynb", output, parameters=dict(parameters), cwd=Path.cwd(), progress_bar=False, log_output=False
        )
    except PapermillExecutionError as error:
        raise RunError(f"{error.evalue}\nThe notebook so far: {output}") from error
    return write_html(output)


def write_html(notebook: Path) -> Path:
    """The executed notebook as one HTML file beside it, pictures inside; needs no network to be read."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(mathjax_url="", require_js_url="", exclude_input_prompt=True, exclude_output_prompt=True)
    page, _ = exporter.from_filename(str(notebook))
    path = notebook.with_suffix(".html")
    write_text(path, page)
    return path


def keep_figure(figure: Figure, folder: Path, name: str) -> None:
    """Save the figure as `<folder>/figures/<name>.png`, beside the run's other pictures."""
    (folder / "figures").mkdir(exist_ok=True)
    # at level 3 a page of photos takes half the time of 6, the default, and a tenth more room
    figure.savefig(folder / "figures" / f"{name}.png", bbox_inches="tight", pil_kwargs={"compress_level": 3})


def keep_text(text: str, folder: Path, name: str) -> str:
    """Save the Markdown as `<folder>/<name>.md`, and give it back to be shown."""
    write_text(folder / f"{name}.md", text + "\n")
    return text
