import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import workbook
from workbook import partial as partials
from workbook.partial import partial_of

MAKES = """
import sys, time
from pathlib import Path
from workbook.partial import partial_of
with partial_of(Path(sys.argv[1])) as partial:
    (partial / "images").mkdir(parents=True) if sys.argv[2] == "folder" else partial.write_text("half")
    print(partial, flush=True)
    time.sleep(600)
"""
DAYS_AGO = time.time() - 300_000


def maker(path: Path, kind: str) -> tuple[subprocess.Popen, Path]:
    """A process that is making `path`, and the name under which it does."""
    process = subprocess.Popen([sys.executable, "-c", MAKES, path, kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen) -> None:
    with process:
        process.send_signal(signal.SIGKILL)


def make(path: Path, kind: str = "folder") -> None:
    with partial_of(path) as partial:
        partial.mkdir() if kind == "folder" else partial.write_text("whole")
        partial.rename(path)


def age(path: Path) -> None:
    for each in (path, *path.rglob("*")):
        os.utime(each, (DAYS_AGO, DAYS_AGO), follow_symlinks=False)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_killed_process_has_left_goes_with_the_next_one(kind: str, tmp_path: Path) -> None:
    process, left = maker(tmp_path / "one.two", kind)
    end(process)
    assert left.exists()
    make(tmp_path / "three", kind)
    assert os.listdir(tmp_path) == ["three"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_whole_at_the_end_is_gone(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), partial_of(tmp_path / "new") as partial:
        partial.mkdir() if kind == "folder" else partial.write_text("half")
        raise ValueError("broken")
    assert not os.listdir(tmp_path)


def test_what_a_living_process_makes_stays_however_long_it_takes(tmp_path: Path) -> None:
    process, making = maker(tmp_path / "slow", "folder")
    age(making)
    make(tmp_path / "new")
    assert making.exists()
    end(process)


def test_a_process_of_another_machine_or_container_is_judged_by_what_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number says nothing here: it may be free, or another's. Seen from here it is on another machine when we are."""
    process, making = maker(tmp_path / "slow", "folder")
    end(process)
    monkeypatch.setattr(partials, "machine", lambda: "another boot, or another space of process ids")
    make(tmp_path / "new")
    assert making.exists()
    age(making)
    (making / "images" / "photo").touch()
    make(tmp_path / "newer")
    assert making.exists()
    age(making)
    make(tmp_path / "newest")
    assert not making.exists()


def test_a_later_process_with_the_number_of_a_killed_one_is_another(tmp_path: Path) -> None:
    process, making = maker(tmp_path / "slow", "folder")
    end(process)
    stem, _, since = making.name.removesuffix(".partial").rpartition("-")
    mine = tmp_path / f"{stem.rpartition('.')[0]}.{os.getpid()}-{since}.partial"
    making.rename(mine)
    make(tmp_path / "new")
    assert os.listdir(tmp_path) == ["new"]


def test_what_is_called_otherwise_is_not_ours(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".notes.partial", ".photos of.1a2b.partial", ".x.12345678.partial", "a.12345678.1-1.partial")]
    for path in theirs:
        path.mkdir()
        age(path)
    make(tmp_path / "new")
    assert all(path.exists() for path in theirs)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "photo").touch()
    with partial_of(tmp_path / "new") as partial:
        partial.symlink_to(tmp_path / "theirs")
    for name, target in (("old", "theirs"), ("circle", ".circle.12345678.1-1.partial"), ("gone", "gone")):
        link = tmp_path / f".{name}.12345678.1-1.partial"
        link.symlink_to(tmp_path / target)
        os.utime(link, (DAYS_AGO, DAYS_AGO), follow_symlinks=False)
    make(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["new", "theirs"]
    assert os.listdir(tmp_path / "theirs") == ["photo"]


def test_nothing_else_in_the_package_makes_names_of_its_process() -> None:
    """files.py alone has its own: it writes small files, often, and a search through the folder each time would cost more."""
    root = Path(workbook.__path__[0])
    assert [str(path.relative_to(root)) for path in sorted(root.rglob("*.py")) if "{os.getpid()}" in path.read_text()] == [
        "files.py", "partial.py"]
