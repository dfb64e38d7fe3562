"""Small objects of the training images pasted into others, where they cover nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.data.reading import is_crowd
from workbook.evaluation.sizes import sizes_of
from workbook.remedies.base import DENSE, MODEL, QUERY, TWO_STAGE, Context, MisfitError, Remedy, Source
from workbook.remedies.config import import_module

if TYPE_CHECKING:
    from mmcv import Config

NUMBER = 3  # objects pasted into an image
BEFORE = "LoadAnnotations"  # the step of the pipeline behind which they are pasted


def apply(config: Config, context: Context) -> None:
    """Right behind the loading, in pixels of the original image. Raises MisfitError without small objects."""
    if not any("small" in sizes_of(a["area"]) for a in context.train["annotations"] if not is_crowd(a)):
        raise MisfitError("train has no small object (an area of at most 32² pixels) that could be pasted")
    import_module(config, "workbook.data.paste")
    loading, annotations, *others = config.data.train.pipeline
    pasting = type(loading)(type="PasteSmall", number=NUMBER)
    config.data.train.pipeline = [loading, annotations, pasting, *others]


def misfit(config: Config) -> str | None:
    steps = [step["type"] for step in config.data.train.pipeline]
    if "PasteSmall" in steps:
        return "data.train.pipeline pastes small objects already"
    if steps[1:2] != [BEFORE]:
        return f"objects are pasted behind the second step of data.train.pipeline, {BEFORE}, and it was changed there"
    return None


COPY_PASTE_SMALL = Remedy(
    key="copy_paste_small",
    title="Small objects pasted",
    about=f"{NUMBER} small objects of train are pasted into each training image, where they cover no other",
    stages=("proposals", "candidates", "queries", "class"),
    families=(TWO_STAGE, DENSE, QUERY),
    trains=True,
    cost="none that counts: some more reading of images, in the first epoch above all",
    sources=(
        Source("Kisantal et al. 2019, arXiv:1902.07296",
               "Mask R-CNN on COCO: AP of small objects +7.1% of its value for boxes, +9.7% for masks"),
    ),
    traps=(
        "the published gain came with a loss at the large objects",
        "an object stands where none of its kind would: scenes with a fixed order (a street) suffer from it",
        "what is rare stays rare: the same few small objects come again and again",
    ),
    apply=apply,
    misfit=misfit,
    order=MODEL,
)
