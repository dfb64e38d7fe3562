"""Every bad input and what the workbook says to it: the cases of test_bad_inputs.py and the rows of docs/bad-inputs.md.

`python -m tests.bad_inputs` runs them all and writes the page with what was really said.
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # also for `python -m`
import bad_adoptions  # noqa: E402
import bad_imports  # noqa: E402
import bad_studies  # noqa: E402
import bad_work_dirs  # noqa: E402
from bad_data import BAD, change, exif, image_bytes, put, wide_pixels  # noqa: E402
from small_dataset import HEIGHT, WIDTH, annotation, load, picture, save, write_dataset  # noqa: E402
from trained_run import ASKED, DATASET, Place  # noqa: E402
from workbook import cli  # noqa: E402
from workbook.browse import database as fiftyone_database  # noqa: E402
from workbook.browse.app import directions, free_port  # noqa: E402
from workbook.browse.parameters import BrowseParameters  # noqa: E402
from workbook.browse.samples import read_runs  # noqa: E402
from workbook.data.catalog import find_dataset  # noqa: E402
from workbook.data.checks import check_dataset, require_sound  # noqa: E402
from workbook.data.parameters import DataParameters  # noqa: E402
from workbook.data.reading import DataError  # noqa: E402
from workbook.data.split import split  # noqa: E402
from workbook.diagnosis.parameters import DiagnosisParameters  # noqa: E402
from workbook.diagnosis.store import load_or_diagnose  # noqa: E402
from workbook.errors import WorkbookError  # noqa: E402
from workbook.models.backbones import BACKBONES  # noqa: E402
from workbook.models.weights import Hub, find_weights  # noqa: E402
from workbook.notebooks import notebook_parameters  # noqa: E402
from workbook.parameters import Asked  # noqa: E402
from workbook.runs.checkpoints import save_checkpoint  # noqa: E402
from workbook.runs.data import run_config  # noqa: E402
from workbook.runs.folder import Run  # noqa: E402
from workbook.runs.listing import finished_run, open_run  # noqa: E402
from workbook.runs.load import load_trained
from workbook.search.parameters import parse_budget  # noqa: E402
from workbook.search.question import ask_question  # noqa: E402
from workbook.training.evaluate import evaluate_run  # noqa: E402
from workbook.training.job import prepare  # noqa: E402
from workbook.training.parameters import check_parameters  # noqa: E402
from workbook.training.trackers import open_tracker  # noqa: E402
from workbook.training.train import train  # noqa: E402
from workbook.views.compare.tables import select  # noqa: E402

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bad-inputs.md"
STOPS, NOTE, HANDLED = "stops before training", "note", "handled"
REFUSED = "refused; nothing is changed"
HEAD = """# Bad input, and what the workbook says to it

Made by `python -m tests.bad_inputs`, which really does each of these things; `tests/test_bad_inputs.py` does it again and compares.
Paths are shortened, `RUN` is a run's name. "Stops before training" leaves data and outputs as they were (but for a tracker, which stops
a run that has its folder already); a note is printed by `workbook check` and stops nothing; "handled" needs nothing from you.
"""
SAFETY = """
## Safety

What you are given by others (a run folder, a dataset, a weight file) is read and never run. Tested in `tests/test_safety.py`.

- Weights and checkpoints are read as tensors and plain values alone; a file that holds code is refused. What mmdet 3 and others are
  known to write beside their tensors is passed over without making an object of it.
- Downloaded weights are compared with the checksum their publisher gives (resnet18, resnet50, and what timm publishes with one). Swin and
  PVTv2 are published without: their sha256 is noted beside the file at the first download, and compared whenever the file is used.
  So later damage is noticed, but the first download is trusted.
