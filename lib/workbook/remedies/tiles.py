"""A detector trained on windows of the images beside their whole, and tested in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbook.remedies import tiles_at_test
from workbook.remedies.base import FAMILIES, PIXELS, Context, Remedy, Source
from workbook.remedies.config import import_module

if TYPE_CHECKING:
    from mmcv import Config

EMPTY_SHARE = 0.1  # of the items of an epoch
# An anchor with more of its area than this in an ignored region is neither object nor background.
IGNORED_SHARE = 0.5


def apply(config: Config, context: Context) -> None:
    """Training and validation in windows of the same side; the pieces of objects are ignored where the detector can."""
    side = tiles_at_test.window_side(config, context)
    import_module(config, tiles_at_test.MODULE)
    tiles_at_test.use_windows(config, "train", "WindowedTrainDataset", side)
    tiles_at_test.use_windows(config, "val", "WindowedValDataset", side)
    config.data.train.empty_share = EMPTY_SHARE
    _ignore_pieces(config)


def _ignore_pieces(config: Config) -> None:
    """mmdet's MaxIoUAssigner alone takes anchors out of the loss: DETR has none, and VFNet's loss counts all points."""
    from workbook.models.config import nested_dicts

    assigners = [part["assigner"] for part in nested_dicts(config.model.train_cfg or {}) if "assigner" in part]
    if not assigners or any(assigner["type"] != "MaxIoUAssigner" for assigner in assigners):
        return
    for assigner in assigners:
        assigner["ignore_iof_thr"] = IGNORED_SHARE
    collect: Any = config.data.train.pipeline[-1]
    collect.update({"keys": [*collect["keys"], "gt_bboxes_ignore"]})  # which changes a list of the config's own


TILES = Remedy(
    key="tiles",
    title="Tiles",
    about="training on windows of the images beside their whole, cut while they are read, and testing in the same way",
    stages=tiles_at_test.STAGES,
    families=FAMILIES,
    trains=True,
    cost="an epoch shows each image and each window with objects, evaluation takes a pass for each; no copy on disk",
    sources=(
        Source("SAHI, arXiv:2202.06934; github.com/fcakyon/small-object-detection-benchmark",
               "VisDrone, AP50 of small objects: VFNet 16.8 → 29.6, FCOS 14.2 → 25.9, TOOD 18.1 → 31.7"),
        Source("PaddleDetection, configs/smalldet/README.md",
               "VisDrone val, PP-YOLOE-l trained on 640 px tiles: 29.7 mAP on whole images, 37.3 on merged tiles"),
    ),
    traps=(
        "AP on cut images is another number (38.5 for 37.3 above): here it is always that of the uncut val file",
        "objects are larger in a window than in the image: fit the anchors anew (fitted_anchors)",
        "a step is as expensive as before, but an epoch has several times as many: compare at the same steps",
    ),
    apply=apply,
    misfit=tiles_at_test.misfit,
    excludes=("tiles_at_test",),
    order=PIXELS,
)
