"""What FiftyOne is given of diagnosed runs: truth with its trace, predictions with COCO's match. Reads run folders alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbook.data.reading import DataError, is_crowd, read_coco
from workbook.diagnosis.suspects import NO_LABEL, OTHER_CLASS, Suspects, find_suspects
from workbook.errors import RunError
from workbook.evaluation.sizes import sizes_of
from workbook.files import read_json
from workbook.runs.folder import Run, list_runs, open_run

# Attribute of a truth in FiftyOne → the trace's column that it shows. With several runs each has its own, `stage_<run>`.
TRUTH_ATTRIBUTES: dict[str, str] = {
    "stage": "stage", "detected": "detected", "best_proposal_iou": "candidate_iou", "class_score": "class_score",
    "box_iou": "box_iou", "score": "score", "false_above": "false_above", "lost_to": "lost_to",
    "named_class": "named_class", "named_score": "named_score", "area_resized": "resized_area",
}
# What COCO makes of a prediction, besides the kinds of false positives in lib/workbook/diagnosis/false_positives.py.
FOUND, EXCUSED, UNCOUNTED = "true", "in a crowd", "beyond 100 of its class"


@dataclass(frozen=True)
class Browsed:
    """One diagnosed run. `field` is its name in FiftyOne; `truth` is COCO's dict of the classes it was trained for."""

    run: Run
    field: str
    truth: dict[str, Any]
    images_dir: Path
    iou: float  # from here on a box fits
    trace: pd.DataFrame  # one row a truth, index annotation_id
    stages: list[dict[str, Any]]  # name, question, color, remedies
    predictions: list[dict[str, Any]]  # COCO results

    @cached_property
    def matched(self) -> pd.DataFrame:
        """One row a prediction: match (`true`, a kind of false positive, ...), annotation_id and match_iou."""
        return _matched(self.truth, self.predictions, self.iou)

    @cached_property
    def suspects(self) -> Suspects:
        """The labels to look at."""
        match = self.matched["match"].to_numpy()
        return find_suspects(self.trace, np.array([found["score"] for found in self.predictions]), match, match)


def open_runs(names: Sequence[str] | str) -> list[Run]:
    """The runs of these names (or separated by commas), oldest first and each once; without any, the newest finished one."""
    wanted = [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]
    runs = {(run := open_run(name)).folder.resolve(): run for name in wanted}
    if not wanted:
        done = [run for run in list_runs() if run.status == "done"]
        if not done:
            raise RunError("no finished run: make one with `workbook run --backbone tf_efficientnet_lite0 --recipe finetune`")
        return done[-1:]
    return sorted(runs.values(), key=lambda run: (str(run.record.get("started")), run.name))


def read_runs(runs: Sequence[Run]) -> list[Browsed]:
    """Their diagnosis, predictions and truth. Raises RunError that lists all runs that cannot be browsed, and why."""
    problems, read = [], []
    for run in runs:
        try:
            read.append(_read(run))
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


def _read(run: Run) -> Browsed:
    from workbook.runs.config import read_config

    if run.status != "done":
        raise RunError(f"its status is {run.status}: finish it with the `workbook run` that began it")
    missing = [name for name in ("trace.parquet", "waterfall.json") if not (run.folder / name).is_file()]
    if missing:
        raise RunError(f"it has no {' and no '.join(missing)}: `workbook diagnose {run.name}` first")
    val, figures = read_config(run.folder / "config.py").data.val, read_json(run.folder / "waterfall.json")
    whole = read_coco(Path(val.ann_file))
    kept = {category["id"] for category in whole["categories"] if category["name"] in val.classes}
    truth: dict[str, Any] = {
        "images": whole["images"], "categories": [c for c in whole["categories"] if c["id"] in kept],
        "annotations": [a for a in whole["annotations"] if a["category_id"] in kept],
    }
    trace = pd.read_parquet(run.folder / "trace.parquet").set_index("annotation_id")
    if set(trace.index) != {a["id"] for a in truth["annotations"] if not is_crowd(a)}:
        raise RunError(f"its trace is not of the objects in {val.ann_file}: `workbook diagnose {run.name}` again")
    return Browsed(
        run, re.sub(r"\W", "_", run.name), truth, Path(val.img_prefix or ""), float(figures["iou"]), trace,
        figures["stages"], read_json(run.folder / "predictions.json"))


