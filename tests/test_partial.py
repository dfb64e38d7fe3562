import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import workbook
from workbook.partial import HERE, partial_of

MAKES = """
import sys, time
from pathlib import Path
from workbook.partial import partial_of
with partial_of(Path(sys.argv[1])) as partial:
    (partial / "images").mkdir(parents=True) if sys.argv[2] == "folder" else partial.write_text("half")
    print(partial, flush=True)
    time.sleep(600)
"""


def left_by_a_killed_process(path: Path, kind: str) -> Path:
    process = subprocess.Popen([sys.executable, "-c", MAKES, path, kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process:
        left = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    assert left.exists()
    return left


def make(path: Path, kind: str) -> None:
    with partial_of(path) as partial:
        partial.mkdir() if kind == "folder" else partial.write_text("whole")
        partial.rename(path)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_killed_process_has_left_goes_with_the_next_one(kind: str, tmp_path: Path) -> None:
    left_by_a_killed_process(tmp_path / "one.two", kind)
    make(tmp_path / "three", kind)
    assert os.listdir(tmp_path) == ["three"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_whole_at_the_end_is_gone(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), partial_of(tmp_path / "new") as partial:
        partial.mkdir() if kind == "folder" else partial.write_text("half")
        raise ValueError("broken")
    assert not os.listdir(tmp_path)


def test_what_others_are_making_stays_and_another_machines_for_a_day(tmp_path: Path) -> None:
    alive, elsewhere, old = (tmp_path / f".{name}.partial" for name in (f"a.{HERE}.{os.getppid()}", "b.another.1", "c.another.1"))
    for folder in (alive, elsewhere, old):
        folder.mkdir()
    os.utime(elsewhere, (time.time() - 80_000,) * 2)
    os.utime(old, (time.time() - 90_000,) * 2)
    make(tmp_path / "new", "folder")
    assert sorted(os.listdir(tmp_path)) == [alive.name, elsewhere.name, "new"]


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "photo").touch()
    with partial_of(tmp_path / "new") as partial:
        partial.symlink_to(tmp_path / "theirs")
    assert os.listdir(tmp_path) == ["theirs"]
    assert os.listdir(tmp_path / "theirs") == ["photo"]


def test_nothing_else_in_the_package_makes_folders_under_names_of_its_own() -> None:
    """files.py alone has its own: it writes small files, often, and a search through the folder each time would cost more."""
    root = Path(workbook.__path__[0])
    assert [str(path.relative_to(root)) for path in sorted(root.rglob("*.py")) if "{os.getpid()}" in path.read_text()] == [
        "files.py", "partial.py"]
