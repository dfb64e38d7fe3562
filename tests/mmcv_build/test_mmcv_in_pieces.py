"""Files are compiled together where they can be, by the real setuptools and compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import Distribution, Extension

FOLDER = Path(__file__).resolve().parents[2] / "lib" / "mmcv_build"
SETUP = """
from glob import glob
from setuptools import Extension, setup
setup(name="whatever", version="1", packages=[], ext_modules=[Extension({name!r}, glob("mmcv/ops/csrc/pytorch/**/*.cpp", recursive=True))])
"""
MODULE = """
#include <Python.h>
int first(); int second(); int apart();
static PyObject* sum(PyObject*, PyObject*) {{ return PyLong_FromLong(first() + second() + apart()); }}
static PyMethodDef methods[] = {{{{"sum", sum, METH_NOARGS, ""}}, {{nullptr, nullptr, 0, nullptr}}}};
static PyModuleDef definition = {{PyModuleDef_HEAD_INIT, "{name}", "", -1, methods}};
PyMODINIT_FUNC PyInit_{name}() {{ return PyModule_Create(&definition); }}
"""


@pytest.fixture
def merge(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import mmcv_in_pieces

    return mmcv_in_pieces.merge


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [f"mmcv/ops/csrc/pytorch/{name}" for name in
             ("nms.cpp", "roi_align.cpp", "cpu/nms.cpp", "cpu/roi_align.cpp", "cuda/nms.cpp", "cuda/nms.cu", "cpu/zebra.cpp")]
    for file in map(Path, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return files


def test_files_are_in_pieces_and_those_that_clash_are_apart(merge, sources):
    extension = Extension("mmcv._ext", sources, extra_compile_args={"cxx": ["-std=c++17"], "nvcc": []})
    merge(Distribution({"ext_modules": [extension]}))
    assert extension.sources == [
        "mmcv/ops/csrc/pytorch/piece-0.cpp", "mmcv/ops/csrc/pytorch/cpu/piece-0.cpp", "mmcv/ops/csrc/pytorch/cpu/roi_align.cpp",
        "mmcv/ops/csrc/pytorch/cuda/nms.cpp", "mmcv/ops/csrc/pytorch/cuda/nms.cu",
    ]
    assert Path("mmcv/ops/csrc/pytorch/piece-0.cpp").read_text() == '#include "nms.cpp"\n#include "roi_align.cpp"\n'
    assert Path("mmcv/ops/csrc/pytorch/cpu/piece-0.cpp").read_text() == '#include "nms.cpp"\n#include "zebra.cpp"\n'
    assert extension.extra_compile_args == {"cxx": ["-std=c++17", "-g0"], "nvcc": []}


def test_called_again_and_found_by_the_next_setup_pieces_stay_the_same(merge, sources):
    pieces = ["mmcv/ops/csrc/pytorch/piece-0.cpp", "mmcv/ops/csrc/pytorch/cpu/piece-0.cpp"]
    extension = Extension("mmcv._ext", sources + pieces)
    merge(Distribution({"ext_modules": [extension]}))
    once = list(extension.sources)
    merge(Distribution({"ext_modules": [extension]}))
    assert extension.sources == once
    assert once[:2] == pieces
    assert len(once) == len(set(once)) == 5


def test_more_files_than_a_piece_holds_are_all_there_once(merge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [Path(f"mmcv/ops/csrc/pytorch/op{number}.cpp") for number in range(45)]
    files[0].parent.mkdir(parents=True)
    extension = Extension("mmcv._ext", [str(file) for file in files])
    merge(Distribution({"ext_modules": [extension]}))
    included = [line for source in extension.sources for line in Path(source).read_text().splitlines()]
    assert len(extension.sources) == 3
    assert sorted(included) == sorted(f'#include "{file.name}"' for file in files)


def test_other_packages_are_left_as_they_are(merge, sources):
    extension = Extension("other._ext", list(sources))
    merge(Distribution({"ext_modules": [extension]}))
    assert extension.sources == sources
    assert extension.extra_compile_args == []
    merge(Distribution({}))


@pytest.mark.parametrize(("name", "objects"), [("mmcv._ext", {"piece-0.o", "cpu/roi_align.o"}),
                                              ("other._ext", {"module.o", "first.o", "second.o", "cpu/roi_align.o"})])
def test_setuptools_finds_it_and_what_is_compiled_in_pieces_works(name, objects, tmp_path):
    folder = tmp_path / "mmcv" / "ops" / "csrc" / "pytorch"
    (folder / "cpu").mkdir(parents=True)
    module = name.split(".")[1]
    (folder / "module.cpp").write_text(MODULE.format(name=module))
    (folder / "first.cpp").write_text("int first() { return 1; }\n")
    (folder / "second.cpp").write_text("int second() { return 20; }\n")
    (folder / "cpu" / "roi_align.cpp").write_text("int apart() { return 300; }\n")
    (tmp_path / "setup.py").write_text(SETUP.format(name=name))
    env = {**os.environ, "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", "built", "--build-temp", "objects"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    temporary = tmp_path / "objects" / folder.relative_to(tmp_path)
    assert {str(path.relative_to(temporary)) for path in temporary.rglob("*.o")} == objects
    said = subprocess.run([sys.executable, "-c", f"import {module}; print({module}.sum())"], capture_output=True, text=True, check=True,
                          cwd=tmp_path / "built" / name.split(".")[0])
    assert said.stdout == "321\n"
