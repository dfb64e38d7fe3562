"""The stages an object passes in a detector. A stage that loses it is the reason why it is missed.

Plots, tables and FiftyOne views read names, questions, colors and remedies from here, and from nowhere else. The colors
are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which the color blind can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from workbook.diagnosis.oracle import (
    Replay,
    perfect_box,
    perfect_candidates,
    perfect_class,
    perfect_ranking,
    perfect_suppression,
)

DETECTED = "detected"  # what the trace says of an object that no stage loses
DETECTED_COLOR = "#009E73"
# Below this precision a detection is lost among false ones: at one half more of what is shown is false than true.
LEAST_PRECISION = 0.5


@dataclass(frozen=True)
class Stage:
    """One stage: its words, its color, and the replay in which it makes no mistake."""

    name: str
    question: str
    color: str
    remedies: tuple[str, ...]
    replay: Callable[[Replay], Replay]


Stages = tuple[Stage, Stage, Stage, Stage, Stage]  # candidates of some kind, class, box, suppression, ranking

TILES = "tiles, where an image holds more objects than are counted (100 of a class)"

PROPOSALS = Stage(
    "proposals",
    "Does the region proposal network put a box on the object?",
    "#D55E00",
    (
        "smaller anchors: model.rpn_head.anchor_generator.scales=[4], or the ratios of your objects",
        "larger images or tiles, so that the object covers more cells",
        "more proposals: model.test_cfg.rpn.nms_pre and max_per_img, a higher model.test_cfg.rpn.nms.iou_threshold",
    ),
    perfect_candidates,
)
CANDIDATES = Stage(
    "candidates",
    "Does any point of the feature maps answer for the object, above the score threshold?",
    "#D55E00",
    (
        "larger images or tiles: a point must lie inside the object to be taught",
        "a finer feature map (stride 4)",
        "a lower model.test_cfg.score_thr, a higher model.test_cfg.nms_pre",
    ),
    perfect_candidates,
)
QUERIES = replace(
    CANDIDATES,
    name="queries",
    question="Does any query look at the object?",
    remedies=(
        "more queries than an image has objects: model.bbox_head.num_query",
        "longer training, or COCO weights to start from: queries learn slowly where to look",
        "a detector with several feature maps (deformable_detr) for small objects",
    ),
)
CLASS = Stage(
    "class",
    "Is it given its own class, not another one and not background?",
    "#0072B2",
    (
        "more examples of the class, or of its small ones",
        "larger images: the head sees the object through few cells",
        "check the labels: are classes mixed up, or some objects not labelled?",
        "a stronger backbone or longer training",
    ),
    perfect_class,
)
BOX = Stage(
    "box",
    "Does the box fit well enough?",
    "#CC79A7",
    (
        "larger images: one pixel is a large part of a small box",
        "check that the boxes are drawn tightly and alike",
        "a detector that refines its boxes (cascade_rcnn, vfnet), or an IoU loss",
    ),
    perfect_box,
)
SUPPRESSION = Stage(
    "suppression",
    "Is the good box kept by NMS, by the limit of detections, and apart from its neighbour's?",
    "#E69F00",
    (
        "a higher NMS threshold or soft NMS where objects overlap: model.test_cfg.rcnn.nms",
        "a higher model.test_cfg.rcnn.max_per_img",
        TILES,
        "a lower score threshold: model.test_cfg.rcnn.score_thr",
    ),
    perfect_suppression,
)
DENSE_SUPPRESSION = replace(
    SUPPRESSION,
    remedies=(
        "a higher NMS threshold or soft NMS where objects overlap: model.test_cfg.nms",
        "a higher model.test_cfg.max_per_img",
        TILES,
    ),
)
QUERY_SUPPRESSION = replace(
    SUPPRESSION,
    question="Is its answer among those reported (there is no NMS), and not its neighbour's?",
    remedies=("a higher model.test_cfg.max_per_img", TILES),
)
RANKING = Stage(
    "ranking",
    "Does it score above the false detections?",
    "#F0E442",
    (
        "look at the false positives: unlabelled objects are the commonest",
        "images without objects, or hard negatives, in the training",
        "longer training; scores of small objects are often too low",
    ),
    perfect_ranking,
)

TWO_STAGE: Stages = (PROPOSALS, CLASS, BOX, SUPPRESSION, RANKING)
DENSE: Stages = (CANDIDATES, CLASS, BOX, DENSE_SUPPRESSION, RANKING)
QUERY: Stages = (QUERIES, CLASS, BOX, QUERY_SUPPRESSION, RANKING)
