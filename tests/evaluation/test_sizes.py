"""COCO's sizes: the ranges that pycocotools itself has, and to which of them an area belongs."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from workbook.evaluation.sizes import AREA_RANGES, SIZES, in_size, size_of, sizes_of


def test_the_ranges_are_those_of_pycocotools() -> None:
    params = Params(iouType="bbox")
    assert {name: list(bounds) for name, bounds in AREA_RANGES.items()} == dict(zip(params.areaRngLbl, params.areaRng, strict=True))


@pytest.mark.parametrize(("area", "sizes"), [
    (0, ("small",)), (0.5, ("small",)), (1, ("small",)), (1023, ("small",)), (1024, ("small", "medium")), (1025, ("medium",)),
    (9215, ("medium",)), (9216, ("medium", "large")), (9217, ("large",)), (2e10, ("large",)),
])
def test_a_border_is_of_both_and_its_size_is_the_smaller(area: float, sizes: tuple[str, ...]) -> None:
    assert sizes_of(area) == sizes and size_of(area) == sizes[0]
    assert [size for size in SIZES if in_size(np.array([area]), size)[0]] == [size for size in sizes if area <= 1e10]
