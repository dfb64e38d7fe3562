"""Diagnosed runs as a FiftyOne dataset with saved views: the misses themselves, by stage, as patches, the worst first.

A second call writes our fields and our saved views anew. Samples, their tags, the tags of the boxes, and fields and
views that the user made stay: a box keeps its id.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pandas as pd
from bson import ObjectId
from pymongo import UpdateOne

from workbook.browse.database import connect, database_folder, is_own, outputs_id
from workbook.browse.samples import OUTCOMES, Browsed, images, object_labels, prediction_labels, suffix
from workbook.data.images import image_path
from workbook.diagnosis.diagnose import TRUE
from workbook.diagnosis.false_positives import FALSE_KINDS
from workbook.diagnosis.stage import DETECTED, DETECTED_COLOR
from workbook.diagnosis.stages.box import BOX
from workbook.diagnosis.stages.classes import CLASS
from workbook.diagnosis.stages.ranking import RANKING
from workbook.diagnosis.stages.suppression import SUPPRESSION
from workbook.diagnosis.suspects import NO_LABEL, OTHER_CLASS
from workbook.files import shared_lock
from workbook.progress import progress_bar

if TYPE_CHECKING:  # it imports matplotlib, and `workbook browse` draws nothing
    from pandas.io.formats.style import Styler

OBJECTS = "ground_truth"
AT_ONCE = 200  # images whose boxes are written in one call
MANY = 500  # images from which on a bar is shown
OURS = "workbook_views"  # in the dataset's info: the names of the views that a rebuild may replace
# A false positive has the color of the stage that would have to be better.
MATCH_COLORS = {OUTCOMES[TRUE]: DETECTED_COLOR, "duplicate": SUPPRESSION.color, "wrong class": CLASS.color, "poor box": BOX.color,
                "background": RANKING.color, "wrong class and poor box": "#000000"}


@dataclass(frozen=True)
class SavedView:
    """A saved view of boxes as patches. `where` is an expression on the attributes of `field`."""

    name: str
    description: str
    color: str
    field: str
    where: Any
    sort_by: str
    highest_first: bool


def build(browsed: Sequence[Browsed]) -> Any:
    """The FiftyOne dataset of these runs (see `read_runs`) with its saved views, made or made anew; returns it, persistent.

    In a database that others use too, its name ends with the digits of the outputs folder. Raises BrowseError without a database.
    """
    fo = connect()
    name = dataset_name(browsed, "" if is_own() else outputs_id())
    with shared_lock(database_folder() / f".{name}.lock"):  # two at once would both add the images
        dataset = fo.load_dataset(name) if fo.dataset_exists(name) else _new_dataset(fo, name, browsed[0])
        _point_to_images(dataset, browsed[0])
        dataset.info["runs"] = [run.run.name for run in browsed]
        _write_labels(fo, dataset, OBJECTS, object_labels(browsed, name))
        for run in browsed:
            _write_labels(fo, dataset, run.field, prediction_labels(run, name))
        dataset.app_config.color_scheme = _colors(fo, browsed)
        _save_views(fo, dataset, saved_views(browsed))
    return dataset


def dataset_name(runs: Sequence[Browsed], outputs: str = "") -> str:
    """`<data>-<run>`, with several runs `<data>-<their hex digits>`: the same runs, the same dataset. `outputs` comes last, where given."""
    data, names = runs[0].run.record["data"]["name"], [run.run.name for run in runs]
    name = f"{data}-{names[0]}" if len(names) == 1 else "-".join([data, *(name.rsplit("-", 1)[-1] for name in names)])
    name = f"{name}-{outputs}" if outputs else name
    digits = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if len(name) <= 90 else f"{name[:80]}-{digits}"  # FiftyOne takes 100 characters


def _new_dataset(fo: Any, name: str, run: Browsed) -> Any:
    dataset = fo.Dataset(name, persistent=True)
    dataset.description = "Made by `workbook browse`: objects with the stage that loses them, and predictions with COCO's match"
    dataset.add_sample_field("image_id", fo.IntField)
    dataset.add_samples([
        fo.Sample(filepath=_file_of(run, image), image_id=image["id"],
                  metadata=fo.ImageMetadata(width=image["width"], height=image["height"]))
        for image in images(run).values()], dynamic=False)
    return dataset


def _point_to_images(dataset: Any, run: Browsed) -> None:
    """The samples show the images where they lie now: the data may have been moved since the dataset was made."""
    entries = images(run)
    image_ids, before = dataset.values(["image_id", "filepath"])
    now = [_file_of(run, entries[image_id]) for image_id in image_ids]
    if now != before:
        dataset.set_values("filepath", now)


def _file_of(run: Browsed, image: Mapping[str, Any]) -> str:
    return str(image_path(run.diagnosis.images_dir, image["file_name"]).absolute())


def _write_labels(fo: Any, dataset: Any, field: str, labels: Iterable[tuple[int, dict[str, Any]]]) -> None:
    """Replace the boxes of the field; the tags of those that were there stay.

    They go to the database as it keeps them (what `fo.Detection.to_dict` gives): as objects they take three times as long.
    """
    from fiftyone.core.odm import get_db_conn

    tags, types = _tags(dataset, field), {}  # type: dict[str, list[str]], dict[str, type]
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for image_id, attributes in labels:
        types |= {name: type(value) for name, value in attributes.items() if name not in types}
        id_ = attributes.pop("id")
        of_image[image_id].append({"_id": ObjectId(id_), "_cls": "Detection", "attributes": {}, "tags": tags.get(id_, []), **attributes})
    schema = dataset.get_field_schema(flat=True)
    if field not in schema:
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    kinds = {str: fo.StringField, bool: fo.BooleanField, int: fo.IntField, float: fo.FloatField}
    for name, kind in types.items():
        if kind in kinds and name not in ("id", "label", "confidence") and f"{field}.detections.{name}" not in schema:
            dataset.add_sample_field(f"{field}.detections.{name}", kinds[kind])
    now = datetime.now(UTC)
    ids, image_ids = dataset.values(["id", "image_id"])
    samples = list(zip(ids, image_ids, strict=True))
    collection = get_db_conn()[dataset._sample_collection_name]
    with progress_bar(len(samples), f"boxes of {field}", "image", quiet=len(samples) < MANY) as bar:
        for start in range(0, len(samples), AT_ONCE):
            some = samples[start : start + AT_ONCE]
            collection.bulk_write([
                UpdateOne({"_id": ObjectId(id_)}, {"$set": {
                    field: {"_cls": "Detections", "detections": of_image.pop(image_id, [])}, "last_modified_at": now}})
                for id_, image_id in some], ordered=False)
            bar.update(len(some))
    dataset.reload()


def _tags(dataset: Any, field: str) -> dict[str, list[str]]:
    """Box id → its tags, of those that have any."""
    if field not in dataset.get_field_schema():
        return {}
    ids, tags = dataset.values([f"{field}.detections.id", f"{field}.detections.tags"])
    return {id_: of_box for in_image in zip(ids, tags, strict=True)
            for id_, of_box in zip(*(part or [] for part in in_image), strict=True) if of_box}


def _colors(fo: Any, runs: Sequence[Browsed]) -> Any:
    """Objects by the stage that loses them (with several runs: in the first that misses it), predictions by COCO's match."""
    stages = {part.name: part.color for run in runs for part in run.diagnosis.family.parts}
    by_stage = {"path": OBJECTS, "colorByAttribute": "stage",
                "valueColors": [{"value": name, "color": color} for name, color in {**stages, DETECTED: DETECTED_COLOR}.items()]}
    by_match = [{"path": run.field, "colorByAttribute": "match",
                 "valueColors": [{"value": name, "color": color} for name, color in MATCH_COLORS.items()]} for run in runs]
    return fo.ColorScheme(color_by="value", fields=[by_stage, *by_match])


