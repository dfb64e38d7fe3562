"""Trainings in processes of their own that end how a test wants them to, without the seconds that a fresh process imports.

Run as a script this is a process with everything imported, that forks a child for each line it reads: the child runs the
`workbook` command, and at a named moment is killed, gets a signal, or finds its disk full. Nothing in the parent runs torch.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Self


class Trainer:
    """The warm process, seen from a test."""

    def __init__(self, env: dict[str, str]) -> None:
        root = Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **env, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(60)

    def start(self, words: list[str], outputs: Path, moment: tuple[str, int] | None = None, what: str = "kill") -> int:
        """The pid of a child that runs `workbook <words>`; at the n-th `moment` it does `what`."""
        order = {"words": words, "outputs": str(outputs), "moment": moment, "what": what}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self) -> int:
        """Its exit code, negative after a signal."""
        return int(self.process.stdout.readline())

    def run(self, *order: Any) -> int:
        self.start(*order)
        return self.ended()


def serve() -> None:
    import workbook.cli
    import workbook.training.job
    import workbook.training.train
    import workbook.views.compare.tables  # noqa: F401
    from processes import forked

    for line in sys.stdin:
        order = json.loads(line)
        pid = forked(partial(child, **order))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def child(words: list[str], outputs: str, moment: list[Any] | None, what: str) -> None:
    from workbook import cli
    from workbook import notebooks as report

    Path(outputs).mkdir(parents=True, exist_ok=True)
    out = os.open(f"{outputs}/said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["WORKBOOK_OUTPUTS"], sys.argv = outputs, ["workbook", *words]
    report.execute_notebook = lambda *_: Path("no notebook")  # what is tested here ends before it
    watch(Path(outputs), tuple(moment) if moment else None, what)
    code: Any = 1
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        import traceback
        traceback.print_exception(error)
    sys.stdout.flush()
    os._exit(code or 0)


def watch(outputs: Path, moment: tuple[str, int] | None, what: str) -> None:
    """Put a hook at every moment at which a training can be hit, and note each in `moments.jsonl`."""
    from workbook.training import log, loop

    seen: Counter[str] = Counter()
    replace, step, evaluate, write = os.replace, loop.Training._train_step, loop.evaluate, log.Log.write

    def passing(name: str) -> bool:
        seen[name] += 1
        with open(outputs / "moments.jsonl", "a") as file:
            file.write(json.dumps([name, seen[name]]) + "\n")
        return moment == (name, seen[name])

    def hit() -> None:
        if what == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
        else:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[what])

    def hooked_replace(source: Any, target: Any) -> None:
        if passing(f"before {Path(target).name}"):
            if what == "kill":  # half of it was written
                os.truncate(source, Path(source).stat().st_size // 2)
            hit()
        replace(source, target)
        if passing(f"after {Path(target).name}"):
            hit()

    def hooked_step(self: Any, *args: Any) -> Any:
        if passing("step"):
            hit()
        return step(self, *args)

    def hooked_evaluate(*args: Any) -> Any:
        if passing("validation"):
            hit()
        return evaluate(*args)

    def hooked_write(self: Any, row: Any) -> None:
        if passing("line"):
            if what == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.size + 20, resource.RLIM_INFINITY))
            else:
                with open(self.path, "a") as file:
                    file.write(json.dumps(row)[:30])
                hit()
        try:
            write(self, row)
        finally:
            if moment and moment[0] == "line":  # room again, so that run.json can tell
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    os.replace, loop.Training._train_step, loop.evaluate, log.Log.write = hooked_replace, hooked_step, hooked_evaluate, hooked_write


if __name__ == "__main__":
    serve()
    os._exit(0)  # nothing to clean up, and Python would take seconds