- The `config.py` of a run is read as plain values, and may name only modules of the workbook to import.
- An image lies inside `images/`: names that climb, absolute names and links that lead out are refused, in training and in every picture.
- Names of classes, files, datasets and runs are text in every page, whatever they contain.
- The FiftyOne App, its database and `make lab` listen on 127.0.0.1 alone.
- No key or login of a tracker gets into a run folder, a tracker's files, a notebook or an error message.
"""
PETS = {"dataset": "pets", "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "image_size": 64, "epochs": 1, "device": "cpu"}


@dataclass(frozen=True)
class Case:
    """`arrange` breaks something, `ask` does what a person would do then: it raises the message, or returns it."""

    part: str
    wrong: str
    ask: Callable[[Place], Any]
    says: str  # a part of the message; "" where there is none
    happens: str = STOPS
    arrange: Callable[[Place], Any] = lambda place: None


# ---- datasets --------------------------------------------------------------------------------------------------------


def _data_case(name: str) -> Case:
    breaker, level, file, id_, reason = BAD[name]
    noun = id_.split(" ")[0]
    parts = {"image": "Images of a dataset", "annotation": "Boxes", "category": "Classes", "class": "Classes"}
    part = "Image files" if file.startswith("images/train") else parts.get(noun, "Files of a dataset")

    def ask(place: Place) -> str:
        found = [p for p in check_dataset("pets") if (p.level, p.file, p.id) == (level, file, id_) and reason in p.reason]
        assert len(found) == 1
        if level == "error":
            with pytest.raises(DataError):
                prepare(check_parameters(PETS))
        else:
            require_sound(find_dataset("pets"))
        return str(found[0])

    return Case(part, name, ask, reason, STOPS if level == "error" else NOTE, lambda place: breaker(place.pets))


def _seen(content: bytes, **entry: Any) -> Callable[[Place], Any]:
    return lambda place: put(content, **entry)(place.pets)


def _no_problems(place: Place) -> None:
    assert check_dataset("pets") == []


def _floats(place: Place) -> None:
    content = load(place.pets, "train")
    for a in content["annotations"]:
        a.update(id=float(a["id"]), image_id=float(a["image_id"]), iscrowd=None)
    save(place.pets, "train", content)


def _objects_in(*images: int) -> Callable[[Place], None]:
    """Only these images hold objects, and there is no val.json yet."""
    def arrange(place: Place) -> None:
        content = load(place.pets, "train")
        objects = [annotation(image, image, [5.0, 6.0, 20.0, 10.0]) for image in images]
        save(place.pets, "train", {**content, "annotations": objects})
        (place.pets / "val.json").unlink()

    return arrange


def _split_read_only(place: Place) -> None:
    check_dataset(place.pets, ("train",))  # which remembers the images
    with ordinary_user(place.pets):
        split("pets")


SPLITS = [
    Case("Files of a dataset", "a split where one image holds objects", lambda place: split("pets"),
         "only one image holds objects, train_2.png", REFUSED, _objects_in(2)),
    Case("Files of a dataset", "a split in a folder that may not be written", _split_read_only,
         "Make the folder writable, or copy it into another folder and set WORKBOOK_DATA to that one", REFUSED, _objects_in(1, 2)),
    Case("Boxes", "ids written 1.0, and an iscrowd of null", _no_problems, "", HANDLED, _floats),
]
IMAGES = {  # kind → its bytes and what its entry says; test_bad_inputs.py follows their pixels through the training pipeline
    "a CMYK JPEG": (image_bytes(picture(1).convert("CMYK"), "JPEG", quality=100), {}),
    "a grey PNG": (image_bytes(picture(1).convert("L"), "PNG"), {}),
    "a palette PNG": (image_bytes(picture(1).convert("P"), "PNG"), {}),
    "a PNG with transparency": (image_bytes(picture(1).convert("RGBA"), "PNG"), {}),
    "a photo turned by EXIF, its entry as it is seen upright": (
        image_bytes(picture(1), "JPEG", exif=exif(6), quality=100), {"width": HEIGHT, "height": WIDTH}),
}

# ---- what is asked for -----------------------------------------------------------------------------------------------


def _asked(wrong: str, says: str, part: str = "Parameters", **values: Any) -> Case:
    return Case(part, wrong, lambda place: prepare(check_parameters({**PETS, **values})), says)


def _changed_data(place: Place) -> None:
    with_run(place).update(parameters={**place.run.record["parameters"], "dataset": "pets"})


def _no_gpu(place: Place) -> None:
    place.patch.setattr("torch.cuda.is_available", lambda: False)


def _notebook(wrong: str, model: type[Asked], says: str, **values: Any) -> Case:
    """What the first cell of a notebook says to these values."""
    return Case("Parameters", wrong, lambda place: notebook_parameters(model, values), says, REFUSED)


def _two_sevens(place: Place) -> None:
    for name in ("7", "007"):
        write_dataset(place.root / "data" / name)


PARAMETERS = [
    _asked("an unknown parameter", "backbon: no such parameter. Allowed: dataset, detector", backbon="resnet50"),
    _asked("several wrong ones", "epochs = 0", epochs=0, backbone="resnet5", recipe="best"),
    _asked("an unknown detector", "unknown detector 'yolo'. Known: faster_rcnn", detector="yolo"),
    _asked("an unknown backbone", "unknown backbone 'resnet5'. Known: resnet50", backbone="resnet5"),
    _asked("a backbone that timm does not know", "no such model. Similar: timm/resnet", backbone="timm/resnet18x"),
    _asked("an unknown recipe", "unknown recipe 'best'", recipe="best"),
    _asked("an unknown tracker", "unknown tracker 'comet'. Known: none", tracker="comet"),
    _asked("an unknown device", "unknown device 'gpu'. Known: auto, cpu, cuda", device="gpu"),
    _asked("no epoch", "epochs = 0: Input should be greater than or equal to 1", epochs=0),
    _asked("half an epoch", "epochs = 2.5: Input should be a valid integer", epochs=2.5),
    _asked("epochs in words", "epochs = 'twelve': Input should be a valid integer", epochs="twelve"),
    _asked("an empty batch", "batch_size = 0: Input should be greater", batch_size=0),
    _asked("a batch that is yes or no", "batch_size = True: Input should be a valid integer", batch_size=True),
    _asked("a batch larger than the data", "pets has 3 training images with objects. Allowed: 1 to 3", batch_size=8),
    _asked("a negative seed", "seed = -1: Input should be greater than or equal to 0", seed=-1),
    _asked("an image size in words", "'large' is no image size", image_size="large"),
    _asked("an image size that is too small", "16 is out of range: a side has 32 to 10000 pixels", image_size=16),
    _asked("a dataset that is a number", "no name that is there reads so. Give the name as text with papermill's -r", dataset=5),
    _asked("an unknown dataset", "no dataset 'cats'", dataset="cats"),
    _asked("a dataset that is a path", "give the name of a folder", dataset="../pets"),
    _asked("a recipe that was never published", "recipe=official: no detector with tf_efficientnet_lite0 is published", recipe="official"),
    Case("Parameters", "a GPU where there is none", lambda place: prepare(check_parameters({**PETS, "device": "cuda"})),
         "torch sees no GPU", arrange=_no_gpu),
    _asked("an override without =", "write key=value", overrides="optimizer.lr"),
    _asked("an override of an unknown key", "override optimiser.lr: unknown key", overrides="optimiser.lr=1"),
    _asked("an override behind the end of a list", "'99' is not an index below", overrides="data.val.pipeline.99.type=x"),
    _asked("an override with a word for a number", "'fast' is a word, where a number stands, 0.0003", overrides="optimizer.lr=fast"),
    _asked("an override with a word for yes or no", "'maybe' is a word, where a yes or no (True or False) stands, True",
           overrides="model.rpn_head.loss_cls.use_sigmoid=maybe"),
    _asked("an override with a number for a list", "4 is a number, where a list stands, [8]. For example model.rpn_head",
           overrides="model.rpn_head.anchor_generator.scales=4"),
    _asked("an override with a list for a number", "[0.001] is a list, where a number stands, 0.0003",
           overrides="optimizer.lr=[1e-3]"),
    _asked("an override with a word in a list of numbers", "'big' in ['big'] is a word, where a number stands",
           overrides="model.rpn_head.anchor_generator.scales=['big']"),
    _asked("an override with a number for a group of keys", "Give its keys one by one, such as model.rpn_head.loss_cls.type",
           overrides="model.rpn_head.loss_cls=5"),
    _asked("an override with two flips and one direction", "`assert len(self.flip_ratio) == len(self.direction)` does not hold",
           overrides="data.train.pipeline.3.flip_ratio=[.25,.25]"),
    _asked("an override of the image size", "but images are scaled to (64, 64): use the parameter image_size",
           overrides="data.val.pipeline.2.img_scale=(96,96)"),
    _asked("an override of the number of classes", "5 classes, but the dataset has 2",
           overrides="model.roi_head.bbox_head.num_classes=5"),
    _asked("an override that keeps images without objects", "use the parameter empty_images instead",
           overrides="data.train.filter_empty_gt=False"),
    _asked("an override that would fail in the first step", "no detector can be built and trained with them",
           overrides="model.train_cfg.rcnn.sampler.num=64.5"),
    _asked("an unknown use of images without objects", "unknown empty_images 'yes'. Known: left_out, used", empty_images="yes"),
    _asked("an override of an unknown type", "no detector can be built and trained", overrides="optimizer.type=Adamm"),
    _asked("an override whose channels do not fit", "no detector can be built and trained", overrides="model.neck.out_channels=32"),
    _asked("an override of what has a parameter", "use the parameter epochs instead", overrides="runner.max_epochs=0"),
    Case("Parameters", "an unknown parameter of a notebook", lambda place: notebook_parameters(
        DiagnosisParameters, {"In": ["# Parameters\ncolour = 'red'\n"]}), "colour: no such parameter. Allowed: run, other, iou", REFUSED),
    Case("Parameters", "an impossible IoU", lambda place: load_or_diagnose(place.run, 1.5), "between 0 and 1", REFUSED,
         lambda place: with_run(place)),
    Case("Parameters", "a search for an unknown size", lambda place: ask_question(place.run, "tiny"),
         "size=tiny: allowed are all, small, medium, large", REFUSED, lambda place: with_run(place)),
    Case("Parameters", "a budget without a unit", lambda place: parse_budget("30"), "give a number above 0 with s, m or h", REFUSED),
    Case("Parameters", "a search on data that have changed", lambda place: ask_question(place.run, "small"), "has changed since", REFUSED,
         lambda place: _changed_data(place)),
    Case("Parameters", "an impossible port", lambda place: free_port(70_000), "give one from 1 to 65535", REFUSED),
    _notebook("a port in words", BrowseParameters, "Allowed: a whole number from 1 to 65535", port="abc"),
    _notebook("no runs but None, to browse", BrowseParameters, "runs = None: ", runs=None),
    _notebook("an App to launch, or not, in other words", BrowseParameters, "Allowed: True, False", launch="no"),
    _notebook("an IoU with a comma", DiagnosisParameters, "write it with a point: 0.5", iou="0,5"),
    _notebook("a list where one name is needed", DataParameters, "one name is needed, not a list", dataset=["pets", "cats"]),
    Case("Parameters", "a dataset of which papermill made a number, and no other reads so",
         lambda place: notebook_parameters(DataParameters, {"dataset": 2024}).dataset, "2024", "handled: taken as the name",
         lambda place: (place.root / "data" / "pets").rename(place.root / "data" / "2024")),
    Case("Parameters", "a dataset of which papermill made a number, and two read so",
         lambda place: notebook_parameters(DataParameters, {"dataset": 7}), "it may be 007 or 7. Give the name as text", REFUSED,
         _two_sevens),
]

# ---- remedies --------------------------------------------------------------------------------------------------------

BROKEN_REMEDY = "from workbook.remedies.base import Remedy\nRemedy(key='mine')\n"


def _own_remedy(content: str) -> Callable[[Place], None]:
    def arrange(place: Place) -> None:
        (place.root / "own").mkdir()
        (place.root / "own" / "mine.py").write_text(content)
        place.patch.setenv("WORKBOOK_REMEDIES", str(place.root / "own"))

    return arrange


def _no_folder_of_remedies(place: Place) -> None:
    place.patch.setenv("WORKBOOK_REMEDIES", str(place.root / "own"))


def _remedy(wrong: str, says: str, remedies: str, arrange: Callable[[Place], Any] = lambda place: None, **values: Any) -> Case:
    """The case of a run with these remedies."""
    return Case("Remedies", wrong, lambda place: prepare(check_parameters({**PETS, **values, "remedies": remedies})), says, arrange=arrange)


def _evaluate(wrong: str, says: str, change: Callable[[Place], Any] = lambda place: None, **asked: str) -> Case:
    """The case of the finished run, evaluated so; `change` breaks it first."""
    def ask(place: Place) -> None:
        place.patch.setenv("WORKBOOK_DATA", str(place.trained.data))
        evaluate_run(place.run, **asked)

    def arrange(place: Place) -> None:
        with_run(place)
        change(place)

    return Case("Remedies", wrong, ask, says, REFUSED, arrange)


def _other_data(place: Place) -> None:
    place.run.update(data={**place.run.record["data"], "hash": "0" * 64})


REMEDIES = [
    _remedy("an unknown remedy", "unknown remedy 'anchors'; known: augmentation, ", "anchors"),
    _remedy("a remedy twice", "soft_nms is given twice", "soft_nms,soft_nms"),
    _remedy("remedies that exclude each other", "exclude each other: leave one of them out", "augmentation,augmentation_from_above"),
    _remedy("remedies for other detectors", "finer_level: it is for detectors of the kind dense, and FasterRCNN is two_stage",
            "finer_level,repeated_labels"),
    _remedy("a start from COCO without its weights", "Download https://download.openmmlab.com", "coco_start"),
    _remedy("images without objects where there are none", "empty_images: every image of train has an object", "empty_images"),
    _remedy("small objects more often where every image has some", "Use longer_training", "small_oversampled"),
    _remedy("a remedy and an override of the same key", "both set model.test_cfg.rcnn.nms.type", "soft_nms",
            overrides="model.test_cfg.rcnn.nms.type=nms"),
    _remedy("queries of the encoder on tiny images", "cells after its resize", "two_stage_queries", detector="deformable_detr"),
    _remedy("a folder of own remedies that is not there", "no such folder", "soft_nms", _no_folder_of_remedies),
    _remedy("an own remedy that is no Python", "mine.py, line 1: SyntaxError", "soft_nms", _own_remedy("a remedy")),
    _remedy("an own remedy that lacks a part", "mine.py, line 2: TypeError", "soft_nms", _own_remedy(BROKEN_REMEDY)),
    _remedy("a file of own remedies without one", "mine.py: no Remedy in it", "soft_nms", _own_remedy("x = 1\n")),
    _evaluate("a remedy that needs a training, on a finished run", "a remedy that needs a training cannot be tried on a finished run",
              remedies="fitted_anchors"),
    _evaluate("an override that needs a training, on a finished run", "only test settings can be changed of a finished run",
              overrides="optimizer.lr=1"),
    _evaluate("an evaluation on other data", "have changed since", _other_data, remedies="soft_nms"),
]

# ---- remedies that change which pixels are shown ---------------------------------------------------------------------


def _small_photos(place: Place) -> None:
    """Images of 50 x 44 pixels."""
    for seed, side in enumerate(("train", "val")):
        content = load(place.pets, side)
        for image in content["images"]:
            image.update(width=50, height=44)
            picture(100 * seed + image["id"], 50, 44).save(place.pets / "images" / image["file_name"])
        save(place.pets, side, content)


def _without_small_objects(place: Place) -> None:
    content = load(place.pets, "train")
    for entry in content["annotations"]:
        entry.update(bbox=[2.0, 2.0, 40.0, 40.0], area=1600.0)
    save(place.pets, "train", content)


def _remedies(place: Place, keys: str) -> None:
    prepare(check_parameters({**PETS, "remedies": keys}))


PIXELS = [
    _asked("two kinds of tiles", "tiles and tiles_at_test exclude each other", "Remedies", remedies="tiles,tiles_at_test"),
    Case("Remedies", "tiles of images that are too small", lambda place: _remedies(place, "tiles"),
         "too small for windows, which have at least 32 pixels", arrange=_small_photos),
    Case("Remedies", "small objects to paste where there are none", lambda place: _remedies(place, "copy_paste_small"),
         "train has no small object", arrange=_without_small_objects),
]

# ---- weights ---------------------------------------------------------------------------------------------------------


class Harmful:
    """A pickle that would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def _weights(wrong: str, says: str, write: Callable[[Path], Any], parameter: str = "pretrained") -> Case:
    """The file is given as `parameter`."""
    def ask(place: Place) -> None:
        prepare(check_parameters({**PETS, parameter: str(place.root / "file.pth")}))

    return Case("Weights", wrong, ask, says, arrange=lambda place: write(place.root / "file.pth"))


