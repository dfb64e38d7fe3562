"""A study: a question, what a person expects, the runs that would show it. Read from `studies/NAME.yaml`.

    question: Do larger backbones find more small objects?
    hypothesis: The small ones lack detail, and a larger backbone has more of it.
    claims:
      - pvtv2_b5 > pvtv2_b0 on bbox_mAP_s
    grid:
      backbone: [pvtv2_b0, pvtv2_b5]
      seed: [0, 1, 2]
    references:
      - "Wang et al. 2022, PVT v2, https://arxiv.org/abs/2106.13797"

Only `grid` is needed: one grid, or a list of them. A file that is nothing but a grid, or a list of grids, is a study without claims.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from workbook.errors import ParameterError, WorkbookError
from workbook.studies.claim import Claim, match_form, parse_claim
from workbook.studies.grids import Grid, Value, combinations
from workbook.training.parameters import Parameters, check_parameters

TEXTS = ("question", "hypothesis")
LISTS = ("claims", "references")
KEYS = (*TEXTS, *LISTS, "grid")
GRID = "A grid maps parameters of a run to a value or a list of values"
_VALUES: TypeAdapter[Value | list[Value]] = TypeAdapter(Value | list[Value])


class StudyError(WorkbookError):
    """A study cannot be used; the message lists every reason with its line, and what to do."""


@dataclass(frozen=True)
class Study:
    """What is asked, what is expected, and which runs are to show it."""

    name: str
    file: str  # from which it was read
    question: str
    hypothesis: str
    claims: tuple[Claim, ...]
    grids: tuple[Grid, ...]  # options of the command are in them already
    references: tuple[str, ...]


def read_study(path: Path, options: Mapping[str, list[Value]]) -> Study:
    """The study of a YAML file; options replace keys of its grids. Raises StudyError with all that is wrong, by line."""
    if path.stem.startswith("."):
        raise StudyError(f"{path}: the name of a study is that of its file without .yaml, and the name of its folder, so it begins with no "
                         "point. Rename the file")
    file = _File.read(path)
    grids = [{**grid, **options} for grid in file.grids()]
    runs = file.runs(grids)
    claims = file.claims(runs)
    texts = {key: file.text(key) for key in TEXTS}
    references = file.texts("references")
    file.require_sound()
    return Study(path.stem, str(path.resolve()), texts["question"], texts["hypothesis"], tuple(claims), tuple(grids), tuple(references))


def read_grids(path: Path) -> list[Grid]:
    """The grids of a study's file alone. Raises StudyError that names every wrong line."""
    file = _File.read(path)
    grids = file.grids()
    file.require_sound()
    return grids


