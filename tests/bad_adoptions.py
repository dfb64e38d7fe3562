"""Bad results of other tools, to be adopted: what is wrong, what a person asks then, and a part of what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from small_dataset import load
from workbook.runs.adopt.adopt import adopt_run

Row = tuple[str, str, Callable[[Any], Any], str, str, Callable[[Any], Any]]  # as bad_inputs.Case
REFUSED = "refused; nothing is changed"
SOUND = {"image_id": 1, "category_id": 1, "bbox": [5.0, 6.0, 20.0, 10.0], "score": 0.9}
OTHER_TOOLS = "Runs of other tools"


def _results(wrong: str, says: str, write: Callable[[Any], str], path: str = "theirs.json") -> Row:
    """write: the place → the text of the file."""
    def arrange(place: Any) -> None:
        file = place.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(write(place))

    return OTHER_TOOLS, wrong, lambda place: adopt_run(place.root / path, "pets"), says, REFUSED, arrange


def _entries(wrong: str, says: str, *changes: dict[str, Any]) -> Row:
    return _results(wrong, says, lambda place: json.dumps([{**SOUND, **change} for change in changes]))


def _folder(wrong: str, says: str, *files: str) -> Row:
    def arrange(place: Any) -> None:
        for file in files:
            path = place.root / "theirs" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([SOUND]))

    return OTHER_TOOLS, wrong, lambda place: adopt_run(place.root / "theirs", "pets"), says, REFUSED, arrange


def _without(key: str) -> Callable[[Any], str]:
    return lambda place: json.dumps([{name: value for name, value in SOUND.items() if name != key}])


def _objects(place: Any) -> list[dict[str, Any]]:
    """A perfect detection of every object of val."""
    return [{key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
            for entry in load(place.pets, "val")["annotations"]]


def _as_corners(place: Any) -> str:
    found = _objects(place)
    for entry in found:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]
    return json.dumps(found)


def _as_shares(place: Any) -> str:
    found = _objects(place)
    for entry in found:
        entry["bbox"] = [side / 64 for side in entry["bbox"]]
    return json.dumps(found)


def _undecided(place: Any) -> str:
    """Places of the classes 10, 20 and 30, for boxes that fit nothing."""
    for split in ("train", "val"):
        content = load(place.pets, split)
        content["categories"] = [{"id": id_, "name": name} for id_, name in ((10, "dog"), (20, "cat"), (30, "owl"))]
        for entry in content["annotations"]:
            entry["category_id"] = {1: 10, 7: 20}[entry["category_id"]]
        (place.pets / f"{split}.json").write_text(json.dumps(content))
    return json.dumps([{**SOUND, "bbox": [50.0, 40.0, 5.0, 5.0], "category_id": id_} for id_ in (1, 2)])


def _texts(wrong: str, says: str, **files: str) -> Row:
    """files: stem → text."""
    def arrange(place: Any) -> None:
        (place.root / "theirs").mkdir()
        for stem, text in files.items():
            (place.root / "theirs" / f"{stem}.txt").write_text(text)

    return OTHER_TOOLS, wrong, lambda place: adopt_run(place.root / "theirs", "pets"), says, REFUSED, arrange


def _epochs(wrong: str, says: str, text: str, log: str = "results.csv") -> Row:
    def arrange(place: Any) -> None:
        (place.root / "theirs").mkdir()
        (place.root / "theirs" / "predictions.json").write_text(json.dumps([SOUND]))
        (place.root / "theirs" / log).write_text(text)
        (place.root / "theirs" / "config.yaml").write_text("SOLVER:\n  IMS_PER_BATCH: 2\n")

    return OTHER_TOOLS, wrong, lambda place: adopt_run(place.root / "theirs", "pets"), says, REFUSED, arrange


ADOPTIONS = [
    _texts("YOLO's text files without confidence", "val_1.txt, line 1: it has no confidence: predict again with save_conf=True",
           val_1="0 .5 .5 .2 .2"),
    _texts("YOLO's text files with outlines of masks", "line 2: it has 9 columns (outlines of masks are not read)",
           val_1="0 .5 .5 .2 .2 .9\n0 .1 .1 .2 .1 .2 .2 .1 .2"),
    _texts("YOLO's text files with boxes in pixels", "its box is not in shares of the image", val_1="0 30 20 10 10 .9"),
    _texts("YOLO's text files with a class name", "'dog .5 .5 .2 .2 .9' is not six numbers", val_1="dog .5 .5 .2 .2 .9"),
    _texts("YOLO's text files with a confidence in percent", "its confidence is 90, and must be from 0 to 1", val_1="0 .5 .5 .2 .2 90"),
    _texts("YOLO's text files of a diverged training", "is not a class, four shares and a confidence", val_1="0 nan .5 .2 .2 .9"),
    _texts("YOLO's text files of other images", "1 of the 1 images of the results are not in val.json: street_9",
           street_9="0 .5 .5 .2 .2 .9"),
    _texts("YOLO's text files without a line", "holds no detection, so there is nothing to measure", val_1="\n"),
    _epochs("a results.csv of another program", "has no column epoch", "step,loss\n1,2\n"),
    _epochs("a results.csv that is cut off", "line 3: not 2 numbers", "epoch,train/box_loss\n1,2.0\n2\n"),
    _epochs("detectron2's metrics.json with half a line", "metrics.json, line 2 is no JSON", '{"iteration": 19, "total_loss": NaN}\n'
            '{"iteration": 39, "tot\n{"iteration": 59, "total_loss": 1.0}\n', log="metrics.json"),
    _epochs("detectron2's metrics.json with a line without iteration", "metrics.json, line 2 has no iteration",
            '{"iteration": 19, "total_loss": 1.5}\n{"total_loss": 1.0}\n', log="metrics.json"),
    _results("results that are cut off", "is not valid JSON", lambda place: json.dumps([SOUND])[:-9]),
    _results("the labels in the place of results", "give the file of the detections", lambda place: json.dumps(load(place.pets, "val"))),
    _results("results without a detection", "holds no detection, so there is nothing to measure", lambda place: "[]"),
    _results("results without scores", "entry 0: no score", _without("score")),
    _results("results that are masks alone", "entry 0: no bbox", _without("bbox")),
    _entries("results of a diverged training", "entry 1: bbox [5.0, 6.0, nan, 10.0] is not four finite numbers",
             {}, {"bbox": [5.0, 6.0, float("nan"), 10.0]}),
    _entries("a score that is NaN", "entry 0: score nan is no number from 0 to 1", {"score": float("nan")}),
    _entries("scores in percent", "entry 0: score 90.0 is no number from 0 to 1", {"score": 90.0}),
    _entries("a box with a negative width", "has a negative width or height", {"bbox": [5.0, 6.0, -20.0, 10.0]}),
    _entries("a class in the place of its id", "category_id 'dog' is no whole number", {"category_id": "dog"}),
    _entries("an image without an id", "entry 0: no image_id", {"image_id": None}),
    _entries("results on other images", "2 of the 3 images of the results are not in val.json: 4011, 4012", {}, {"image_id": 4011},
             {"image_id": 4012}),
    _entries("results whose file names are others", "1 of the 1 images of the results are not in val.json: street_1.jpg",
             {"file_name": "street_1.jpg"}),
    _entries("results with unknown category ids", "the results name category_id 5, and val.json lists 1 dog, 7 cat", {"category_id": 5}),
    _entries("results with other class names", "the results name classes that val.json does not have: Dog", {"category_name": "Dog"}),
    _results("category ids that may mean two", "the classes can be read in two ways, and AP does not decide", _undecided),
    _results("results whose boxes are corners", "the boxes look like corners (x1, y1, x2, y2)", _as_corners),
    _results("results whose boxes are shares of the image", "they are shares of the image", _as_shares),
    _results("a pickle of detections", "is a pickle, which can hold code and is not read here", lambda place: "no matter", "results.pkl"),
    _folder("an mmdet work_dir without a checkpoint", "is an mmdet work_dir without a checkpoint, without detections", "faster.py",
            "20261101_120000.log.json"),
    _folder("an mmdet 3 work_dir without a checkpoint", "put epoch_N.pth and its config there", "faster.py",
            "20261101_120000/vis_data/scalars.json"),
    _folder("a config without a checkpoint", "is a folder with a config and no checkpoint", "faster.py"),
    _folder("the folder above several work_dirs", "It holds r50, swin_t", "r50/epoch_1.pth", "swin_t/epoch_1.pth"),
    _folder("a training of ultralytics without detections", "save_json=True", "args.yaml", "results.csv", "weights/best.pt"),
    _folder("an output of detectron2 without detections", "--eval-only", "config.yaml", "metrics.json", "model_final.pth"),
    _folder("a folder of checkpoints", "is a folder of checkpoints, without detections", "model_1.pth"),
    _folder("a folder with two files of detections", "holds 2 files of detections: a.bbox.json, b.bbox.json", "a.bbox.json", "b.bbox.json"),
    _folder("a folder with nothing to adopt", "holds no detections. Searched for: predictions.json", "notes.txt"),
    _folder("a run folder of the workbook, to be adopted", "is a run folder of the workbook", "run.json", "predictions.json"),
    (OTHER_TOOLS, "results that are not there", lambda place: adopt_run(place.root / "none.json", "pets"), "none.json cannot be read",
     REFUSED, lambda place: None),
]
