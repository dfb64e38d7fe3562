"""The detectors. One line adds one; each is a config that mmdet ships, inherited and never restated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Detector:
    """A config below mmdet's config folder and what the workbook must know of its kind.

    family: two_stage, dense or query, as the remedies and the diagnosis call its kind.
    own_optimizer: query detectors are trained with their own published optimizer whatever the backbone.
    known_steps: optimizer steps, and images a step, of the published training on COCO (118k images), where it is long.
    """

    key: str
    config: str
    family: str
    own_optimizer: bool = False
    known_steps: tuple[int, int] | None = None


DETECTORS: dict[str, Detector] = {
    entry.key: entry
    for entry in (
        Detector("faster_rcnn", "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py", "two_stage"),
        Detector("cascade_rcnn", "cascade_rcnn/cascade_rcnn_r50_fpn_1x_coco.py", "two_stage"),
        Detector("retinanet", "retinanet/retinanet_r50_fpn_1x_coco.py", "dense"),
        Detector("vfnet", "vfnet/vfnet_r50_fpn_1x_coco.py", "dense"),
        # 150 epochs of 117,266 images with objects / 16 (the config); DETR's paper trains 300 to 500 epochs (arXiv:2005.12872)
        Detector("detr", "detr/detr_r50_8x2_150e_coco.py", "query", own_optimizer=True, known_steps=(1_099_350, 16)),
        # 50 epochs / 32 images (the config; arXiv:2010.04159)
        Detector(
            "deformable_detr",
            "deformable_detr/deformable_detr_r50_16x2_50e_coco.py",
            "query",
            own_optimizer=True,
            known_steps=(183_200, 32),
        ),
    )
}


def find_detector(key: str) -> Detector:
    """The entry of `key`. Raises ValueError listing the known ones."""
    if key not in DETECTORS:
        raise ValueError(f"unknown detector '{key}'. Known: {', '.join(DETECTORS)}")
    return DETECTORS[key]


def step_budget_warning(detector: Detector, steps: int, batch_size: int, load_from: str) -> str | None:
    """A sentence when a detector gets under a tenth of the images it was published with, and starts without its weights."""
    if detector.known_steps is None or load_from:
        return None
    known, images = detector.known_steps
    if steps * batch_size >= 0.1 * known * images:
        return None
    return (
        f"{detector.key} is known to need about {known:,} steps of {images} images ({known * images / 1e6:.1f} million images) "
        f"from an ImageNet backbone; this run gives it {steps:,} steps of {batch_size} ({steps * batch_size:,} images). "
        "Expect a very low mAP: that says nothing about the detector. Start from COCO weights with `load_from=/path/to/coco.pth`."
    )
