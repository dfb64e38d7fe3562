"""torchvision's own Faster R-CNN beside the workbook's: what a user would take instead."""

from __future__ import annotations

from typing import Any

import torch
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d

from workbook.training.job import Job

LEARNED_STAGES = 3  # the stem and the first stage are frozen, as in mmdet's config


class Torchvision:
    """Faster R-CNN R50 with the images, sizes and RoIs of mmdet's config; the same layers and all norms are frozen.

    Put together from the parts of `torchvision.models.detection.fasterrcnn_resnet50_fpn`, which freezes them only with weights
    that need a network. compiled: its backbone and FPN by `torch.compile`; RPN and heads change their shapes with every image.
    """

    def __init__(self, job: Job, precision: str = "bf16", compiled: bool = False) -> None:
        size = job.parameters.image_size[0]
        backbone = _resnet_fpn_extractor(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), LEARNED_STAGES)
        self.model = FasterRCNN(
            backbone, len(job.dataset.classes) + 1, min_size=size, max_size=size, rpn_post_nms_top_n_train=1000,
            box_batch_size_per_image=512).to(job.device).train()
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(learned, lr=1e-5, momentum=0.9, weight_decay=1e-4)
        self.is_mixed = precision == "bf16"
        if compiled:
            # else a second size in the same process is compiled for any size, which is slower
            self.model.backbone = torch.compile(self.model.backbone, dynamic=False)

    def step(self, batch: dict[str, Any]) -> None:
        """One training step on a batch of the workbook's loader."""
        targets = [{"boxes": boxes, "labels": labels + 1} for boxes, labels in zip(batch["gt_bboxes"], batch["gt_labels"], strict=True)]
        with torch.autocast(batch["img"].device.type, torch.bfloat16, enabled=self.is_mixed):
            loss = sum(self.model(list(batch["img"]), targets).values())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        loss.item()  # as its reference training does, to see that it is finite
