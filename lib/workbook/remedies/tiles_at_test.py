"""A detector tested on windows of an image beside the whole of it, the detections merged."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from workbook.data.reading import SMALLEST_SIDE
from workbook.data.windows import OVERLAP
from workbook.remedies.base import FAMILIES, PIXELS, Context, MisfitError, Remedy, Source
from workbook.remedies.config import import_module, transforms

if TYPE_CHECKING:
    from mmcv import Config

STAGES = ("proposals", "candidates", "queries", "class", "box", "not counted")
MODULE = "workbook.data.tiles"  # registers the datasets and the loader that are named here
LOADER = "LoadImageFromFile"  # what a window's loader takes the place of: the first step of the pipelines


def apply(config: Config, context: Context) -> None:
    """Validation in windows, always scored on the uncut val file."""
    side = window_side(config, context)
    import_module(config, MODULE)
    use_windows(config, "val", "WindowedValDataset", side)


def window_side(config: Config, context: Context) -> int:
    """The side of a window in pixels of the original image.

    Two windows reach over the longer side of the median image of train; where that would shrink their pixels, they
    are as large as the image size of the run, so that small objects are shown at full resolution. Raises MisfitError
    where that is too small to train on.
    """
    longer = statistics.median(max(image["width"], image["height"]) for image in context.train["images"])
    of_two = math.ceil(longer / (2 - OVERLAP)) + 1
    [resize] = transforms(config, "val", "Resize")
    side = min(of_two, *resize["img_scale"])
    if side < SMALLEST_SIDE or side >= longer:
        raise MisfitError(f"half of the images of train have a longer side of {longer:g} pixels or less: too small for "
                          f"windows, which have at least {SMALLEST_SIDE} pixels")
    return side


def use_windows(config: Config, split: str, dataset: str, side: int) -> None:
    """This split read by a dataset of windows. dataset: the type of workbook.data.tiles."""
    part = config.data[split]
    part.type = dataset
    part.window_side = side
    part.pipeline[0].type = "LoadWindow"


def misfit(config: Config) -> str | None:
    for split in ("train", "val"):
        part = config.data[split]
        if str(part.type).startswith("Windowed"):
            return f"data.{split} is read in windows already"
        if part.type != "OrderedCocoDataset" or part.pipeline[0] != {"type": LOADER}:
            return (f"windows are cut where {LOADER} is the first step of OrderedCocoDataset, and data.{split} was changed "
                    "there")
    return None


TILES_AT_TEST = Remedy(
    key="tiles_at_test",
    title="Tiles when testing",
    about="each image is tested in windows beside its whole; of what several of them find, the surest stays",
    stages=STAGES,
    families=FAMILIES,
    trains=False,
    cost="evaluation takes as many passes as an image has windows, and one",
    sources=(
        Source("SAHI, arXiv:2202.06934; github.com/fcakyon/small-object-detection-benchmark",
               "VisDrone, AP50 of small objects: VFNet 16.8 → 22.4, FCOS 14.2 → 19.8, TOOD 18.1 → 23.8"),
    ),
    traps=(
        "a detector trained on whole images meets its objects larger than it knows them: the weaker half of tiles",
        "without the pass over the whole image large objects lose 5 points of AP50 (TOOD): it is always made",
        "more detections are reported in an image, up to COCO's 100 of a class: watch the ranking. On 71 photos of litter .17 "
        "instead of .02 of the small objects were found and AP_s did not rise (our try: a weak detector, 5 epochs, 320 px, three seeds)",
    ),
    apply=apply,
    misfit=misfit,
    order=PIXELS,
)
