"""The first stage of a dense detector: the points of its feature maps."""

from workbook.diagnosis.oracle import oracle_candidates
from workbook.diagnosis.stage import Stage
from workbook.diagnosis.stages.proposals import FIRST_SORT, cut_or_iou, why_without, without_candidates

CANDIDATES = Stage(
    name="candidates",
    question="Does any point of the feature maps answer for the object, above the score threshold?",
    color="#D55E00",
    hatch="///",
    order=10,
    families=("dense",),
    loses=without_candidates,
    sort_key=FIRST_SORT,
    caption=cut_or_iou,
    lost=("{n} has no point that answers for it", "{n} have no point that answers for them"),
    oracle=oracle_candidates,
    remedies=(
        "larger images or tiles: a point must lie inside the object to be assigned to it",
        "a finer feature map (stride 4)",
        "a lower model.test_cfg.score_thr, a higher model.test_cfg.nms_pre",
    ),
    reasons=why_without,
)
