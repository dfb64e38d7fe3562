"""The cores that a process may use, not those of the machine."""

import os
import subprocess
import sys


def test_a_process_that_is_bound_to_one_core_has_one():
    code = ("import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
            "from workbook.cores import usable_cores; print(usable_cores())")
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == 1


def test_where_there_is_no_affinity_it_is_all_cores(monkeypatch):
    from workbook.cores import usable_cores

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cores() == 5


def settings_of_libgomp(**env: str) -> str:
    """What the library says that it was loaded with, when the package comes before torch."""
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", "import workbook, torch"], capture_output=True, text=True, check=True,
                          env={**clean, "OMP_DISPLAY_ENV": "VERBOSE", **env})
    return done.stderr


def test_waiting_threads_sleep_and_take_no_core_from_others():
    assert "GOMP_SPINCOUNT = '100'" in settings_of_libgomp()


def test_what_the_user_sets_for_waiting_threads_stays():
    assert "GOMP_SPINCOUNT = '777'" in settings_of_libgomp(GOMP_SPINCOUNT="777")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in settings_of_libgomp(OMP_WAIT_POLICY="ACTIVE")
