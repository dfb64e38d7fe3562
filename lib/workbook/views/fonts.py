"""Fonts for names in any script: those that are installed with the workbook, one that the user names, and the system's.

matplotlib draws each letter with the first font of the list that has it, and shapes Arabic, Devanagari and their like itself (since 3.11).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from workbook.errors import ParameterError

VARIABLE = "WORKBOOK_FONT"
# packages that hold nothing but fonts (SIL Open Font License) → which of their files
PACKAGES = {"manimgx_fonts": "NotoSans*.ttf", "noto_cjk_sans_jp_regular": "*.otf"}
# a letter of each script in which files and classes are named: where no font so far has it, the system's are searched
SCRIPTS = "中あ한عאकকਕકକகకಕകකกກកကაԱሀ"
BOXES = "Last Resort"  # matplotlib's own font, which has a box for every letter
FIRST_STRONG, POP = "\u2068", "\u2069"  # the Unicode controls around a text that keeps its own direction (UAX 9)


def isolated(name: object) -> str:
    """The name, to be set into other words: written from right to left it moves neither the words nor the figures beside it."""
    return f"{FIRST_STRONG}{name}{POP}"


@functools.cache
def families() -> tuple[str, ...]:
    """The font families for the letters that the usual font lacks, in the order in which they are asked.

    Raises ParameterError when WORKBOOK_FONT is neither a font file nor the name of an installed font.
    """
    named, packaged = _named_font(os.environ.get(VARIABLE, "")), [_add(path) for path in _packaged()]
    return tuple(dict.fromkeys([*named, *packaged, *_of_system([*named, *packaged])]))


def say_what_is_missing() -> None:
    """From here on one sentence stands for matplotlib's warnings of letters that no font has, one or more a letter."""
    if not isinstance(warnings.showwarning, _OneSentence):
        warnings.showwarning = _OneSentence(warnings.showwarning)


class _OneSentence:
    """`warnings.showwarning`, which says once what matplotlib says of every letter without a glyph; other warnings pass."""

    def __init__(self, others: Callable[..., None]) -> None:
        self.others = others
        self.said = False

    def __call__(self, message: Warning | str, *where: Any, **more: Any) -> None:
        words = str(message).split()
        if words[:1] != ["Glyph"] or "missing from font(s)" not in str(message):
            self.others(message, *where, **more)
        elif not self.said:
            self.said = True
            letter = chr(int(words[1]))
            print(f"Some names have letters that no font of this machine can draw, such as {letter} "
                  f"({unicodedata.name(letter, 'without a name')}): a box stands for each. Set {VARIABLE} to a font file that has them")


def _named_font(asked: str) -> list[str]:
    if not asked:
        return []
    if Path(asked).is_file():
        try:
            return [_add(Path(asked))]
        except (RuntimeError, OSError) as error:
            raise ParameterError(f"{VARIABLE}={asked}: this file is no font that can be read ({error}). Give a .ttf or .otf file, "
                                 f"or unset {VARIABLE}") from None
    known = sorted({entry.name for entry in font_manager.fontManager.ttflist})
    if asked in known:
        return [asked]
    raise ParameterError(f"{VARIABLE}={asked}: no such file, and no installed font of this name. Give a .ttf or .otf file, "
                         f"or one of: {', '.join(known)}")


def _packaged() -> Iterable[Path]:
    for package, pattern in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            yield from sorted(Path(folder).glob(pattern))


def _add(path: Path) -> str:
    """Make the font known to matplotlib; returns its family."""
    font_manager.fontManager.addfont(path)
    return next(entry.name for entry in reversed(font_manager.fontManager.ttflist) if Path(entry.fname) == path)


def _of_system(asked: Iterable[str]) -> list[str]:
    """For each script that neither matplotlib's own font nor these have, the first font of the system that has it."""
    usual = font_manager.findfont("DejaVu Sans")
    paths = [usual, *(entry.fname for entry in font_manager.fontManager.ttflist if entry.name in set(asked))]
    missing = set(SCRIPTS) - _letters(paths)
    found = []
    for entry in font_manager.fontManager.ttflist:
        if not missing:
            break
        if entry.name.startswith(BOXES):
            continue
        if has := missing & _letters([entry.fname]):
            missing -= has
            found.append(entry.name)
    return found


def _letters(paths: Iterable[str]) -> set[str]:
    """Those of `SCRIPTS` that these font files have between them."""
    found: set[str] = set()
    for path in paths:
        try:
            found |= set(map(chr, FT2Font(path).get_charmap())) & set(SCRIPTS)
        except (RuntimeError, OSError):  # a font that was taken away since, or is broken
            continue
    return found
