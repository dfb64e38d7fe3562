"""Remedies into a config: what does not fit is refused, all at once, and what each changed is recorded."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbook.errors import ParameterError, WorkbookError
from workbook.remedies.base import Context, Remedy
from workbook.remedies.registry import blame, in_order

if TYPE_CHECKING:
    from mmcv import Config

Change = tuple[Any, Any]  # the value before and after; None where the key was not, or is no longer, there


@dataclass(frozen=True)
class Applied:
    """A remedy, and what it changed: key of the config, with dots, → before and after. Empty where it had nothing to do."""

    key: str
    changes: Mapping[str, Change]

    def to_json(self) -> dict[str, Any]:
        """As run.json has it."""
        return {"key": self.key, "changes": {key: {"before": before, "after": after} for key, (before, after) in self.changes.items()}}


def apply_remedies(config: Config, remedies: Sequence[Remedy], context: Context) -> tuple[Applied, ...]:
    """Change `config` in place by each remedy, in their order; gives what each changed.

    Raises ParameterError with every remedy that does not fit, and why; the config is then half changed and of no use.
    """
    ordered = in_order(remedies)
    if misfits := [f"{remedy.key}: {why}" for remedy in ordered if (why := why_not(remedy, config, context.family))]:
        raise ParameterError("remedies that do not fit this run:\n" + "\n".join(f"  - {line}" for line in misfits))
    return tuple(_apply(config, remedy, context) for remedy in ordered)


def why_not(remedy: Remedy, config: Config, family: str) -> str | None:
    """Why the remedy does not fit a detector of this family with this config; None when it fits."""
    if family not in remedy.families:
        return f"it is for detectors of the kind {' and '.join(remedy.families)}, and {config.model.type} is {family}"
    return _call(remedy, remedy.misfit, config)


def _apply(config: Config, remedy: Remedy, context: Context) -> Applied:
    before = copy.deepcopy(config._cfg_dict.to_dict())
    _call(remedy, remedy.apply, config, context)
    return Applied(remedy.key, changes(before, config._cfg_dict.to_dict()))


def _call(remedy: Remedy, function: Any, *arguments: Any) -> Any:
    """The function of a remedy; an error of the user's own names their file and line."""
    try:
        return function(*arguments)
    except WorkbookError as error:
        raise ParameterError(f"remedy {remedy.key}: {error}") from error
    except Exception as error:
        if remedy.file is None:
            raise
        raise ParameterError(f"remedy {remedy.key}: {blame(error, remedy.file)}. Mend it, or leave {remedy.key} out") from error


def changes(before: Any, after: Any, key: str = "") -> dict[str, Change]:
    """Every leaf that differs between two nested structures, by its key with dots.

    Lists of another length, and lists of plain values, count as one leaf. A dict that is new counts as one leaf.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        names = [*before, *(name for name in after if name not in before)]
        pairs = [(name, before.get(name), after.get(name)) for name in names]
    elif _comparable(before, after):
        pairs = [(str(place), one, other) for place, (one, other) in enumerate(zip(before, after, strict=True))]
    elif _plain(before) == _plain(after):
        return {}
    else:
        return {key: (before, after)}
    found: dict[str, Change] = {}
    for name, one, other in pairs:
        found |= changes(one, other, f"{key}.{name}" if key else name)
    return found


def _comparable(before: Any, after: Any) -> bool:
    """Whether two lists are to be compared item by item."""
    lists = isinstance(before, list | tuple) and isinstance(after, list | tuple)
    return lists and len(before) == len(after) and any(isinstance(item, dict) for item in before)


def _plain(value: Any) -> Any:
    """Tuples as lists: they mean the same in a config."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def overridden(overrides: Mapping[str, Any], applied: Sequence[Applied]) -> list[str]:
    """A sentence for each override that a remedy changes as well: one of them would be lost."""
    found = []
    for one in applied:
        for changed, (_, after) in one.changes.items():
            found += [
                f"the override {key} and the remedy {one.key} both set {changed}: leave one of them out"
                for key, value in overrides.items()
                if _is_touched(key, changed) and not _is_in_each(key.removeprefix(f"{changed}."), value, after)
            ]
    return list(dict.fromkeys(found))


def _is_touched(key: str, changed: str) -> bool:
    """Whether one of the two keys is the other, or lies within it."""
    return f"{key}.".startswith(f"{changed}.") or f"{changed}.".startswith(f"{key}.")


def _is_in_each(path: str, value: Any, after: Any) -> bool:
    """Whether one dict became a list of them which all have the value, as the head of Faster R-CNN becomes the three of a cascade."""
    return isinstance(after, list) and bool(after) and all(_plain(_at(item, path)) == _plain(value) for item in after)


def _at(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item
