"""Images without objects stay in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import FAMILIES, PIXELS, Context, MisfitError, Remedy, Source

if TYPE_CHECKING:
    from mmcv import Config


def apply(config: Config, context: Context) -> None:
    """mmdet leaves them out of training unless it is told not to."""
    if not config.data.train.get("filter_empty_gt", True):
        raise MisfitError("images without objects stay in training already: leave out this remedy, or empty_images=used")
    with_objects = {annotation["image_id"] for annotation in context.train["annotations"]}
    if all(image["id"] in with_objects for image in context.train["images"]):
        raise MisfitError("every image of train has an object, so there is none to add. Put photos without objects into train.json")
    config.data.train.filter_empty_gt = False


EMPTY_IMAGES = Remedy(
    key="empty_images",
    title="Images without objects",
    about="images of train without any object stay in training, as examples of what is none",
    stages=("ranking",),
    families=FAMILIES,
    trains=True,
    cost="more steps an epoch, by the share of such images",
    sources=(
        Source("github.com/open-mmlab/mmdetection#5020", "the maintainers' answer to false alarms: filter_empty_gt=False"),
        Source("github.com/open-mmlab/mmdetection#2014", "mAP often drops with it"),
    ),
    traps=("an image that nobody labelled is no image without objects: it teaches the detector to miss them",),
    apply=apply,
    order=PIXELS,
)
