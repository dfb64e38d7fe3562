"""The first stage of a detector with queries."""

from workbook.diagnosis.oracle import oracle_candidates
from workbook.diagnosis.stage import Stage
from workbook.diagnosis.stages.proposals import FIRST_SORT, cut_or_iou, why_without, without_candidates

QUERIES = Stage(
    name="queries",
    question="Is the box of any query on the object?",
    color="#D55E00",
    hatch="///",
    order=10,
    families=("query",),
    loses=without_candidates,
    sort_key=FIRST_SORT,
    caption=cut_or_iou,
    lost=("{n} has no query on it", "{n} have no query on them"),
    oracle=oracle_candidates,
    remedies=(
        "more queries than an image has objects: model.bbox_head.num_query",
        "longer training, or COCO weights to start from: queries learn slowly where the objects are",
        "a detector with several feature maps (deformable_detr) for small objects",
    ),
    reasons=why_without,
)
