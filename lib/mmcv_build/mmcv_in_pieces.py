"""Compile mmcv-full's operators in a few pieces: `make setup` puts this folder on the path of the build.

mmcv-full 1.7.2 is compiled as 78 files of a hundred lines each. Each of them reads torch's headers first, 7 of the 8 seconds that it takes
(4 more to write down what a debugger would read). A piece is a file that includes up to twenty of them. setuptools calls what a package
registers as `setuptools.finalize_distribution_options` before it builds
(https://setuptools.pypa.io/en/latest/userguide/extension.html); `mmcv_in_pieces-1.dist-info` registers `merge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from setuptools import Distribution, Extension

NAME = "mmcv._ext"
PIECES = Path("build") / "pieces"  # where setup.py looks for no sources: uv keeps the folder, and a later build may be without this hook
FILES_IN_PIECE = 20  # four pieces, so that four cores have work; few files would leave a core alone with them
APART = {"psamask.cpp", "roi_align.cpp", "roi_align_rotated.cpp", "rotated_feature_align.cpp"}  # same names for other templates and macros
CPU = "cpu"  # the folder of APART


def merge(distribution: Distribution) -> None:
    """Give mmcv-full's extension pieces that include its files in their place; other packages are left as they are."""
    for extension in distribution.ext_modules or ():
        if getattr(extension, "name", None) == NAME:  # old packages write a tuple
            _merge(extension)


def _merge(extension: Extension) -> None:
    sources = [Path(source) for source in extension.sources]
    merged = sorted(filter(_is_merged, sources), key=lambda file: (file.parent, file.name))
    if not merged:  # setuptools may call twice
        return
    pieces = [piece for folder, files in groupby(merged, key=lambda file: file.parent) for piece in _pieces(folder, list(files))]
    extension.sources = pieces + [str(source) for source in sources if source not in merged]
    arguments = extension.extra_compile_args  # torch's extensions keep them by compiler
    (arguments["cxx"] if isinstance(arguments, dict) else arguments).append("-g0")


def _is_merged(source: Path) -> bool:
    """Whether it is plain C++ that can share a piece: not CUDA's own, and none that is apart."""
    is_plain = source.suffix == ".cpp" and source.parent.name in ("pytorch", CPU)
    return is_plain and not (source.parent.name == CPU and source.name in APART)


def _pieces(folder: Path, files: Sequence[Path]) -> list[str]:
    """Write the pieces of one folder; gives their paths, relative as those of setup.py are."""
    PIECES.mkdir(parents=True, exist_ok=True)
    paths = []
    for start in range(0, len(files), FILES_IN_PIECE):
        path = PIECES / f"{folder.name}-{start // FILES_IN_PIECE}.cpp"
        path.write_text("".join(f'#include "../../{file.as_posix()}"\n' for file in files[start : start + FILES_IN_PIECE]))
        paths.append(str(path))
    return paths
