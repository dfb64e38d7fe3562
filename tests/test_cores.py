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
