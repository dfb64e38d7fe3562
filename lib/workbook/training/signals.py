"""Ctrl-C and SIGTERM while a model trains: remembered until nothing is half done, then raised."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

_WORDS = b"\nstopping after this step, with a checkpoint (once more: at once, without one)\n"


class Stopped(KeyboardInterrupt):
    """The user or the system asked to stop, after a checkpoint. `code` is the exit code a shell expects."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.code = 128 + signum


class StopSignals:
    """Use it in a `with`: inside, the first signal is only noted, and a second one does what it does elsewhere.

    Only the main thread of a process can take signals; in any other nothing changes.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._at_once = False
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def check(self) -> None:
        """Raises Stopped when a signal has come."""
        if self.signum:
            raise Stopped(self.signum)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, where nothing is written and all can be done again, a signal raises Stopped without waiting."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def _note(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        self.__exit__()
        if self._at_once:
            raise Stopped(signum)
        os.write(2, _WORDS)  # print may be in the middle of a line, and is not allowed here


def ignore_signals(_: int = 0) -> None:
    """In a process that loads images: a signal to the whole group is for the trainer, which ends the loaders."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
