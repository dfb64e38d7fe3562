"""The tensors of weight files: out of any wrapper, as others' trainings write them, and no code of a file is ever run."""

import argparse
import collections
import datetime
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from workbook.models.state import backbone_state, count_numbers, read_state
from workbook.models.weights import WeightsError

CONTENT = bytes(range(256)) * 400


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_tensors_come_out_of_any_wrapper(tmp_path, wrapper):
    state = {"a.weight": torch.ones(2)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "file.pth")
    assert read_state(tmp_path / "file.pth").keys() == state.keys()


def test_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    save_file({"a.weight": torch.arange(3.0)}, tmp_path / "file.safetensors")
    assert read_state(tmp_path / "file.safetensors")["a.weight"].tolist() == [0, 1, 2]


class Harmful:
    """A pickle that would write a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_of_a_file_is_run(tmp_path):
    torch.save({"a": Harmful(tmp_path / "proof")}, tmp_path / "file.pth")
    with pytest.raises(WeightsError, match="file.pth cannot be read as weights"):
        read_state(tmp_path / "file.pth")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", CONTENT])
def test_what_is_no_weight_file_is_refused(tmp_path, content):
    for name in ("file.pth", "file.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name} cannot be read as weights"):
            read_state(tmp_path / name)


@pytest.mark.parametrize(("content", "found"), [
    ({"epoch": 3, "lr": 0.1}, "it has: epoch, lr"), ({}, "it holds a dict"), (torch.ones(2), "it holds a Tensor"),
    ({"state_dict": {}}, "it holds a dict"), ({"model": argparse.Namespace()}, "it holds a _Empty"),
])
def test_a_file_without_tensors_is_refused_with_what_it_has(tmp_path, content, found):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(WeightsError, match=f"holds no tensors by name; {found}"):
        read_state(tmp_path / "file.pth")


# ---- as others' trainings write them ---------------------------------------------------------------------------------

STATE = {"backbone.conv1.weight": torch.arange(6.0).reshape(2, 3), "rpn_head.rpn_cls.bias": torch.tensor([1.5])}


@pytest.fixture
def history_buffer(monkeypatch):
    """The class of which mmdet 3 saves objects (mmengine 0.10, logging/history_buffer.py), as far as its pickle goes: two arrays, and
    its own methods by name."""
    class HistoryBuffer:
        def __init__(self):
            self._log_history, self._count_history = np.array([0.7, 0.5]), np.array([1, 1])
            self._statistics_methods = {"min": HistoryBuffer.min}

        def min(self):
            return self._log_history.min()

    name = "mmengine.logging.history_buffer"
    for part in ("mmengine", "mmengine.logging", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    for part in (HistoryBuffer, HistoryBuffer.min):
        part.__module__, part.__qualname__ = name, part.__qualname__.rpartition("<locals>.")[2]
    sys.modules[name].HistoryBuffer = HistoryBuffer
    return HistoryBuffer


def beside(history_buffer):
    """What is written beside the tensors, by whom."""
    options = argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("/x"), when=datetime.datetime(2026, 1, 1))
    counts = collections.defaultdict(list, a=[1])
    return {
        "mmdet 3": {"meta": {"epoch": 12, "time": np.float64(0.5)}, "message_hub": {"log_scalars": {"train/loss": history_buffer()}}},
        "numpy": {"meta": {"best": np.float64(0.4), "epoch": np.int64(3), "lrs": np.array([0.1, 0.2])}},
        "DETR": {"args": options}, "others": {"counts": counts, "kind": np.dtype("float32"), "none": None},
    }


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("who", ["mmdet 3", "numpy", "DETR", "others"])
def test_what_a_training_wrote_beside_its_tensors_is_passed_over(tmp_path, history_buffer, who, former, monkeypatch):
    path = tmp_path / "file.pth"
    content = {"state_dict": STATE, **beside(history_buffer)[who]}
    torch.save(content, path, _use_new_zipfile_serialization=not former)
    for part in [name for name in sys.modules if name.partition(".")[0] == "mmengine"]:
        monkeypatch.delitem(sys.modules, part)  # it is not installed here
    allowed = set(torch.serialization.get_safe_globals())
    read = read_state(path)
    assert read.keys() == STATE.keys() and all(torch.equal(read[name], STATE[name]) for name in STATE)
    assert set(torch.serialization.get_safe_globals()) == allowed, "only while this file is read"


def test_the_buffer_of_mmdet_3_needs_more_than_torch_allows(tmp_path, history_buffer):
    """Else the test above would prove nothing: its methods come by getattr."""
    torch.save(history_buffer(), tmp_path / "file.pth")
    names = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "file.pth")
    assert {"builtins.getattr", "mmengine.logging.history_buffer.HistoryBuffer"} <= set(names)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "module.model."])
def test_what_stands_before_every_name_is_taken_off(tmp_path, prefix):
    torch.save({"state_dict": {prefix + name: value for name, value in STATE.items()}}, tmp_path / "file.pth")
    assert read_state(tmp_path / "file.pth").keys() == STATE.keys()


def test_what_stands_before_some_names_belongs_to_them(tmp_path):
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "file.pth")
    assert read_state(tmp_path / "file.pth").keys() == state.keys()


def test_of_a_detectors_tensors_those_of_its_backbone_are_taken():
    assert list(backbone_state(STATE)) == ["conv1.weight"]
    assert list(backbone_state({"conv1.weight": torch.ones(1)})) == ["conv1.weight"]


class Recorder:
    """Code of a file that would show when it is run."""

    def __init__(self, what, *arguments):
        self.what = what
        self.arguments = arguments

    def __reduce__(self):
        return self.what, self.arguments


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize(("code", "named"), [
    ((os.system, "touch {proof}"), ": it holds posix.system, and"), ((open, "{proof}", "w"), ": it holds io.open, and"),
    ((eval, "open('{proof}', 'w')"), ": it holds builtins.eval, and"),
    ((subprocess.getoutput, "touch {proof}"), ": it holds (subprocess|commands).getoutput, and"),
    ((pathlib.Path.touch, pathlib.Path("{proof}")), " .UnpicklingError."),  # a method by getattr, of what is passed over as an object
])
def test_code_beside_tensors_is_named_and_never_run(tmp_path, code, named, former):
    proof = str(tmp_path / "proof")
    what, *arguments = code
    arguments = [type(each)(str(each).format(proof=proof)) for each in arguments]
    torch.save({"state_dict": STATE, "meta": Recorder(what, *arguments)}, tmp_path / "file.pth", _use_new_zipfile_serialization=not former)
    with pytest.raises(WeightsError, match=f"cannot be read as weights{named}"):
        read_state(tmp_path / "file.pth")
    assert not (tmp_path / "proof").exists()


THEIRS = """
import torch
from torch import nn

