"""An image and its boxes turned by a quarter, for scenes without an up and a down."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.datasets.builder import PIPELINES


@PIPELINES.register_module()
class RandomQuarterTurn:
    """Turn the image and its boxes by 90 degrees to the left, with this probability; no pixel is interpolated.

    With mirroring along either axis before or after, every way in which a square can lie comes about.
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        if np.random.random() >= self.probability:
            return results
        width = results["img_shape"][1]
        results["img"] = np.ascontiguousarray(np.rot90(results["img"]))
        results["img_shape"] = results["img"].shape
        results["pad_shape"] = results["img"].shape
        results["scale_factor"] = results["scale_factor"][[1, 0, 3, 2]]
        for field in results.get("bbox_fields", []):
            results[field] = turned(results[field], width)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(probability={self.probability})"


def turned(boxes_xyxy: np.ndarray, width: float) -> np.ndarray:
    """The boxes [n, 4] after a turn of the image by 90 degrees to the left. width: of the image before it, pixels."""
    x1, y1, x2, y2 = boxes_xyxy.T
    return np.stack([y1, width - x2, y2, width - x1], axis=1).astype(boxes_xyxy.dtype)
