"""A claim of a study: what a person expects of two settings, in one line.

    pvtv2_b5 > pvtv2_b0 on bbox_mAP_s
    epochs=12 > epochs=1 on bbox_mAP
    lite2 = lite0 within .01 on bbox_mAP

A side is a backbone, or `parameter=value`. Both may be shortened while they stay unambiguous among the study's runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbook.errors import ParameterError
from workbook.evaluation.sizes import SIZES
from workbook.runs.folder import NOT_IDENTITY
from workbook.training.parameters import Parameters, check_parameters

FIGURES = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
FORM = "'LEFT > RIGHT on FIGURE' or 'LEFT = RIGHT within NUMBER on FIGURE'"
_FORM = re.compile(r"(?P<left>.+?)\s+(?P<sign>[><=])\s+(?P<right>.+?)(?:\s+within\s+(?P<margin>\S+))?\s+on\s+(?P<figure>\S+)")
# What two runs with another value of these cannot be compared in.
NOT_CLAIMED = {"dataset": "runs on other images cannot be paired", "seed": "seeds are the chance that the test is about"}


@dataclass(frozen=True)
class Side:
    """One setting: a parameter of a run and its value, as `Parameters` has it."""

    parameter: str
    value: Any

    @property
    def words(self) -> str:
        """The backbone's name, or `epochs=12`."""
        text = value_words(self.value)
        return text if self.parameter == "backbone" else f"{self.parameter}={text}"

    def selects(self, parameters: Parameters) -> bool:
        """Whether these are the parameters of one of its runs."""
        return bool(getattr(parameters, self.parameter) == self.value)


@dataclass(frozen=True)
class Claim:
    """That `left` scores more than `right` in a figure; with a margin, that the two differ by less than it."""

    text: str  # as the person wrote it
    left: Side
    right: Side
    figure: str  # bbox_mAP, bbox_mAP_s ...
    margin: float | None  # 0 to 1

    @property
    def parameter(self) -> str:
        """What the two sides differ in."""
        return self.left.parameter

    @property
    def size(self) -> str:
        """The size of objects that the figure counts: all, small, medium or large."""
        last = self.figure.removeprefix("bbox_mAP_")
        return next((size for size in SIZES if size[0] == last), "all")


def parse_claim(text: str, runs: Sequence[Parameters]) -> Claim:
    """The claim in a line of text. runs: those of the study. Raises ValueError with all that is wrong in it, and what is allowed."""
    found = match_form(text)
    wrong: list[str] = []
    sides = [_side(found[name], runs, wrong) for name in ("left", "right")]
    margin = _margin(found["sign"], found["margin"], wrong)
    figure = found["figure"]
    if figure not in FIGURES:
        wrong.append(f"unknown figure '{figure}'. Known: {', '.join(FIGURES)}")
    left, right = sides
    if left and right:
        wrong += _not_comparable(left, right)
    if wrong or not left or not right:
        raise ValueError(f"'{text}': {'; '.join(wrong)}")
    return Claim(text.strip(), left, right, figure, margin)


def match_form(text: str) -> re.Match[str]:
    """The parts of a claim. Raises ValueError for a text that is none."""
    found = _FORM.fullmatch(text.strip())
    if not found:
        raise ValueError(f"'{text}' is no claim. A claim is {FORM}, such as 'pvtv2_b5 > pvtv2_b0 on bbox_mAP_s'")
    return found


def value_words(value: Any) -> str:
    """A parameter's value as a person writes it: `400x400` for an image size, `none` for an empty text."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value) if value != "" else "none"


def _margin(sign: str, text: str | None, wrong: list[str]) -> float | None:
    if sign == "<":
        wrong.append("write the larger one first, with >")
    if sign != "=":
        if text is not None:
            wrong.append(f"'within' belongs to =, not to {sign}: leave it out, or write =")
        return None
    try:
        margin = float(text) if text is not None else 0.0
    except ValueError:
        margin = 0.0
    if not 0 < margin < 1:
        wrong.append("two settings are equal only within a margin between 0 and 1, such as 'within .01'")
    return margin


def _not_comparable(left: Side, right: Side) -> list[str]:
    if left.parameter != right.parameter:
        return [f"the two sides differ in two things, {left.parameter} and {right.parameter}. Claim one parameter at a time"]
    if left.value == right.value:
        return [f"both sides are {left.words}: there is nothing to compare"]
    if left.parameter in NOT_CLAIMED:
        return [f"{left.parameter} cannot be claimed: {NOT_CLAIMED[left.parameter]}. Claim a backbone, or another parameter of a run"]
    return []


def _side(text: str, runs: Sequence[Parameters], wrong: list[str]) -> Side | None:
    """The setting of one side; None, with the reason in `wrong`, when no run of the study is meant, or several kinds are."""
    name, equals, value = text.strip().partition("=")
    try:
        parameter = _full_name(name.strip()) if equals else "backbone"
        known = list(dict.fromkeys(getattr(run, parameter) for run in runs))
        return Side(parameter, _full_value(parameter, (value if equals else name).strip(), known))
    except ValueError as error:
        wrong.append(str(error))
        return None


def _full_name(name: str) -> str:
    """`image_size` for `image`: a parameter's name, or a part that only one name has."""
    if name in NOT_IDENTITY:
        raise ValueError(f"{name} cannot be claimed: runs that differ in it alone are the same run")
    names = [known for known in Parameters.model_fields if known not in NOT_IDENTITY]
    fits = [known for known in names if known == name] or [known for known in names if name and name in known]
    if len(fits) == 1:
        return fits[0]
    what = f"'{name}' may be {' or '.join(fits)}" if fits else f"no parameter '{name}'"
    raise ValueError(f"{what}. A side is a backbone, or parameter=value with one of: {', '.join(names)}")


def _full_value(parameter: str, text: str, known: Sequence[Any]) -> Any:
    """The value of a run of the study that the text means: its words, the same value written otherwise, or a part of one alone."""
    exact = [value for value in known if value_words(value) == text or value == _parsed(parameter, text)]
    fits = exact or [value for value in known if text and isinstance(value, str) and text in value]
    if len(fits) == 1:
        return fits[0]
    there = ", ".join(map(value_words, known)) or "none"
    if fits:
        raise ValueError(f"'{text}' may be {' or '.join(map(value_words, fits))}: write more of it")
    hint = "" if parameter != "backbone" else ". Other settings are written parameter=value"
    raise ValueError(f"no run of this study has {parameter} '{text}'. Its values: {there}{hint}")


def _parsed(parameter: str, text: str) -> Any:
    """The value as `Parameters` has it; None for one that no run can have."""
    kind = Parameters.model_fields[parameter].annotation
    try:
        value: Any = int(text) if kind is int else text
        return getattr(check_parameters({parameter: value}), parameter)
    except (ParameterError, ValueError):
        return None