def _another_model(path: Path) -> None:
    import timm

    save_checkpoint(path, timm.create_model("resnet10t").state_dict())


def _whole_model(path: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(2, 3), path)


def _other_names(path: Path) -> None:
    import torch

    save_checkpoint(path, {"student.layer": torch.ones(2)})


def _cached_wrongly(place: Place) -> None:
    _empty_cache(place)
    (place.root / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (place.root / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"cut off")


def _empty_cache(place: Place) -> None:
    place.patch.setenv("TORCH_HOME", str(place.root / "torch"))
    place.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place.root / "hub"))


WEIGHTS = [
    _asked("a weight file that is not there", "no such file. Allowed: imagenet, none, or the path", "Weights", pretrained="weights.pth"),
    _asked("a detector's checkpoint that is not there", "no such file. It must be a checkpoint of a whole faster_rcnn", "Weights",
           load_from="coco.pth"),
    _weights("a web page saved as weights", "cannot be read as weights", lambda path: path.write_bytes(b"<html>404 Not Found")),
    _weights("an empty weight file", "cannot be read as weights", lambda path: path.write_bytes(b"")),
    _weights("a weight file that holds code", "it holds io.open, and what is no tensor may be code, which is never run",
             lambda path: save_checkpoint(path, {"a": Harmful(path.with_name("proof"))})),
    _weights("a file without tensors", "holds no tensors by name", lambda path: save_checkpoint(path, {"epoch": 3})),
    _weights("the weights of another model", "is not a weight file of tf_efficientnet_lite0", _another_model),
    _weights("a checkpoint of another detector", "Is it the same detector and backbone?", _another_model, "load_from"),
    _weights("a whole model instead of its tensors", "it holds torch.nn.modules.linear.Linear", _whole_model),
    _weights("a detector of other names", "The file's first tensor is student.layer, the detector's", _other_names, "load_from"),
    Case("Weights", "a downloaded file that is damaged", lambda place: find_weights("imagenet", BACKBONES["resnet18"].weights),
         "is damaged: its sha256 begins", arrange=_cached_wrongly),
    Case("Weights", "no network", lambda place: prepare(check_parameters({**PETS, "backbone": "resnet18"})), "cannot be downloaded",
         arrange=_empty_cache),
    Case("Weights", "no network, a timm backbone", lambda place: find_weights("imagenet", Hub("mobilenetv3_large_100")),
         "are not in the local cache", arrange=_empty_cache),
]

