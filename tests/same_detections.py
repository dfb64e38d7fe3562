"""Whether two programs have found the same."""

from __future__ import annotations

from typing import Any

import numpy as np


def require_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The same boxes and scores to 1e-3 pixels and 1e-4, in any order."""
    assert len(ours) == len(theirs) > 0
    kinds = {(entry["image_id"], entry["category_id"]) for entry in ours}
    assert kinds == {(entry["image_id"], entry["category_id"]) for entry in theirs}
    for kind in kinds:
        one, two = (np.array([[*e["bbox"], 10 * e["score"]] for e in found if (e["image_id"], e["category_id"]) == kind])
                    for found in (ours, theirs))
        assert one.shape == two.shape
        apart = np.abs(one[:, None] - two[None]).max(axis=2)
        assert apart.min(axis=0).max() < 1e-3 and apart.min(axis=1).max() < 1e-3, kind
