"""The remedies that there are: the workbook's own, by listing its package, and the user's, by listing their folder."""

from __future__ import annotations

import importlib.util
import os
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from workbook import remedies as package
from workbook.errors import ParameterError
from workbook.models.weights import sha256
from workbook.plugins import plugins
from workbook.remedies.base import FAMILIES, Remedy

OWN_FOLDER = "WORKBOOK_REMEDIES"  # the environment variable that names the user's folder


def parse_remedies(text: str) -> tuple[Remedy, ...]:
    """`"fitted_anchors,soft_nms"` → the remedies in the order in which they are applied; `+` separates as well as a comma.

    Raises ParameterError for an unknown key, one that is given twice, and two that exclude each other, all at once.
    """
    keys = [key.strip() for key in text.replace("+", ",").split(",")] if text.strip() else []
    if not keys:
        return ()
    known = {remedy.key: remedy for remedy in all_remedies()}
    problems = [f"unknown remedy '{key}'" for key in dict.fromkeys(keys) if key not in known]
    if problems:
        problems.append(f"known: {', '.join(known)}. One of your own is a file of the folder that {OWN_FOLDER} names")
    problems += [f"{key} is given twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    found = in_order([known[key] for key in dict.fromkeys(keys) if key in known])
    problems += [f"{one} and {other} exclude each other: leave one of them out" for one, other in excluding(found)]
    if problems:
        raise ParameterError("; ".join(problems))
    return found


def canonical(text: str) -> str:
    """The same remedies as one text, whatever the order and the separator: `"soft_nms+fitted_anchors"` → `"fitted_anchors,soft_nms"`."""
    return ",".join(remedy.key for remedy in parse_remedies(text))


def identity_of(text: str) -> str:
    """What makes these remedies others than before: their keys, and of the user's own the sha256 of their file."""
    return ",".join(f"{remedy.key}@{sha256(remedy.file)}" if remedy.file else remedy.key for remedy in parse_remedies(text))


def in_order(remedies: Sequence[Remedy]) -> tuple[Remedy, ...]:
    """The remedies as they are applied: what a later one reads an earlier one has changed."""
    return tuple(sorted(remedies, key=lambda remedy: (remedy.order, remedy.key)))


def excluding(remedies: Sequence[Remedy]) -> list[tuple[str, str]]:
    """The pairs of keys that cannot be combined."""
    keys = [remedy.key for remedy in remedies]
    pairs = {frozenset((remedy.key, other)) for remedy in remedies for other in remedy.excludes if other in keys}
    return sorted((first, second) for first, second in map(sorted, pairs))


def all_remedies() -> tuple[Remedy, ...]:
    """Every remedy, sorted by key. Raises ParameterError that names the file, and the line, of a user's that is broken."""
    shipped = {remedy.key: remedy for remedy in plugins(package, Remedy)}
    found = dict(shipped)
    for remedy in own_remedies():
        if remedy.key in found:
            whose = found[remedy.key].file or "the workbook"
            raise ParameterError(f"{remedy.file}: the key '{remedy.key}' is that of a remedy of {whose}: give it another one")
        found[remedy.key] = remedy
    return tuple(found[key] for key in sorted(found))


def own_remedies() -> list[Remedy]:
    """The remedies in the folder that WORKBOOK_REMEDIES names: every `*.py` that does not begin with `_`."""
    named = os.environ.get(OWN_FOLDER)
    if not named:
        return []
    folder = Path(named)
    if not folder.is_dir():
        raise ParameterError(f"{OWN_FOLDER}={named}: no such folder. Name the folder that holds your remedies, or unset it")
    files = sorted(path.absolute() for path in folder.glob("*.py") if not path.name.startswith("_"))
    return [remedy for path in files for remedy in _load(path, sha256(path))]


@lru_cache
def _load(path: Path, digest: str) -> tuple[Remedy, ...]:
    """The remedies that the file defines. digest: of its content, so that a file that was changed is loaded again."""
    spec = importlib.util.spec_from_file_location(f"workbook_own_remedy_{path.stem}_{digest[:8]}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise ParameterError(f"{blame(error, path)}. Mend it, or take it out of {path.parent}") from error
    found = [value for value in vars(module).values() if isinstance(value, Remedy)]
    if not found:
        raise ParameterError(f"{path}: no Remedy in it. A file of {OWN_FOLDER} defines at least one (see README); "
                             "one that begins with _ is passed over")
    for remedy in found:
        _require_sound(remedy, path)
    return tuple(replace(remedy, file=path) for remedy in found)


def _require_sound(remedy: Remedy, path: Path) -> None:
    if not remedy.key.isidentifier():
        raise ParameterError(f"{path}: the key {remedy.key!r} of its remedy is no name. Allowed: letters, digits and _")
    if not remedy.families or not set(remedy.families) <= set(FAMILIES):
        raise ParameterError(f"{path}: {remedy.key} has families={remedy.families!r}. Allowed: a tuple of some of {', '.join(FAMILIES)}")


def blame(error: BaseException, path: Path) -> str:
    """`remedies/mine.py, line 12: KeyError: 'scale'`: where in the user's file an error arose, and which."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f", line {lines[-1]}" if lines else ""
    return f"{path}{where}: {type(error).__name__}: {error}"