def _matched(truth: dict[str, Any], predictions: list[dict[str, Any]], iou: float) -> pd.DataFrame:
    from workbook.diagnosis import matching
    from workbook.diagnosis.false_positives import false_positives

    found = matching.match(truth, predictions, iou)
    words = {matching.TRUE: FOUND, matching.EXCUSED: EXCUSED, matching.UNCOUNTED: UNCOUNTED, matching.FALSE: ""}
    table = pd.DataFrame({"match": [words[outcome] for outcome in found.outcome.tolist()]})
    table["annotation_id"] = pd.array([pd.NA] * len(table), dtype="Int64")
    table["match_iou"] = np.nan
    hit = np.flatnonzero(found.outcome == matching.TRUE)
    taken = [truth["annotations"][place] for place in found.taken_truth[hit]]
    table.loc[table.index[hit], "annotation_id"] = [a["id"] for a in taken]
    boxes_xywh, gt_boxes_xywh = (np.array([entry["bbox"] for entry in entries]) for entries in ([predictions[row] for row in hit], taken))
    table.loc[table.index[hit], "match_iou"] = _iou(boxes_xywh, gt_boxes_xywh)
    false = false_positives(truth, predictions, found, iou).set_index("row")
    table.loc[false.index, "match"] = false["kind"]
    table.loc[false.index, "annotation_id"] = false["annotation_id"]
    table.loc[false.index, "match_iou"] = false["iou"]
    return table


def _iou(boxes_xywh: np.ndarray, gt_boxes_xywh: np.ndarray) -> np.ndarray:
    """[n] the IoU of each pair."""
    one, two = boxes_xywh.reshape(-1, 4), gt_boxes_xywh.reshape(-1, 4)
    upper = np.minimum(one[:, :2] + one[:, 2:], two[:, :2] + two[:, 2:])
    common = (upper - np.maximum(one[:, :2], two[:, :2])).clip(0).prod(axis=1)
    return common / (one[:, 2:].prod(axis=1) + two[:, 2:].prod(axis=1) - common)


def images(browsed: Browsed) -> dict[int, dict[str, Any]]:
    """Image id → its entry, in the order of the file."""
    return {image["id"]: image for image in browsed.truth["images"]}


def truth_labels(runs: Sequence[Browsed], dataset: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(image id, attributes of a detection) of every truth, crowds too; those have no stage.

    With several runs `stage`, which gives the color, is that of the first run that misses it, or of the first when all find it.
    """
    first, places = runs[0], images(runs[0])
    names = {category["id"]: category["name"] for category in first.truth["categories"]}
    facts = [(suffix(run, runs), _facts(run)) for run in runs]
    for a in first.truth["annotations"]:
        own = [of_run.get(a["id"], {}) for _, of_run in facts]
        losing = next((said for said in own if said and not said["detected"]), own[0])
        yield a["image_id"], {
            "id": label_id(dataset, "ground_truth", a["id"]), "label": names[a["category_id"]],
            "bounding_box": _relative(a["bbox"], places[a["image_id"]]), "annotation_id": a["id"],
            "iscrowd": is_crowd(a), "area": float(a["area"]), "size": sizes_of(a["area"])[0],
            **({"stage": losing["stage"]} if losing else {}),
            **{f"{key}{end}": value for (end, _), said in zip(facts, own, strict=True) for key, value in said.items()},
        }


def _facts(run: Browsed) -> dict[int, dict[str, Any]]:
    """annotation_id → the attributes that the trace says of it; what it leaves empty is left out."""
    rows = run.trace[list(TRUTH_ATTRIBUTES.values())].set_axis(list(TRUTH_ATTRIBUTES), axis=1).astype(object)
    rows["suspect"] = [OTHER_CLASS if doubted else None for doubted in run.suspects.mislabelled]
    rows = rows.where(rows.notna() & (rows != ""), None)
    return {id_: {str(key): value for key, value in row.items() if value is not None}
            for id_, row in zip(rows.index.tolist(), rows.to_dict("records"), strict=True)}


def prediction_labels(run: Browsed, dataset: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(image id, attributes of a detection) of every prediction of the run."""
    places = images(run)
    names = {category["id"]: category["name"] for category in run.truth["categories"]}
    columns = (run.matched[name].astype(object).where(run.matched[name].notna(), None).tolist() for name in run.matched)
    for row, (found, match, annotation_id, iou) in enumerate(zip(run.predictions, *columns, strict=True)):
        area = float(found["bbox"][2] * found["bbox"][3])
        yield found["image_id"], {
            "id": label_id(dataset, run.field, row), "label": names[found["category_id"]],
            "bounding_box": _relative(found["bbox"], places[found["image_id"]]), "confidence": float(found["score"]),
            "match": match, "area": area, "size": sizes_of(area)[0], "match_iou": iou,
            **({} if annotation_id is None else {"annotation_id": int(annotation_id)}),
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
