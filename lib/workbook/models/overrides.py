"""The words of `overrides`, read without loading a model library: a wrong one is refused at once."""

from __future__ import annotations

import ast
from typing import Any

# places of the config that have a parameter of their own, which is checked → its name; whatever lies below them too
OWN = {
    "runner": "epochs", "data.samples_per_gpu": "batch_size", "seed": "seed", "load_from": "load_from", "classes": "dataset",
    "data.train.ann_file": "dataset", "data.train.img_prefix": "dataset", "data.train.classes": "dataset",
    "data.val.ann_file": "dataset", "data.val.img_prefix": "dataset", "data.val.classes": "dataset",
    "data.train.filter_empty_gt": "empty_images",
    "model.type": "detector", "model.backbone.type": "backbone", "model.backbone.name": "backbone",
    "model.backbone.depth": "backbone",
    "model.backbone.init_cfg": "pretrained", "model.backbone.pretrained": "pretrained", "model.pretrained": "pretrained",
}
# places that nothing may change → why
FIXED = {
    "custom_imports": "a run loads the workbook's own modules alone",
    "data.train.type": "a run reads its images by the workbook's own data set",
    "data.val.type": "a run reads its images by the workbook's own data set",
    "data.train.test_mode": "a training needs the objects of its images",
    "data.val.test_mode": "every val image is measured",
    "data.val.filter_empty_gt": "every val image is measured, also those without objects",
}


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
        _require_free(piece, key)
        if key in found:
            raise ValueError(f"override '{piece}': {key} is given twice")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = {"true": True, "false": False, "null": None}.get(value.lower(), value)
    return found


def _require_free(piece: str, key: str) -> None:
    """Raises ValueError when the place is decided elsewhere, lies below such a one, or holds such a one."""
    for place, parameter in OWN.items():
        if f"{key}.".startswith(f"{place}."):
            raise ValueError(f"override '{piece}': use the parameter {parameter} instead")
        if place.startswith(f"{key}."):
            raise ValueError(f"override '{piece}': {place} in it is the parameter {parameter}. Give the other keys one by one")
    for place, reason in FIXED.items():
        if f"{key}.".startswith(f"{place}."):
            raise ValueError(f"override '{piece}': {place} cannot be changed, {reason}")
        if place.startswith(f"{key}."):
            raise ValueError(f"override '{piece}': {place} in it cannot be changed, {reason}. Give the other keys one by one")
