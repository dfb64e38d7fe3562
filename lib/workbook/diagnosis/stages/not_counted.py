"""What COCO cannot count: over 100 objects of a class in an image. No part of the detector can mend it."""

from __future__ import annotations

import pandas as pd

from workbook.diagnosis.stage import SortKey, Stage

LIMIT = "100 of a class"  # trace's lost_to

TILES = "tiles, so that no image holds more objects than COCO counts (100 of a class)"


def _over_the_limit(trace: pd.DataFrame) -> pd.Series:
    return ~trace["found"] & (trace["lost_to"] == LIMIT) & trace["over_limit"]


NOT_COUNTED = Stage(
    name="not counted",
    question="Does its image hold no more than the 100 objects of a class that COCO counts?",
    color="#999999",
    hatch="+++",
    order=35,
    loses=_over_the_limit,
    sort_key=SortKey("area", highest_first=True, words="the largest first"),
    caption=lambda row: LIMIT,
    lost=("{n} is found, but beyond the 100 of its class that COCO counts in an image",
          "{n} are found, but beyond the 100 of their class that COCO counts in an image"),
    oracle=None,
    remedies=(TILES, "an evaluation with more detections of a class (maxDets), where 100 is not what you need"),
)
