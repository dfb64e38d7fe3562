"""Files are compiled together where they can be, by the real setuptools and compiler."""

import os
import shutil
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


def included(piece):
    lines = Path(piece).read_text().splitlines()
    return [os.path.normpath(Path(piece).parent / line.removeprefix('#include "').removesuffix('"')) for line in lines]


def test_files_are_in_pieces_and_those_that_clash_are_apart(merge, sources):
    extension = Extension("mmcv._ext", sources, extra_compile_args={"cxx": ["-std=c++17"], "nvcc": []})
    merge(Distribution({"ext_modules": [extension]}))
    assert extension.sources == [
        "build/pieces/pytorch-0.cpp", "build/pieces/cpu-0.cpp", "mmcv/ops/csrc/pytorch/cpu/roi_align.cpp",
        "mmcv/ops/csrc/pytorch/cuda/nms.cpp", "mmcv/ops/csrc/pytorch/cuda/nms.cu",
    ]
    assert included("build/pieces/pytorch-0.cpp") == sources[:2]
    assert included("build/pieces/cpu-0.cpp") == [sources[2], sources[6]]
    assert extension.extra_compile_args == {"cxx": ["-std=c++17", "-g0"], "nvcc": []}


def test_a_second_call_changes_nothing(merge, sources):
    extension = Extension("mmcv._ext", sources)
    merge(Distribution({"ext_modules": [extension]}))
    once = list(extension.sources), list(extension.extra_compile_args)
    merge(Distribution({"ext_modules": [extension]}))
    assert (extension.sources, extension.extra_compile_args) == once


def test_more_files_than_a_piece_holds_are_all_there_once(merge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [Path(f"mmcv/ops/csrc/pytorch/op{number}.cpp") for number in range(45)]
    files[0].parent.mkdir(parents=True)
    extension = Extension("mmcv._ext", [str(file) for file in files])
    merge(Distribution({"ext_modules": [extension]}))
    assert len(extension.sources) == 3
    assert sorted(file for source in extension.sources for file in included(source)) == sorted(map(str, files))


def test_other_packages_are_left_as_they_are(merge, sources):
    extension = Extension("other._ext", list(sources))
    merge(Distribution({"ext_modules": [extension]}))
    assert extension.sources == sources
    assert extension.extra_compile_args == []
    merge(Distribution({}))
    merge(Distribution({"ext_modules": [("mmcv._ext", {"sources": sources})]}))


def write_project(root, name):
    folder = root / "mmcv" / "ops" / "csrc" / "pytorch"
    (folder / "cpu").mkdir(parents=True)
    (folder / "module.cpp").write_text(MODULE.format(name=name.split(".")[1]))
    (folder / "first.cpp").write_text("int first() { return 1; }\n")
    (folder / "second.cpp").write_text("int second() { return 20; }\n")
    (folder / "cpu" / "roi_align.cpp").write_text("int apart() { return 300; }\n")
    (root / "setup.py").write_text(SETUP.format(name=name))


def build(root, env):
    """Names of what was compiled, and what the module computes."""
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", "built", "--build-temp", "objects"]
    subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)
    (module,) = (root / "built").rglob("*.so")
    code = f"import {module.name.split('.')[0]} as module; print(module.sum())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=module.parent)
    return {path.stem for path in (root / "objects").rglob("*.o")}, said.stdout


@pytest.mark.parametrize(("name", "objects"), [("mmcv._ext", {"pytorch-0", "roi_align"}),
                                              ("other._ext", {"module", "first", "second", "roi_align"})])
def test_setuptools_finds_it_and_what_is_compiled_in_pieces_works(name, objects, tmp_path):
    write_project(tmp_path, name)
    assert build(tmp_path, {**os.environ, "PYTHONPATH": str(FOLDER)}) == (objects, "321\n")


def test_a_later_build_without_it_in_the_same_folder_works(tmp_path):
    write_project(tmp_path, "mmcv._ext")
    build(tmp_path, {**os.environ, "PYTHONPATH": str(FOLDER)})
    shutil.rmtree(tmp_path / "objects")
    shutil.rmtree(tmp_path / "built")
    assert build(tmp_path, os.environ) == ({"module", "first", "second", "roi_align"}, "321\n")


def test_the_set_up_puts_it_on_the_path_of_the_build():
    recipe = subprocess.run(["make", "-n", "-W", "pyproject.toml", "setup"], cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert f'PYTHONPATH="{FOLDER}' in recipe.stdout, recipe.stderr