def saved_views(runs: Sequence[Browsed]) -> list[SavedView]:
    """What is worth a look, run by run, then what one run finds and another misses. Needs the connected fiftyone."""
    letters = [chr(ord("A") + number) if len(runs) > 1 else "" for number in range(len(runs))]
    found = [view for run, letter in zip(runs, letters, strict=True) for view in _of_run(run, letter, suffix(run, runs))]
    for (one, a), (two, b) in permutations(zip(runs, letters, strict=True), 2):
        found.append(_missed_and_found(one, a, two, b, runs))
    return found


def _of_run(run: Browsed, letter: str, end: str) -> list[SavedView]:
    from fiftyone import ViewField as F

    before, whose = (f"{letter} · ", f" Run {letter} is {run.run.name}.") if letter else ("", "")
    small, missed = F("size") == "small", F(f"detected{end}") == False  # noqa: E712  an expression of the database
    views = []
    family = run.diagnosis.family
    for part in family.parts:
        key = part.sort_key
        views.append(SavedView(
            f"{before}small: lost at {part.name}",
            f"{part.question} Small objects for which the answer is no, {key.words}. "
            f"What may help: {'; '.join(part.remedies_for(family.key))}.{whose}",
            part.color, OBJECTS, small & (F(f"stage{end}") == part.name),
            key.column if key.column == "area" else f"{key.column}{end}", key.highest_first))
    views.append(SavedView(
        f"{before}small: all missed", f"Small objects that COCO does not count as found (IoU {run.diagnosis.iou:g}), the largest "
        f"first.{whose}", "#56B4E9", OBJECTS, small & missed, "area", True))
    views.append(SavedView(
        f"{before}small: false positives", "Small detections that COCO counts as false, the surest first; "
        f"`match` says of which kind.{whose}", RANKING.color, run.field, small & F("match").is_in(list(FALSE_KINDS)), "confidence", True))
    sure = run.suspects.sure
    views.append(SavedView(
        f"{before}label suspects: not labelled",
        f"Detections near no object of which the detector is sure (score {sure:.2f} or more), the surest first: was an object "
        f"forgotten?{whose}", "#999999", run.field,
        F("suspect") == NO_LABEL, "confidence", True))
    views.append(SavedView(
        f"{before}label suspects: wrong class",
        f"Missed objects that the detector surely (score {sure:.2f} or more) takes for another class, the surest first: is the "
        f"label right?{whose}", "#999999", OBJECTS,
        F(f"suspect{end}") == OTHER_CLASS, f"named_score{end}", True))
    return views


