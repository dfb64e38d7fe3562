"""What mending labels could bring at most: the AP of a diagnosed run if every suspect label were as the detector says.

A bound and no gain: the detector is judged by its own opinion here. Its use is to say whether the labels are worth a look
before anything is trained. The saved views `label suspects` of `workbook browse` show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbook.diagnosis.store import SavedDiagnosis
from workbook.diagnosis.suspects import find_suspects
from workbook.evaluation.coco_metrics import evaluate
from workbook.evaluation.sizes import FIGURE_OF


@dataclass(frozen=True)
class LabelBound:
    """The AP of a size on val with the labels as they are, and with the suspects mended."""

    before: float | None
    after: float | None
    suspects: int

    @property
    def gain(self) -> float | None:
        """At most so much; None where val has no such object."""
        return None if self.before is None or self.after is None else self.after - self.before


def label_bound(diagnosis: SavedDiagnosis, size: str) -> LabelBound:
    """Count the AP of the size again as if the detector were right about every suspect label of val."""
    found = find_suspects(diagnosis.trace, diagnosis.detections)
    truth = diagnosis.ground_truth
    results = diagnosis.results.to_coco()
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    doubted = diagnosis.trace[found.mislabelled]
    classes = {id_: ids[name] for id_, name in zip(doubted["annotation_id"].tolist(), doubted["named_class"].tolist(), strict=True)}
    relabelled = [{**a, "category_id": classes.get(a["id"], a["category_id"])} for a in truth["annotations"]]
    missing = [_annotation(results[row]) for row in found.unlabelled.nonzero()[0]]
    figure = FIGURE_OF[size]
    before = evaluate(truth, results).metrics[figure]
    after = evaluate({**truth, "annotations": [*relabelled, *missing]}, results).metrics[figure]
    return LabelBound(before, after, len(classes) + len(missing))


def _annotation(result: dict[str, Any]) -> dict[str, Any]:
    """A detection as if it were an object."""
    _, _, width, height = result["bbox"]
    return {**{key: result[key] for key in ("image_id", "category_id", "bbox")}, "area": width * height, "iscrowd": 0, "id": 0}


