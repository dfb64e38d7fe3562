"""What the command prints to: a terminal in its width, or a pipe or file in a width that shows whole run names."""

from __future__ import annotations

import sys

from rich.console import Console

WITHOUT_TERMINAL = 160  # columns


def open_console() -> Console:
    """A console on stdout, without colours for numbers."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WITHOUT_TERMINAL)