class _File:
    """The content of a study's file, and what is wrong with it so far: (line, words)."""

    def __init__(self, path: Path, content: Any, node: yaml.Node | None) -> None:
        self.path = path
        self.node = node
        self.wrong: list[tuple[int, str]] = _repeated_keys(node)
        self.content: Mapping[str, Any] = self._with_keys(content)

    @classmethod
    def read(cls, path: Path) -> _File:
        """Raises StudyError for a file that is not there or no YAML."""
        try:
            text = path.read_text()
            return cls(path, yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader))
        except OSError as error:
            there = ", ".join(sorted(map(str, Path("studies").glob("*.yaml")))) or "no studies/*.yaml here"
            raise StudyError(f"{path}: {error.strerror}. There are: {there}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise StudyError(f"{path} is no YAML: {error}") from error

    def _with_keys(self, content: Any) -> Mapping[str, Any]:
        """The content of a study; a mere grid or list of grids becomes the grid of one."""
        if not isinstance(content, dict) or not set(content) & set(KEYS):
            return {"grid": content}
        for key in content:
            if key not in KEYS:
                hint = f"; parameters of the runs belong under grid (line {self.line('grid')})" if key in Parameters.model_fields else ""
                self.add((key,), f"no such key '{key}'. Allowed: {', '.join(KEYS)}{hint}")
        if "grid" not in content:
            self.wrong.append((1, "no grid: a study says which runs it needs, such as 'grid: {backbone: [resnet50, swin_t]}'"))
        return content

    def line(self, *path: str | int) -> int:
        """The line of a key or an item of the file, from 1; the nearest one above it where it has none."""
        node = self.node
        line = 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line

    def add(self, where: Sequence[str | int], words: str) -> None:
        self.wrong.append((self.line(*where), words))

    def text(self, key: str) -> str:
        value = self.content.get(key)
        value = "" if value is None else value
        if not isinstance(value, str):
            self.add((key,), f"{key} is no text: {value!r}. Write one sentence, in quotes when it holds ': '")
            return ""
        return value.strip()

    def texts(self, key: str) -> list[str]:
        """A list of texts; one text alone is a list of one."""
        value = self.content.get(key)
        value = [] if value is None else value
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            self.add((key,), f"{key} is no list. Write one text a line, each after '- '")
            return []
        for number, item in enumerate(items):
            if not isinstance(item, str):
                self.add((key, number), f"{key} {number + 1} is no text: {item!r}. Put it in quotes")
        return [item for item in items if isinstance(item, str)]

    def claims(self, runs: Sequence[Parameters]) -> list[Claim]:
        """What a claim means depends on the runs there are; without any, its form alone is checked."""
        found: list[Claim] = []
        for number, text in enumerate(self.texts("claims")):
            try:
                match_form(text)
                if not runs:
                    continue
                claim = parse_claim(text, runs)
            except ValueError as error:
                self.add(("claims", number), str(error))
                continue
            if any((claim.left, claim.right, claim.figure, claim.margin) == (c.left, c.right, c.figure, c.margin) for c in found):
                self.add(("claims", number), f"'{text}' is claimed twice. Leave one out")
            found.append(claim)
        return found

    def grids(self) -> list[Grid]:
        """The grids whose form is right."""
        content = self.content.get("grid")
        is_one = isinstance(content, dict)
        listed = [content] if is_one else content
        if not isinstance(listed, list) or not listed:
            if "grid" in self.content:
                self.add(("grid",), f"{self.path.name} has no grid of runs. {GRID}, such as 'backbone: [resnet50, swin_t]'")
            return []
        found: list[Grid] = []
        for number, grid in enumerate(listed):
            where = self._where(() if is_one else (number,))
            if isinstance(grid, dict) and grid:
                found.append({key: grid[key] for key in grid if self._has_values(key, grid[key], where)})
            else:
                self.add(where, f"grid {number + 1} maps nothing. {GRID}")
        return found

    def _where(self, path: Sequence[str | int]) -> tuple[str | int, ...]:
        """The place of a grid in the file, which may be nothing but grids."""
        top = ("grid",) if _child(self.node, "grid") else ()
        return (*top, *path)

    def _has_values(self, key: Any, value: Any, where: Sequence[str | int]) -> bool:
        try:
            _VALUES.validate_python(value)
        except ValidationError:
            self.add((*where, key), f"{key}: {value!r} is neither a value (text or a number) nor a list of values. "
                                     "Put a name that YAML takes for something else (yes, null, 2024-01-01) in quotes")
            return False
        if value == []:
            self.add((*where, key), f"{key}: the list is empty. Give at least one value")
        return isinstance(key, str) and value != []

    def runs(self, grids: Sequence[Grid]) -> list[Parameters]:
        """The parameters of every run; what is wrong with them is noted once, at the line of its key."""
        found = []
        for number, grid in enumerate(grids):
            is_list = isinstance(self.content.get("grid"), list)
            where = self._where((number,) if is_list else ())
            for values in combinations([grid]):
                for key, words in _mistakes(values):
                    self.add((*where, key), words)
                known = {key: value for key, value in values.items() if key in Parameters.model_fields}
                if not _mistakes(known):  # a misspelt key hides no mistake of a claim
                    found.append(check_parameters(known))
        return found

    def require_sound(self) -> None:
        """Raises StudyError with all that was found, in the order of the file."""
        if self.wrong:
            lines = dict.fromkeys(f"  - line {line}: {words}" for line, words in sorted(self.wrong))
            raise StudyError("\n".join([f"{self.path} cannot be used:", *lines]))


def _mistakes(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, what is wrong with it) of the parameters of a run; the key is "" for a parameter that is not among them."""
    try:
        check_parameters(values)
    except ParameterError as error:
        lines = [line.strip().removeprefix("- ") for line in str(error).splitlines()[1:]]
        return [(next((key for key in values if re.match(rf"{re.escape(key)}\b", words)), ""), words) for words in lines]
    return []


def _child(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    """The line, from 1, and the node of a key or an item."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line + 1, value) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None


def _repeated_keys(node: yaml.Node | None, above: tuple[yaml.Node, ...] = ()) -> list[tuple[int, str]]:
    """YAML lets the last of two equal keys win, silently. above: the nodes that hold this one, which an alias may name again."""
    found: list[tuple[int, str]] = []
    if any(node is one for one in above):
        return found
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        found += [
            (key.start_mark.line + 1, f"'{key.value}' is there twice. Give all its values in one list, or make it a list of grids")
            for number, (key, _) in enumerate(node.value) if key.value in names[:number]
        ]
        children = [value for _, value in node.value]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    for child in children:
        found += _repeated_keys(child, (*above, node) if node else above)
    return found
