"""The words of `overrides`, read without loading a model library: a wrong one is refused at once."""

from __future__ import annotations

import ast
from typing import Any


def parse_overrides(text: str) -> dict[str, Any]:
    """`"optimizer.lr=1e-3 model.rpn_head.anchor_generator.scales=[4]"` → a dict; values are Python literals, else strings.

    Raises ValueError for a piece without `=`.
    """
    found: dict[str, Any] = {}
    for piece in text.split():
        key, equals, value = piece.partition("=")
        if not (key and equals):
            raise ValueError(f"override '{piece}': write key=value, without spaces inside, several separated by a space")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = {"true": True, "false": False, "null": None}.get(value.lower(), value)
    return found
