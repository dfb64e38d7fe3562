"""How a parameter is read: the same from papermill (`-p`, `-r`, `-y`, `-f`), a notebook's cell, the command, or YAML.

Each room has a model of what may be asked of it (`DataParameters`, `Parameters`, ...), made of the types of this module. A value is
taken for what it means, or refused with its name and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from workbook.errors import ParameterError

SHOWN = 80  # characters of a refused value
BOUNDS = {"ge": "from {}", "gt": "over {}", "le": "to {}", "lt": "under {}"}
AS_TEXT = "as text with papermill's -r, in quotes in YAML or Python"
NAMES = ("dataset", "backbone", "pretrained", "load_from", "run", "other")  # of things and files, which may read as a number or as None


class Asked(BaseModel):
    """What every model of parameters has in common: unknown names are refused, and nothing is made of another kind silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], values: Mapping[str, Any]) -> Model:
    """The checked parameters. Raises ParameterError naming every unknown name and impossible value at once."""
    try:
        return model(**values)
    except ValidationError as error:
        lines = [f"  - {_explain(model, problem)}" for problem in error.errors()]
    raise ParameterError("\n".join(["these parameters cannot be used:", *lines])) from None


def _explain(model: type[BaseModel], problem: Any) -> str:
    name, got = str(problem["loc"][0]), problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such parameter. Allowed: {', '.join(model.model_fields)}"
    field = model.model_fields[name]
    reason = _reason(name, got, problem)
    sentences = (reason.removesuffix("."), _allowed(field), f"Meant for: {field.description}")
    return f"{name} = {_short(got)}: {'. '.join(filter(None, sentences))}"


def _reason(name: str, got: Any, problem: Any) -> str:
    if problem["type"] == "string_type":
        return _not_text(name, got)
    return "it is empty" if problem["type"] == "string_too_short" else str(problem["msg"]).removeprefix("Value error, ")


def _not_text(name: str, value: Any) -> str:
    """Why a value is no text. Only names that a person chooses may read as something else; other texts are words of a list."""
    made = {bool: "yes or no", int: "a number", float: "a number", type(None): "nothing"}.get(type(value))
    if made is None:
        return f"one text is needed, not {type(value).__name__}"
    words = f"text is needed, and papermill's -p and YAML make {made} of this word"
    return f"{words}. Where it is a name, give it {AS_TEXT}: -r {name} NAME" if name in NAMES else words


def _allowed(field: FieldInfo) -> str:
    """`Allowed: a whole number from 1 to 64`, of a number with bounds; empty for anything else."""
    bounds = [words.format(value) for key, words in BOUNDS.items() for rule in field.metadata
              if (value := getattr(rule, key, None)) is not None]
    kinds: dict[Any, str] = {int: "a whole number", float: "a number"}
    kind = kinds.get(field.annotation)
    return f"Allowed: {' '.join([kind, *bounds])}" if kind else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


# ---- the kinds of values ---------------------------------------------------------------------------------------------


def read_number(value: Any) -> Any:
    """A text that papermill's -p would read as a number is one, so that `-p` and `-r` are the same; 12.0 is 12. Anything else unchanged.

    Raises ValueError for a decimal comma.
    """
    if isinstance(value, str):
        if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", value):
            raise ValueError(f"write it with a point: {value.strip().replace(',', '.')}")
        read = as_papermill(value.strip())
        value = read if type(read) in (int, float) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_yes_no(value: Any) -> bool:
    """True and False, and these words in any capitals: papermill's -p knows True and False alone, and YAML true and false.

    Raises ValueError for anything else: most words and numbers count as yes in Python.
    """
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    raise ValueError("it is neither True nor False. Allowed: True, False")


WholeNumber = Annotated[int, BeforeValidator(read_number)]
Number = Annotated[float, BeforeValidator(read_number), Field(allow_inf_nan=False)]
YesNo = Annotated[bool, BeforeValidator(read_yes_no)]


def read_name(value: Any, there: Callable[[], Iterable[str]]) -> str:
    """A name as text. Where papermill or YAML made something else of it (2024, 007, 1e5, True), the one of `there` that they read so.

    there: the names that exist. Raises ValueError, with these names, when none of them or several read as `value`.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | dict):
        raise ValueError(f"one name is needed, not a {type(value).__name__}. There are: {', '.join(sorted(there())) or 'none'}")
    names = sorted(there())
    meant = [name for name in names if any(_same(value, read) for read in (as_papermill(name), as_yaml(name)))]
    if len(meant) == 1:
        return meant[0]
    which = f"it may be {' or '.join(meant)}" if meant else "no name that is there reads so"
    raise ValueError(f"papermill's -p and YAML make this of some names, and {which}. Give the name {AS_TEXT}. "
                     f"There are: {', '.join(names) or 'none'}")


def read_names(value: Any, there: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """Names separated by commas, or a list of names, as texts without repeats; () for none. Raises ValueError as `read_name`."""
    if isinstance(value, dict):
        raise ValueError(f"names are needed, with commas between them, not a dict. There are: {', '.join(sorted(there())) or 'none'}")
    listed = value if isinstance(value, list | tuple) else [read_name(value, there)]
    names = [part.strip() for one in listed for part in read_name(one, there).split(",")]
    return tuple(dict.fromkeys(filter(None, names)))


def as_papermill(text: str) -> Any:
    """What papermill's `-p NAME text` makes of the text: True, False, None, a whole number, a number, or the text."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_yaml(text: str) -> Any:
    """What YAML makes of the text without quotes; the text where it is no YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _same(one: Any, two: Any) -> bool:
    """Equal and of one kind: 1 is not True, and not a number is itself."""
    return type(one) is type(two) and repr(one) == repr(two)
