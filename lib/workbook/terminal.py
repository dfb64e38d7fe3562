"""How the command meets the shell: a console as wide as the terminal, or as whole run names need, and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

WITHOUT_TERMINAL = 160  # columns


def open_console() -> Console:
    """A console on stdout, without colours for numbers."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WITHOUT_TERMINAL)


@contextmanager
def exit_when_stopped(left: Callable[[], str] | None = None) -> Iterator[None]:
    """The exit code that a shell expects of what was stopped: 130 after Ctrl-C, 143 after SIGTERM.

    left: says what there is then, where the work does not say so itself.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if left is not None:
            print(f"\nstopped: {left()}", file=sys.stderr)
        raise typer.Exit(getattr(stop, "code", 130)) from None
