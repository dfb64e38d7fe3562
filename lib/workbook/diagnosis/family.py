"""What a family of detectors is: how to read one image inside it, and how it assigns objects. Each is a file of `families/`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from workbook.diagnosis.oracle import Candidates, ImageObjects
from workbook.diagnosis.stage import Stage, stages_of
from workbook.evaluation.boxes import to_xyxy
from workbook.models.assigners import Assigned
from workbook.models.hooks import cached_features
from workbook.plugins import plugins


@dataclass(frozen=True)
class ImageProbe:
    """One image inside the detector. The three arrays [objects] say how far its first stage got with each object."""

    candidates: Candidates
    oracle_candidates: Candidates
    candidate_iou: np.ndarray  # [objects] the best candidate; where none is left on the object: before it was cut
    candidate_rank: np.ndarray  # [objects] that candidate's rank by score, from 1; NaN when cut
    candidate_cut: np.ndarray  # [objects] what cut the last candidate on the object, "" when one is left
    rank: np.ndarray  # [candidates] of each by score, from 1


class Family:
    """A kind of detector, or of what is left of one: its words, and the stages that its costs are split into."""

    key: ClassVar[str]
    candidate_noun: ClassVar[str]  # what its candidates are called, in the plural
    own_stages: ClassVar[tuple[Stage, ...]] = ()  # beside those that every family has, or that name it
    cut_words: ClassVar[Mapping[str, str]]  # ImageProbe.candidate_cut → why no candidate is on the object

    @cached_property
    def parts(self) -> tuple[Stage, ...]:
        """Every stage in its order, with those that no oracle can mend: what the cost of a detector is split into."""
        found = [*self.own_stages, *(stage for stage in stages_of(self.key) if stage not in self.own_stages)]
        return tuple(sorted(found, key=lambda stage: stage.order))

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have an oracle, in their order."""
        return tuple(stage for stage in self.parts if stage.oracle is not None)


class ModelFamily(Family, ABC):
    """A kind of detector whose model is at hand: which models are of it, and what one image is inside it.

    A detector of a new kind is one file with a subclass and an instance of it. Where `assign` is not known the table of
    what can be assigned is left out, and the rest of the diagnosis is still made.
    """

    @abstractmethod
    def matches(self, model: nn.Module) -> bool:
        """Whether this detector is of the family."""

    @abstractmethod
    def read(
        self, model: Any, features: Any, batch: dict[str, Any], objects: ImageObjects
    ) -> tuple[ImageProbe, list[np.ndarray]]:
        """One image read inside the detector, and what the detector's own `simple_test` gave: [n, 5] boxes a class."""

    @abstractmethod
    def assigner_head(self, model: Any) -> Any:
        """The head whose assigner decides which anchors (points, queries) learn an object."""

    @abstractmethod
    def assign(self, model: Any, gt_boxes_xyxy: np.ndarray, resized: Mapping[str, Any]) -> Assigned:
        """What the assigner of the training makes of one image's boxes [boxes, 4], pixels of the network's input.

        resized: the image's meta after the pipeline's resize and pad. Raises UnknownAssignerError for an assigner that
        is not known here.
        """

    @torch.no_grad()
    def finest_stride(self, model: Any) -> float:
        """Pixels of the network's input that one cell of the finest feature map covers."""
        head = self.assigner_head(model)
        if hasattr(head, "prior_generator"):
            return float(min(min(stride) for stride in head.prior_generator.strides))
        side = 128
        device = next(model.parameters()).device
        levels = model.extract_feat(torch.zeros(1, 3, side, side, device=device))
        return side / max(level.shape[-1] for level in levels)

    @torch.no_grad()
    def probe(self, model: nn.Module, batch: dict[str, Any], objects: ImageObjects) -> ImageProbe:
        """One image (a batch of one, as validation makes it) through the detector's own test run, and all that was in it.

        Raises RuntimeError when the detections read here are not those that the detector gave, to the last digit.
        """
        # as mmdet's forward_test does: DETR's masks are of this size
        batch["img_metas"][0]["batch_input_shape"] = tuple(batch["img"].shape[-2:])
        with cached_features(model, batch["img"]) as features:
            found, boxes_by_class = self.read(model, features, batch, objects)
        _require_same(found.candidates, boxes_by_class)
        return found


def families() -> tuple[Family, ...]:
    """Every family that there is a file of."""
    from workbook.diagnosis import families as package

    return tuple(plugins(package, Family))


def family_of(model: nn.Module) -> ModelFamily:
    """The family of this detector, the most special one that matches. Raises ValueError for one of no known family."""
    of_models = [family for family in families() if isinstance(family, ModelFamily)]
    matching = [family for family in of_models if family.matches(model)]
    if matching:
        return max(matching, key=lambda family: len(type(family).__mro__))
    known = ", ".join(family.candidate_noun for family in of_models)
    raise ValueError(f"{type(model).__name__} has none of {known}: the diagnosis does not know its stages")


def family_by_key(key: str) -> Family:
    """The family that a saved diagnosis names. Raises ValueError when there is none."""
    for family in families():
        if family.key == key:
            return family
    raise ValueError(f"no family of detectors is called '{key}'. There are: {', '.join(family.key for family in families())}")


def prune(candidates: Candidates) -> Candidates:
    """Without the predictions that can never be reported: under the threshold, and of a candidate on no object."""
    needed = candidates.suppressed.eligible | (candidates.object_of >= 0)
    return candidates if needed.all() else candidates.take(np.flatnonzero(needed))


def _require_same(candidates: Candidates, boxes_by_class: list[np.ndarray]) -> None:
    suppressed = candidates.suppressed
    rows, scores = suppressed.reported, suppressed.scores[: suppressed.limit]
    read = np.column_stack([to_xyxy(candidates.boxes_xywh[rows]), scores])
    for label, expected in enumerate(boxes_by_class):
        if not np.array_equal(read[candidates.label[rows] == label].astype(np.float32), expected):
            raise RuntimeError(
                "the detections read here are not those of the detector: is this mmdet 2.28, with its own heads?"
            )