# ---- run folders -----------------------------------------------------------------------------------------------------


def with_run(place: Place) -> Run:
    return place.trained.copy(place.outputs)


def _without(name: str) -> Callable[[Place], None]:
    return lambda place: (with_run(place).folder / name).unlink()


def _with(name: str, change: Callable[[bytes], bytes]) -> Callable[[Place], Any]:
    def arrange(place: Place) -> None:
        path = with_run(place).folder / name
        path.write_bytes(change(path.read_bytes()))

    return arrange


def _with_checkpoint(content: Callable[[Place], Any]) -> Callable[[Place], Any]:
    return lambda place: save_checkpoint(with_run(place).best_checkpoint, content(place))


def _unfinished(place: Place) -> None:
    with_run(place).update(status="running")


def _run(wrong: str, says: str, arrange: Callable[[Place], Any], ask: Callable[[Place], Any], happens: str = REFUSED) -> Case:
    return Case("Run folders", wrong, ask, says, happens, arrange)


def _load(place: Place) -> None:
    load_trained(place.run)


def _again(place: Place) -> str:
    """The very run that is there already; its data are where it was trained."""
    place.patch.setenv("WORKBOOK_DATA", str(place.trained.data))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert train(prepare(check_parameters(ASKED))).folder == place.run.folder
    return said.getvalue().strip()


