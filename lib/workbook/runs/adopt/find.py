"""What a path holds that can be adopted: which file has the detections, and which tool left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbook.runs.adopt.errors import AdoptError, listed
from workbook.runs.adopt.yolo_txt import label_files

PATTERNS = ("predictions.json", "*.bbox.json", "coco_instances_results.json", "inference/coco_instances_results.json", "result.json")
PLAIN, YOLO_TXT = "COCO results", "YOLO txt"
# names of files that say nothing of the detector: its folder's name does
GENERAL = ("predictions", "coco_instances_results", "result", "results", "results.bbox")
# files of a folder without detections → the tool, and how its detections are written
TOOLS = {
    ("*.log.json", "vis_data", "*/vis_data"): (
        "an mmdet work_dir without a checkpoint", "put epoch_N.pth and its config there, "
        "or write the detections with mmdet's own tools/test.py CONFIG CHECKPOINT --format-only --eval-options "
        "jsonfile_prefix=results (mmdet 2), or with test_evaluator.format_only=True and test_evaluator.outfile_prefix=results (mmdet 3), "
        "and adopt results.bbox.json"),
    ("args.yaml", "results.csv", "weights/*.pt"): (
        "a training of ultralytics", "write them beside it with `yolo val model=weights/best.pt data=DATA.yaml save_json=True "
        "project=THE_FOLDER_ABOVE name=ITS_NAME exist_ok=True`, and adopt the folder"),
    ("config.yaml", "metrics.json", "model_final.pth"): (
        "an output folder of detectron2", "write them with tools/train_net.py --eval-only, and adopt "
        "inference/coco_instances_results.json"),
    ("*.py",): ("a folder with a config and no checkpoint", "put epoch_N.pth there, or write COCO results with the program that trained "
                "it, and adopt that file"),
    ("*.pth", "*.pt"): ("a folder of checkpoints", "write COCO results with the program that trained them, and adopt that file"),
}


@dataclass(frozen=True)
class Found:
    """The file of detections, or the folder of text files, the tool that left it, and what its run is called."""

    results: Path
    kind: str
    stem: str


def find_results(path: Path) -> Found:
    """The one file of detections at this path, a file or a folder. Raises AdoptError where there is none, or several."""
    if path.is_dir():
        return _in_folder(path)
    if path.suffix in (".pkl", ".pickle", ".pth", ".pt"):
        raise AdoptError(f"{path} is a pickle, which can hold code and is not read here: write COCO results (JSON) with the program that "
                         "made it, for mmdet 2 tools/test.py --format-only, and adopt that file")
    stem = path.name.removesuffix(".json").removesuffix(".bbox")
    general = path.name.removesuffix(".json") in GENERAL
    return Found(path, _kind(path), _name_of(path.resolve().parent) if general else stem)


def _in_folder(folder: Path) -> Found:
    if (folder / "run.json").is_file():
        raise AdoptError(f"{folder} is a run folder of the workbook: copy it into outputs/runs, and it is a run")
    found = [path for pattern in PATTERNS for path in sorted(folder.glob(pattern))]
    if len(found) > 1:
        raise AdoptError(f"{folder} holds {len(found)} files of detections: {listed(path.relative_to(folder) for path in found)}. "
                         "Give one of them as PATH")
    if found:
        return Found(found[0], _kind(found[0]), _name_of(folder.resolve()))
    if texts := label_files(folder):
        labels = texts[0].resolve().parent
        return Found(labels, YOLO_TXT, labels.parent.name if labels.name == "labels" else labels.name)
    for files, (tool, advice) in TOOLS.items():
        if any(next(folder.glob(pattern), None) for pattern in files):
            raise AdoptError(f"{folder} is {tool}, without detections: {advice}")
    inside = listed(sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))) or "nothing"
    searched = ", ".join((*PATTERNS, "*.txt", "labels/*.txt", "epoch_N.pth"))
    raise AdoptError(f"{folder} holds no detections. Searched for: {searched}. It holds {inside}. Give the file of COCO results by its "
                     "name, the work_dir of one training, or a table (Markdown or CSV)")


def _name_of(folder: Path) -> str:
    """Of detectron2's `inference` that of the training above it."""
    return folder.parent.name if folder.name == "inference" else folder.name


def _kind(results: Path) -> str:
    """The tool, by the files beside the results."""
    if (results.parent / "args.yaml").is_file():
        return "ultralytics"
    if results.name == "coco_instances_results.json":
        return "detectron2"
    if results.name.endswith(".bbox.json"):
        return "mmdet"
    return PLAIN
