"""The progress bar of long work: with time left, and never a page of stale lines in a notebook or a log file."""

from __future__ import annotations

import io
import sys
from typing import Any

from tqdm import tqdm


class _Cell(io.StringIO):
    """Where tqdm writes inside a notebook: one line of output that is replaced, so that the stored notebook keeps the last."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: Any = None

    def write(self, text: str) -> int:
        from IPython.display import Pretty, display

        if line := text.replace("\x1b[A", "").strip():
            if self.shown is None:
                self.shown = display(Pretty(line), display_id=True)
            else:
                self.shown.update(Pretty(line))
        return len(text)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def progress_bar(total: int, what: str, unit: str, initial: int = 0, inside: bool = False, quiet: bool = False) -> tqdm:
    """A tqdm bar. `inside` marks one that runs within another: it goes away at its end, and only a terminal shows it.
    `quiet` shows nothing: the work is too short for a bar.

    A terminal gets a live bar, a notebook one line that is replaced, a pipe or a file a line every 20 seconds.
    """
    terminal, notebook = sys.stderr.isatty(), in_notebook()
    return tqdm(
        total=total, initial=initial, desc=what, unit=unit, leave=not inside, disable=quiet or (inside and not terminal),
        file=_Cell() if notebook else sys.stderr, mininterval=0.5 if notebook or terminal else 20.0,
        ncols=100 if notebook else None, dynamic_ncols=terminal,
    )


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
