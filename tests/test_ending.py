"""A process that ends quickly has still written what it was told to write."""

import signal
import subprocess
import sys

SCRIPT = """
import sys
from workbook.ending import end_quickly
if sys.argv[2] == "quickly":
    end_quickly()
class Circle:
    def __del__(self):
        print("looked through")
def function_of_this_script():
    pass
log = open(sys.argv[1], "w")
log.write("in a script's globals, ")
other = Circle()
other.itself, other.log = other, open(sys.argv[1] + ".2", "w")
other.log.write("in a circle")
closed = open(sys.argv[1], "r")
closed.close()
del other
"""


def end(how, path):
    return subprocess.run([sys.executable, "-c", SCRIPT, str(path), how], capture_output=True, text=True, check=True)


def test_open_files_are_written_to_the_end(tmp_path):
    path = tmp_path / "log.txt"
    ended = end("quickly", path)
    assert path.read_text() == "in a script's globals, "
    assert (tmp_path / "log.txt.2").read_text() == "in a circle"  # Python's own ending may lose this one
    assert (ended.stdout, ended.stderr) == ("", ""), "the last search was made"


def test_without_the_call_python_ends_as_always(tmp_path):
    assert end("as always", tmp_path / "log.txt").stdout == "looked through\n"


STOPPED_AT_THE_END = """
import gc, os, signal
from workbook.ending import end_quickly
end_quickly()
look = gc.get_objects
def looks_while_stopped():
    os.kill(os.getpid(), signal.SIGINT)
    return look()
gc.get_objects = looks_while_stopped
"""


def test_ctrl_c_at_the_very_end_makes_no_traceback():
    ended = subprocess.run([sys.executable, "-c", STOPPED_AT_THE_END], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
