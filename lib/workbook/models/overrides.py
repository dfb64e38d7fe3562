"""The words of `overrides`, read without loading a model library: a wrong one is refused at once."""

from __future__ import annotations

import ast
from typing import Any

# places of the config that have a parameter of their own, which is checked → its name; whatever lies below them too
OWN = {"runner": "epochs", "data.samples_per_gpu": "batch_size", "seed": "seed", "load_from": "load_from", "classes": "dataset",
       "data.train.ann_file": "dataset", "data.train.img_prefix": "dataset", "data.val.ann_file": "dataset",
       "data.val.img_prefix": "dataset"}


def parse_overrides(text: str) -> dict[str, Any]:
    """`"optimizer.lr=1e-3 model.rpn_head.anchor_generator.scales=[4]"` → a dict; values are Python literals, else strings.

    Raises ValueError for a piece without `=`, a place given twice, one that has a parameter of its own or holds such a one, and one that
    is not to be changed.
    """
    found: dict[str, Any] = {}
    for piece in text.split():
        key, equals, value = piece.partition("=")
        if not (key and equals):
            raise ValueError(f"override '{piece}': write key=value, without spaces inside, several separated by a space")
        if own := next((OWN[place] for place in OWN if f"{key}.".startswith(f"{place}.")), None):
            raise ValueError(f"override '{piece}': use the parameter {own} instead")
        if below := next((place for place in OWN if place.startswith(f"{key}.")), None):
            raise ValueError(f"override '{piece}': {below} in it is the parameter {OWN[below]}. Give the other keys one by one")
        if key.partition(".")[0] == "custom_imports":
            raise ValueError(f"override '{piece}': a run loads the workbook's own modules alone")
        if key in found:
            raise ValueError(f"override '{piece}': {key} is given twice")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = {"true": True, "false": False, "null": None}.get(value.lower(), value)
    return found
