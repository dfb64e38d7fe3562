"""COCO's sizes of objects, the one home of their borders: small to 32², medium 32² to 96², large from 96² (pixels²).

A border belongs to both of its sizes, as pycocotools counts it (cocoeval.py, `Params.areaRng`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line loads this module for its names alone
    from collections.abc import Sequence

    import numpy as np

ALL = "all"
# size → lowest and highest area in pixels², both inside
AREA_RANGES: dict[str, tuple[float, float]] = {
    ALL: (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10),
}
SIZES = ("small", "medium", "large")
# size → the name of its AP
FIGURE_OF = {ALL: "bbox_mAP", "small": "bbox_mAP_s", "medium": "bbox_mAP_m", "large": "bbox_mAP_l"}


def sizes_of(area: float) -> tuple[str, ...]:
    """The size of an object of `area` pixels²: one, or two on a border, the smaller first."""
    return tuple(size for size in SIZES if AREA_RANGES[size][0] <= area and (size == "large" or area <= AREA_RANGES[size][1]))


def size_of(area: float) -> str:
    """small, medium or large; a border belongs to the smaller one, so that the sizes add up."""
    return sizes_of(area)[0]


def in_size(areas: np.ndarray | Sequence[float], size: str) -> np.ndarray:
    """[n] bool: the areas (pixels²) that COCO counts as of this size, borders in both; `all` is every one."""
    import numpy as np

    low, high = AREA_RANGES[size]
    areas = np.asarray(areas, float)
    return (low <= areas) & (areas <= high)
