"""What FiftyOne is given of diagnosed runs: truth with its trace, predictions with COCO's match. Reads run folders alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from workbook.data.reading import DataError, is_crowd
from workbook.diagnosis.diagnose import EXCUSED, FALSE, TRUE, UNCOUNTED
from workbook.diagnosis.store import SavedDiagnosis, load
from workbook.diagnosis.suspects import NO_LABEL, OTHER_CLASS, Suspects, find_suspects
from workbook.errors import RunError
from workbook.evaluation.sizes import size_of
from workbook.runs.folder import Run
from workbook.runs.listing import finished_run, open_run, split_names

# Attribute of an object in FiftyOne → the trace's column that it shows. With several runs each has its own, `stage_<run>`.
OBJECT_ATTRIBUTES: dict[str, str] = {
    "stage": "stage", "detected": "detected", "candidate_iou": "candidate_iou", "class_score": "class_score",
    "box_iou": "box_iou", "score": "score", "false_above": "false_above", "lost_to": "lost_to",
    "named_class": "named_class", "named_score": "named_score", "resized_area": "resized_area",
}
# The outcome of a prediction in words, beside the kinds of false positives.
OUTCOMES = {TRUE: "true", EXCUSED: "in a crowd", UNCOUNTED: "beyond 100 of its class"}


@dataclass(frozen=True)
class Browsed:
    """One diagnosed run as its folder holds it. `field` is its name in FiftyOne."""

    diagnosis: SavedDiagnosis
    field: str

    @property
    def run(self) -> Run:
        return self.diagnosis.run

    @cached_property
    def suspects(self) -> Suspects:
        """The labels to look at."""
        return find_suspects(self.diagnosis.trace, self.diagnosis.detections)


def open_runs(names: Sequence[str] | str) -> list[Run]:
    """The runs of these names (or separated by commas), oldest first and each once; without any, the newest finished one."""
    wanted = split_names(names)
    runs = {(run := open_run(name)).folder.resolve(): run for name in wanted}
    if not wanted:
        return [finished_run()]
    return sorted(runs.values(), key=lambda run: (str(run.record.get("started")), run.name))


def read_runs(runs: Sequence[Run]) -> list[Browsed]:
    """Their diagnosis, predictions and truth. Raises RunError that lists all runs that cannot be browsed, and why."""
    problems, read = [], []
    for run in runs:
        try:
            read.append(Browsed(load(run), re.sub(r"\W", "_", run.name)))
        except (RunError, DataError) as error:
            problems.append(f"{run.name}: {error}")
    if problems:
        raise RunError("cannot be browsed:\n  " + "\n  ".join(problems))
    hashes = {run.name: (run.record.get("data") or {}).get("hash") for run in runs}
    if len(set(hashes.values())) > 1:
        listed = "\n  ".join(f"{run.name}: {run.record['data']['name']} ({str(hashes[run.name])[:8]})" for run in runs)
        raise RunError(f"these runs are of different data, and one picture cannot show them together:\n  {listed}\n"
                       "Browse those of one data set at a time")
    return read


def images(browsed: Browsed) -> dict[int, dict[str, Any]]:
    """Image id → its entry, in the order of the file."""
    return {image["id"]: image for image in browsed.diagnosis.ground_truth["images"]}


def object_labels(runs: Sequence[Browsed], dataset: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(image id, attributes of a detection) of every object, crowds too; those have no stage.

    With several runs `stage`, which gives the color, is that of the first run that misses it, or of the first when all find it.
    """
    first, places = runs[0], images(runs[0])
    names = {category["id"]: category["name"] for category in first.diagnosis.ground_truth["categories"]}
    facts = [(suffix(run, runs), _facts(run)) for run in runs]
    for a in first.diagnosis.ground_truth["annotations"]:
        own = [of_run.get(a["id"], {}) for _, of_run in facts]
        losing = next((said for said in own if said and not said["detected"]), own[0])
        yield a["image_id"], {
            "id": label_id(dataset, "ground_truth", a["id"]), "label": names[a["category_id"]],
            "bounding_box": _relative(a["bbox"], places[a["image_id"]]), "annotation_id": a["id"],
            "iscrowd": is_crowd(a), "area": float(a["area"]), "size": size_of(a["area"]),
            **({"stage": losing["stage"]} if losing else {}),
            **{f"{key}{end}": value for (end, _), said in zip(facts, own, strict=True) for key, value in said.items()},
        }


def _facts(run: Browsed) -> dict[int, dict[str, Any]]:
    """annotation_id → the attributes that the trace says of it; what it leaves empty is left out."""
    trace = run.diagnosis.trace
    columns = {name: column for name, column in OBJECT_ATTRIBUTES.items() if column in trace}
    rows = trace[list(columns.values())].set_axis(list(columns), axis=1).set_axis(trace["annotation_id"]).astype(object)
    rows["suspect"] = [OTHER_CLASS if doubted else None for doubted in run.suspects.mislabelled]
    rows = rows.where(rows.notna() & (rows != ""), None)
    return {id_: {str(key): value for key, value in row.items() if value is not None}
            for id_, row in zip(rows.index.tolist(), rows.to_dict("records"), strict=True)}


def prediction_labels(run: Browsed, dataset: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(image id, attributes of a detection) of every prediction of the run, with COCO's match as the diagnosis holds it."""
    sizes = {image["id"]: image for image in run.diagnosis.ground_truth["images"]}
    table = run.diagnosis.detections
    match = table["outcome"].map(OUTCOMES).where(table["outcome"] != FALSE, table["kind"])
    rows = zip(
        table["image_id"].tolist(), table["class"].tolist(), table["bbox"].tolist(), table["score"].tolist(), match.tolist(),
        table["area"].tolist(), table["annotation_id"].tolist(), table["iou"].tolist(), strict=True,
    )
    for row, (image_id, label, box, score, matched, area, annotation_id, iou) in enumerate(rows):
        yield image_id, {
            "id": label_id(dataset, run.field, row), "label": label, "bounding_box": _relative(box, sizes[image_id]),
            "confidence": float(score), "match": matched, "area": float(area), "size": size_of(area),
            "match_iou": None if pd.isna(iou) else float(iou),
            **({} if pd.isna(annotation_id) else {"annotation_id": int(annotation_id)}),
            **({"suspect": NO_LABEL} if run.suspects.unlabelled[row] else {}),
        }


def suffix(run: Browsed, runs: Sequence[Browsed]) -> str:
    """What ends the names of the attributes that are a run's own: nothing when it is alone."""
    return f"_{run.field}" if len(runs) > 1 else ""


def label_id(*parts: object) -> str:
    """The same 24 hex digits for the same box, whenever it is built: tags and selections hold on to them."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:24]


def _relative(bbox: Sequence[float], image: Mapping[str, Any]) -> list[float]:
    """x, y, width, height in pixels → the same as shares of the image, which FiftyOne wants."""
    x, y, width, height = bbox
    return [x / image["width"], y / image["height"], width / image["width"], height / image["height"]]
