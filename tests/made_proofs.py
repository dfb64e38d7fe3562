"""Proofs with figures that a test chose."""

from __future__ import annotations

from dataclasses import replace

from workbook.proofs.store import ArmResult, Control, Cost, Proof, SizeProof, unmeasured

SMALL = SizeProof(0.070, 0.105, 0.035, 0.012, 0.058, 0.210)
SIZES = {
    "all": SizeProof(0.120, 0.131, 0.011, -0.004, 0.026, 0.180), "small": SMALL,
    "medium": SizeProof(0.180, 0.150, -0.030, -0.050, -0.010, 0.150), "large": SizeProof(None, None, None, None, None, None),
}


def arm(remedies: tuple[str, ...], kind: str, outcome: str, gain: float | None = None, seeds: int = 3, work: float | None = None):
    return ArmResult(
        remedies, kind, outcome, 0.21, seeds, 0.07 + (gain or 0.0), gain, None if gain is None else gain - 0.02,
        None if gain is None else gain + 0.02, 9, 60, work, 0.31 * (work or 1), 0.12, ("run-1",),
    )


def cost(name: str, times: float = 1.0) -> Cost:
    objects = {"all": 214, "small": 66, "medium": 148, "large": 0}
    recall = {"all": 0.6, "small": 0.4, "medium": 0.8, "large": None}
    return Cost((f"{name}-1", f"{name}-2"), "", int(222 * times), 102400.0, 70.0 * times, 0.31, 0.12, 41.5, 10, objects, recall)


ARMS = (
    arm((), "baseline", "the baseline of the search", None),
    arm(("soft_nms",), "evaluation", "no gain above its own error", 0.002),
    arm(("fitted_anchors",), "training", "part of the winner fitted_anchors+longer_training", 0.025, work=1.0),
    arm(("longer_training",), "training", "dropped after 1 seed", -0.004, seeds=1, work=2.0),
    arm(("fitted_anchors", "longer_training"), "combination", "the winner of the search", 0.041, work=2.0),
    unmeasured(("coco_start",), "training", "not tried: load_from is empty", 0.2),
    replace(unmeasured(("mended_labels",), "labels", "at most, if all 7 suspect labels of val were wrong"), score=0.082, gain=0.012),
)
PROVEN = Proof(
    run="faster_rcnn-tf_efficientnet_lite0-12345678", size="small", winner=("fitted_anchors", "longer_training"), seeds=(101, 102, 103),
    control=Control("the baseline trained for 24 epochs instead of 12", {**SIZES, "small": replace(SMALL, low=-0.002)}), sizes=SIZES,
    cost={"before": cost("before"), "after": cost("after", 2), "control": cost("control", 2)}, arms=ARMS,
)
UNPROVEN = replace(PROVEN, seeds=(), control=None, sizes={}, cost={})
CURVE = replace(
    unmeasured(("more_images",), "curve", "predicted for twice as many, from 7 images 0.031, 14 images 0.050, 28 images 0.069"),
    score=0.088, gain=0.019, low=0.004, high=0.034,
)
NOTHING_HELPS = replace(UNPROVEN, winner=(), arms=(*ARMS[:4], ARMS[5], ARMS[6], CURVE))
