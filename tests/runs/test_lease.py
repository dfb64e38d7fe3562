"""One process at a time holds a run; what a dead one held is free, and two that find it dead at once do not both get it."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from processes import forked
from workbook.errors import RunError
from workbook.runs import lease as leases
from workbook.runs.folder import Run, RunBusyError
from workbook.runs.lease import Lease, Owner, living_owner


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def lease_file(run: Run) -> Path:
    return run.folder / ".lease.json"


def holder(run: Run) -> int:
    """A child that takes the lease of the run and holds it until it is killed."""
    def hold():
        with run.acquire():
            time.sleep(60)

    pid = forked(hold)
    while not (run.busy and run.busy.pid == pid):
        time.sleep(0.005)
    return pid


def planted(run: Run, **changed) -> Owner:
    """A lease as another process would have left it."""
    owner = replace(Owner.here(), token="another", **changed)
    lease_file(run).write_text(json.dumps(asdict(owner)))
    return owner


def aged(run: Run, seconds: float) -> None:
    beat = lease_file(run).stat().st_mtime - seconds
    os.utime(lease_file(run), (beat, beat))


def test_a_second_process_is_told_who_trains_and_a_killed_one_lets_go_at_once(run: Run) -> None:
    pid = holder(run)
    with pytest.raises(RunBusyError, match=rf"is being trained by process {pid} on \S+ since \d{{4}}-.*wait for it"), run.acquire():
        pass
    os.kill(pid, signal.SIGKILL)
    while "Z" not in Path(f"/proc/{pid}/stat").read_text():  # dead, though its parent has not asked for it yet
        time.sleep(0.005)
    assert run.busy is None
    with run.acquire() as check:
        check()
        assert run.busy and run.busy.pid == os.getpid()
    assert run.busy is None and list(run.folder.iterdir()) == []
    os.waitpid(pid, 0)


def test_another_user_is_named_and_an_older_lease_without_a_user_is_read(run: Run) -> None:
    owner = planted(run, user="alice")
    with pytest.raises(RunBusyError, match=rf"process {os.getpid()} of the user alice on \S+ since"), run.acquire():
        pass
    older = {key: value for key, value in asdict(owner).items() if key != "user"}
    lease_file(run).write_text(json.dumps(older))
    with pytest.raises(RunBusyError, match=rf"process {os.getpid()} on \S+ since"), run.acquire():
        pass


def test_a_later_process_with_the_same_number_is_not_the_owner(run: Run) -> None:
    planted(run, process_started=Owner.here().process_started - 1)
    with run.acquire():
        pass


def test_an_owner_on_another_machine_is_judged_by_its_heartbeat_on_the_file_systems_clock(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = planted(run, host="node7", pid=1, machine="another boot")
    monkeypatch.setattr(time, "time", lambda: 4e9)  # the clock of this host is wrong: nobody reads it
    aged(run, leases.LIMIT - 10)
    with pytest.raises(RunBusyError, match="process 1 on node7"), run.acquire():
        pass
    assert run.busy == owner
    aged(run, 20)
    assert run.busy is None
    with run.acquire() as check:
        check()


def test_who_lost_its_lease_is_stopped_and_leaves_the_new_one_alone(run: Run) -> None:
    with run.acquire() as check:
        new = planted(run)
        with pytest.raises(RunBusyError, match="was taken over by process .* writes nothing more"):
            check()
    assert living_owner(lease_file(run)) == new


def test_the_heart_beats_while_the_lease_is_held_and_not_for_another(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.01)
    lease = Lease(lease_file(run))
    assert lease.acquire() is None
    aged(run, 1000)
    old = lease_file(run).stat().st_mtime
    deadline = time.monotonic() + 10
    while lease_file(run).stat().st_mtime < old + 990 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lease_file(run).stat().st_mtime >= old + 990
    planted(run)
    aged(run, 1000)
    time.sleep(0.1)
    assert lease_file(run).stat().st_mtime < old + 990
    lease.release()


def test_a_broken_lease_is_respected_until_it_is_old(run: Run) -> None:
    lease_file(run).write_text("{")
    with pytest.raises(RunBusyError, match="an unknown host"), run.acquire():
        pass
    aged(run, leases.LIMIT + 1)
    with run.acquire():
        pass


def test_a_folder_that_cannot_be_written_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="cannot take the lease of .*gone: No such file"), Run(run.folder / "gone").acquire():
        pass


@pytest.mark.parametrize("foreign", [False, True])
def test_many_that_find_it_dead_at_once_never_both_have_it(foreign: bool, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every holder dies with its lease, so every take is a take-over; `inside` shows whether two were in at once."""
    inside, taken, twice = (run.folder / name for name in ("inside", "taken", "twice"))
    if foreign:  # judged by heartbeats alone
        monkeypatch.setattr(leases, "machine", lambda: "")
    deadline = time.monotonic() + 4

    def life(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < deadline:
            lease = Lease(lease_file(run))
            if lease.acquire() is None:
                try:
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    twice.touch()
                with open(taken, "a") as file:
                    file.write(".")
                inside.unlink(missing_ok=True)
                if foreign:
                    aged(run, 1000)
                os._exit(0)
            time.sleep(rng.random() * 0.002)

    children = {forked(lambda seed=seed: life(seed)) for seed in range(8)}
    while children:
        pid, status = os.wait()
        children.discard(pid)
        assert status == 0
        if time.monotonic() < deadline:
            children.add(forked(lambda seed=pid: life(seed)))
    assert not twice.exists(), "two processes held the same lease at once"
    assert len(taken.read_text()) > 5
