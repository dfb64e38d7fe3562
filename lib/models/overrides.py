"""The words of `overrides`, read without loading a model library: a wrong one is refused at once."""

from __future__ import annotations

import ast
from typing import Any

# places of the config that have a parameter of their own, which is checked → its name
OWN = {"runner.max_epochs": "epochs", "data.samples_per_gpu": "batch_size", "seed": "seed", "load_from": "load_from"}


def parse_overrides(text: str) -> dict[str, Any]:
    """`"optimizer.lr=1e-3 model.rpn_head.anchor_generator.scales=[4]"` → a dict; values are Python literals, else strings.

    Raises ValueError for a piece without `=`, and for a place that has a parameter of its own.
    """
    found: dict[str, Any] = {}
    for piece in text.split():
        key, equals, value = piece.partition("=")
        if not (key and equals):
            raise ValueError(f"override '{piece}': write key=value, without spaces inside, several separated by a space")
        if key in OWN:
            raise ValueError(f"override '{piece}': use the parameter {OWN[key]} instead")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = {"true": True, "false": False, "null": None}.get(value.lower(), value)
    return found