def difference_name(one: Browsed, a: str, two: Browsed, b: str) -> str:
    """What the view of the objects is called that `one` (run a) misses and `two` (run b) finds."""
    if _adds_remedies(one, two):
        return f"missed before, found now ({a} to {b})"
    if _adds_remedies(two, one):
        return f"found before, missed now ({b} to {a})"
    return f"missed by {a}, found by {b}"


def _adds_remedies(before: Browsed, after: Browsed) -> bool:
    """Whether the second run is the first with remedies more, and nothing else."""
    parameters = [dict(run.run.record["parameters"]) for run in (before, after)]
    first, second = (set(filter(None, str(asked.pop("remedies", "")).split(","))) for asked in parameters)
    return parameters[0] == parameters[1] and first < second


def _missed_and_found(one: Browsed, a: str, two: Browsed, b: str, runs: Sequence[Browsed]) -> SavedView:
    from fiftyone import ViewField as F

    ends = suffix(one, runs), suffix(two, runs)
    return SavedView(
        difference_name(one, a, two, b), f"Objects of any size that {one.run.name} ({a}) misses and {two.run.name} ({b}) finds, "
        f"those that {b} is surest of first. The color is the stage at which {a} loses them.", DETECTED_COLOR, OBJECTS,
        (F(f"detected{ends[0]}") == False) & F(f"detected{ends[1]}"), f"score{ends[1]}", True)  # noqa: E712


def _save_views(fo: Any, dataset: Any, views: Sequence[SavedView]) -> None:
    """Replace the views that an earlier call saved; one of the user's that has our name stays, and it is said."""
    for name in dataset.info.get(OURS, []):
        if dataset.has_saved_view(name):
            dataset.delete_saved_view(name)
    taken, saved = set(dataset.list_saved_views()), []
    for view in views:
        if view.name in taken:
            print(f"your own saved view '{view.name}' stays; rename it to get the workbook's")
            continue
        boxes = dataset.filter_labels(view.field, view.where).to_patches(view.field)
        boxes = boxes.sort_by(f"{view.field}.{view.sort_by}", reverse=view.highest_first)
        dataset.save_view(view.name, boxes, description=view.description, color=view.color)
        saved.append(view.name)
    dataset.info[OURS] = saved
    dataset.save()


def table(dataset: Any) -> pd.DataFrame:
    """The saved views of the dataset, ours and the user's: name, how many boxes (or images), description."""
    rows = []
    for name in dataset.list_saved_views():
        about = dataset.get_saved_view_info(name)
        rows.append({"saved view": name, "shows": len(dataset.load_saved_view(name)), "what it is": about["description"] or ""})
    return pd.DataFrame(rows, columns=["saved view", "shows", "what it is"])


def for_reading(views: pd.DataFrame) -> Styler:
    """The table whole, text to the left."""
    return views.style.hide(axis="index").format(escape="html").set_table_styles([{"selector": "td, th", "props": "text-align: left"}])