def _moved(place: Place) -> None:
    """The run was trained on data that are no longer there, and the data folder holds a copy."""
    _gone(place)
    shutil.copytree(place.trained.data, place.root / "data", dirs_exist_ok=True)


def _moved_and_changed(place: Place) -> None:
    _moved(place)
    change("annotations", split="val", area=77)(place.root / "data" / DATASET)


def _gone(place: Place) -> None:
    path = with_run(place).folder / "config.py"
    path.write_text(path.read_text().replace(str(place.trained.data), str(place.root / "old")))


def _no_message(place: Place) -> None:
    run_config(place.run)


def _again_beside_another(place: Place) -> None:
    with place.run.acquire():
        _again(place)


def _diagnose(place: Place) -> None:
    load_or_diagnose(place.run)


def _harmful_config(place: Place) -> None:
    path = with_run(place).folder / "config.py"
    path.write_text(f"open({str(place.root / 'proof')!r}, 'w')\n" + path.read_text())


RUNS = [
    _run("the same run once more", "already done: ", with_run, _again, "handled: found, not trained again"),
    _run("a run that another process trains", "is being trained by process", with_run, _again_beside_another, STOPS),
    _run("no run.json", "has no run.json", _without("run.json"), lambda place: open_run(place.run.name)),
    _run("a broken run.json", "is not valid JSON", _with("run.json", lambda b: b"{"), lambda place: select()),
    _run("a run.json of something else", "is not the record of a run", _with("run.json", lambda b: b"[]"), lambda place: select()),
    _run("no config.py", "is missing", _without("config.py"), _load),
    _run("a config.py that was cut off", "is not as a run writes it", _with("config.py", lambda b: b[:-9]), _load),
    _run("a config.py that holds code", "with code, which is never run", _harmful_config, _load),
    _run("a config.py that imports what is not ours", "asks to import os, which is not of the workbook",
         _with("config.py", lambda b: b.replace(b"'workbook.models.timm_backbone'", b"'os'")), _load),
    _run("no metrics.json", "metrics.json is missing", _without("metrics.json"), lambda place: select(place.run.name)),
    _run("a broken metrics.json", "is not valid JSON", _with("metrics.json", lambda b: b"{"), lambda place: select("")),
    _run("no predictions.json", "predictions.json is missing", _without("predictions.json"), _diagnose),
    _run("data that were moved into the data folder", "", _moved, _no_message, "handled: found by name and content"),
    _run("data that were moved and changed", "holds other data (4 train and 2 val images", _moved_and_changed, _no_message),
    _run("data that are gone", "is not there either. Put it back, or set WORKBOOK_DATA", _gone, _no_message),
    _run("a val file that is gone", "gone.json is missing", _with("config.py", lambda b: b.replace(b"val.json", b"gone.json")),
         _diagnose),
    _run("no best.pth", "best.pth is missing: this run has not finished an epoch", _without("checkpoints/best.pth"), _load),
    _run("a best.pth that was cut off", "best.pth cannot be read", _with("checkpoints/best.pth", lambda b: b[: len(b) // 2]), _load),
    _run("a best.pth that holds code", "best.pth cannot be read",
         _with_checkpoint(lambda place: {"state_dict": Harmful(place.root / "proof")}), _load),
    _run("a best.pth of another model", "best.pth is not of the model in", _with_checkpoint(lambda place: {"state_dict": {}}), _load),
    _run("a best.pth that is no checkpoint", "best.pth is no checkpoint of a training",
         _with_checkpoint(lambda place: {"epoch": 3}), _load),
    _run("a broken line in log.jsonl", "line 1 is not valid JSON", _with("log.jsonl", lambda b: b"{\n" + b), lambda place: place.run.log()),
    _run("a run that is not finished, to diagnose", "only a finished run can be diagnosed", _unfinished, _diagnose),
    _run("a run that was not diagnosed, to browse", "`workbook diagnose", with_run, lambda place: read_runs([place.run])),
    _run("an unknown run", "no run 'faster_rcnn' in", with_run, lambda place: open_run("faster_rcnn")),
    _run("no finished run", "no finished run in", _unfinished, lambda place: finished_run()),
    _run("no run on this dataset", "none of these 1 runs is on dataset 'cats'", with_run, lambda place: select(dataset="cats")),
]

# ---- the machine -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ordinary_user(read_only: Path) -> Iterator[None]:
    """Root may write everywhere; inside, it is nobody, and may go through the folders above `read_only`."""
    modes = {path: path.stat().st_mode for path in (read_only, *read_only.parents)}
    root = os.geteuid() == 0
    try:
        for path in modes:
            if root or path == read_only:
                path.chmod(0o555 if path == read_only else modes[path] | 0o555)
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            if root or path == read_only:
                path.chmod(mode)


def _read_only_outputs(place: Place) -> None:
    place.outputs.mkdir()


def _train_read_only(place: Place) -> None:
    job = prepare(check_parameters(PETS))
    with ordinary_user(place.outputs):
        train(job)


def workbook(*words: str) -> str:
    """What the command says when it refuses, run in this process."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["workbook", *words])
        cli.main()
    assert end.value.code == 2
    return said.getvalue().strip()


def _compare_read_only(place: Place) -> str:
    with ordinary_user(place.outputs):
        return workbook("compare")


def _outputs_is_a_file(place: Place) -> None:
    place.outputs.write_text("")


def _busy_port(place: Place) -> str:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        wanted = busy.getsockname()[1]
        taken = free_port(wanted)
        return directions(taken, wanted).split("\n")[0].replace(str(wanted), "5151").replace(str(taken), "5152")


def _no_mongod(place: Place) -> None:
    place.patch.setattr(fiftyone_database.importlib.util, "find_spec", lambda name: None)
    place.patch.setenv("PATH", str(place.root))


def _environment(**values: str) -> Callable[[Place], None]:
    def arrange(place: Place) -> None:
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
            place.patch.delenv(name)
        for name, value in {"NETRC": str(place.root / "none"), **values}.items():
            place.patch.setenv(name, value)

    return arrange


def _track(kind: str) -> Callable[[Place], Any]:
    return lambda place: open_tracker(kind, "RUN", place.outputs / "runs" / "RUN", {}, place.root / "trackers")


MACHINE = [
    Case("The machine", "outputs that may not be written", _train_read_only, "Free space, make it writable", arrange=_read_only_outputs),
    Case("The machine", "outputs that may not be written, to compare", _compare_read_only, "Permission denied. Make the folder writable",
         REFUSED, with_run),
    Case("The machine", "outputs that are a file", lambda place: train(prepare(check_parameters(PETS))), "cannot write the run folder",
         arrange=_outputs_is_a_file),
    Case("The machine", "a port that is taken", _busy_port, "is taken or not allowed, so this is", "handled: the next free one"),
    Case("The machine", "no mongod for the App", lambda place: fiftyone_database.mongod_program(), "needs mongod", REFUSED, _no_mongod),
    Case("The machine", "tracker=wandb without a key", _track("wandb"), "no key of W&B is known. Set WANDB_API_KEY", STOPS, _environment()),
    Case("The machine", "tracker=mlflow without its server", _track("mlflow"), "no server at http://127.0.0.1:9", STOPS,
         _environment(MLFLOW_TRACKING_URI="http://user:secret@127.0.0.1:9")),
]

CASES = [
    *sorted((_data_case(name) for name in BAD), key=lambda case: [
        "Files of a dataset", "Images of a dataset", "Image files", "Boxes", "Classes"].index(case.part)),
    *SPLITS,
    *(Case("Handled image files", kind, _no_problems, "", HANDLED, _seen(content, **entry))
      for kind, (content, entry) in IMAGES.items()),
    Case("Handled image files", "a 16-bit PNG that uses its range", lambda place: str(check_dataset("pets")[0]),
         "training keeps the upper 8", "handled, with a note", _seen(wide_pixels(65535))),
    *(Case(*row) for row in (*bad_imports.IMPORTS, *bad_adoptions.ADOPTIONS, *bad_work_dirs.WORK_DIRS, *bad_studies.STUDIES,
                             *bad_studies.TABLES)),
    *PARAMETERS, *REMEDIES, *PIXELS, *WEIGHTS, *RUNS, *MACHINE,
]
# Tested where they belong, because each needs a training of its own:
# part, what is wrong, what is said, what happens, file, test, words in that file
ELSEWHERE = [
    ("Training", "a loss that is not a number", "TrainingError: the loss is not finite at step …: its parts, the last good checkpoint, "
     "and a lower lr to try", "stops there; the run is marked failed, the last good checkpoint stays", "training/test_train.py",
     "test_a_loss_that_is_not_finite_stops_and_says_where", "not finite at step"),
    ("The machine", "a full disk, while a checkpoint or the log is written", "WriteError: cannot write …: No space left on device. "
     "It needs … bytes and … are free", "stops there; the last checkpoint is whole, and the same call goes on when there is room",
     "training/test_resume.py", "test_a_full_disk_fails_clearly_and_the_same_call_goes_on", "are free"),
]


def answer(case: Case, place: Place) -> str:
    """Do it, and return what was said. Asserts that what was there is as it was, and that nothing was trained."""
    case.arrange(place)
    before = contents(place.root)
    try:
        said = case.ask(place) or ""
    except (WorkbookError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
    assert contents(place.root) == before, "something was written"
    trained = {place.run.name: "RUN", place.trained.outputs: "outputs", place.trained.data: "data"}
    return shorten(said, {**trained, place.root: "", PAGE.parents[1]: ""})


def contents(root: Path) -> dict[str, str]:
    """Every file with its hash, but what the workbook only remembers, and locks."""
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*")
            if path.is_file() and path.name not in (".images.json", ".check.json", ".owner.lock")}


def shorten(said: str, places: Mapping[Any, str]) -> str:
    """The same on every machine: without its folders, and with the words of a machine that has no network."""
    for long, short in places.items():
        said = said.replace(f"{long}/", f"{short}/" if short else "").replace(str(long), short or ".")
    said = re.sub(r"faster_rcnn-tf_efficientnet_lite0-[0-9a-f]{8}", "RUN", said)
    said = re.sub(r"process \d+ on \S+ since [\d:T+-]+", "process … on … since …", said)
    return re.sub(r"tests run offline, and something wants [\w.-]+", "Temporary failure in name resolution", said)


def row(case: Case, said: str) -> str:
    """A line of the page's table."""
    printable = "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in said)
    return _row(case.wrong, printable or "—", case.happens)


def _row(*cells: str) -> str:
    shown = (html.escape(cell, quote=False).replace("|", "\\|").replace("*", "\\*").replace("\n", "<br>") for cell in cells)
    return f"| {' | '.join(shown)} |"


def page(said: Mapping[str, str]) -> str:
    """The page; `said` is the message of every case."""
    rows: dict[str, list[str]] = {}
    for case in CASES:
        rows.setdefault(case.part, []).append(row(case, said[case.wrong]))
    for part, wrong, words, happens, *_ in ELSEWHERE:
        rows.setdefault(part, []).append(_row(wrong, words, happens))
    head = "| what is wrong | what the workbook says | what happens |\n|---|---|---|"
    return HEAD + "".join(f"\n## {part}\n\n{head}\n" + "\n".join(lines) + "\n" for part, lines in rows.items()) + SAFETY


if __name__ == "__main__":
    os.environ["WRITE_BAD_INPUTS"] = "yes"
    sys.exit(pytest.main([str(Path(__file__).with_name("test_bad_inputs.py")), "-q", "-k", "gets_its_message or the_page"]))