class Progress:
    epoch = 3

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)
"""
SAVES = {
    "an object beside the tensors": "torch.save({'state_dict': Net().state_dict(), 'progress': Progress()}, path)",
    "a whole model": "torch.save(Net(), path)",
    "tensors and an object by name": "torch.save({**Net().state_dict(), 'progress': Progress()}, path)",
}


@pytest.mark.parametrize("case", SAVES)
def test_an_object_of_their_own_is_named_and_the_advice_leads_out(tmp_path, case, monkeypatch):
    """The command of the message, in a shell, where the class can be imported."""
    (tmp_path / "their_training.py").write_text(THEIRS)
    path = tmp_path / "it's $HOME.pth"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs = __import__("their_training")
    exec(SAVES[case], {**vars(theirs), "path": path})
    with pytest.raises(WeightsError, match="cannot be read as weights: it holds .*their_training") as said:
        read_state(path)
    command, target = re.search(r"(python -c .*) and give (.*)$", str(said.value)).groups()
    python, *rest = shlex.split(command)
    assert python == "python"
    subprocess.run([sys.executable, *rest], check=True, cwd=tmp_path)
    assert {name: tuple(value.shape) for name, value in read_state(pathlib.Path(target)).items()} == {
        "layer.weight": (3, 2), "layer.bias": (3,)}


def test_numbers_are_counted_without_the_classifier():
    state = {"fc.weight": torch.ones(10), "layer.fc.weight": torch.ones(3), "steps": torch.tensor(7), "epoch": 3}
    assert count_numbers(state, without=("fc",)) == 3
