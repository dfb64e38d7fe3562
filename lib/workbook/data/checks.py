"""Is a dataset sound? Every problem of both splits at once, with its file, its id, its reason and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbook.data.boxes import listed_twice
from workbook.data.catalog import Dataset, dataset_folder
from workbook.data.entries import Found, Level, Problem, entry_problems, has_id
from workbook.data.images import MISSING, ImageFile, image_files, leaves_folder
from workbook.data.judged import judged_before, remember, state_of
from workbook.data.learnable import images_without_objects, objects_by_hindrance, small_images
from workbook.data.names import NOWHERE, FilesThere
from workbook.data.reading import SMALLEST_SIDE, Coco, DataError, content_hash, is_crowd, read_coco, size_counts

__all__ = ["Coco", "Problem", "check_dataset", "content_hash", "read_coco", "require_sound"]

SHOWN = 30  # errors in the message of require_sound


def require_sound(dataset: Dataset) -> None:
    """Raises DataError that lists the dataset's errors. Notes do not stop."""
    stop_at_errors(dataset.name, dataset.folder, check_dataset(dataset.folder))


def stop_at_errors(name: str, folder: Path, problems: list[Problem]) -> None:
    """Raises DataError with the first 30 errors, their number and what to do, when there is one."""
    errors = [problem for problem in problems if problem.level == "error"]
    if errors:
        lines = [f"  - {', '.join(filter(None, (error.file, error.id)))}: {error.reason}" for error in errors[:SHOWN]]
        more = [f"  and {len(errors) - SHOWN} more"] if len(errors) > SHOWN else []
        raise DataError("\n".join([f"{folder} cannot be used, it has {len(errors)} error(s):", *lines, *more,
                                   f"Mend them, then see `workbook check {name}`, which lists all errors and notes"]))


def check_dataset(folder: Path | str, splits: tuple[str, ...] = ("train", "val")) -> list[Problem]:
    """All problems of a dataset: of a folder, or of the one of this name in the data folder.

    The first time every image is decoded, see `lib/workbook/data/images.py`. Raises DataError when there is no such dataset.
    A set without errors that has not changed since is not judged again, see `lib/workbook/data/judged.py`.
    """
    folder = folder if isinstance(folder, Path) else dataset_folder(folder)
    if splits != ("train", "val"):
        return _judge(folder, splits)
    state = state_of(folder)
    known = judged_before(folder, state)
    if known is not None:
        return known
    problems = _judge(folder, splits)
    remember(folder, state, problems)
    return problems


def _judge(folder: Path, splits: tuple[str, ...]) -> list[Problem]:
    problems: list[Problem] = []
    contents: dict[str, Coco] = {}
    for split in splits:
        try:
            contents[split] = read_coco(folder / f"{split}.json")
        except DataError as error:
            reason = str(error).removeprefix(f"{folder / split}.json ")
            problems.append(Problem("error", f"{split}.json", "", reason))
    images = {split: _images_to_open(content) for split, content in contents.items()}
    files = image_files(folder / "images", [image["file_name"] for its in images.values() for image in its])
    if not (folder / "images").is_dir():
        problems.append(Problem("error", "images/", "", f"there is no such folder in {folder}: put the images there"))
    there = FilesThere(folder)
    for split, content in contents.items():
        found = entry_problems(f"{split}.json", content, there.words)  # type: ignore[arg-type]
        if not any(problem.level == "error" for problem in found):
            found += _object_problems(split, content)
        if (folder / "images").is_dir():
            found += _file_problems(there, f"{split}.json", images[split], files)
        problems += found
    problems += _same_images(images, files)
    if len(contents) == 2:
        problems += _class_problems(contents["train"], contents["val"])
    return problems


def _images_to_open(content: Coco) -> list[Any]:
    """The images whose entries are good enough to look for their files."""
    return [image for image in content["images"] if has_id(image) and isinstance(image.get("file_name"), str)
            and image["file_name"] and not leaves_folder(image["file_name"])]


def _object_problems(split: str, content: Coco) -> Iterator[Problem]:
    """What a file lacks as a whole, though its entries are sound."""
    sizes = size_counts(content["annotations"])
    if not sizes:
        purpose = "measure" if split == "val" else "learn"
        yield Problem("error", f"{split}.json", "", f"it has no object (crowds are none), so nothing to {purpose}")
    elif split == "val" and not sizes["small"]:
        yield Problem("note", "val.json", "", "it has no small object (area up to 32²): bbox_mAP_s will have no value")
    elif split == "train":
        yield from _learning_problems(content)
    if words := listed_twice(content["annotations"]):
        yield Problem("note", f"{split}.json", "", words)
    if split == "val":
        yield from _crowded_images(content)


def _learning_problems(train: Coco) -> Iterator[Problem]:
    """Whether training has anything to learn from, and which images it leaves out for having no object."""
    count = len(train["images"])
    hindrances = objects_by_hindrance(train)
    empty = images_without_objects(train)
    if len(small_images(train)) == count:
        yield Problem("error", "train.json", "", (
            f"all {count} images have a side under {SMALLEST_SIDE} px, and training leaves such images out: scale them up with their "
            "boxes and areas, or put larger images there"))
    elif not hindrances[""]:
        words = ", ".join(f"{number} {reason}" for reason, number in hindrances.items() if number)
        yield Problem("error", "train.json", "", (
            f"no box is left to learn from: of {hindrances.total()} object(s) {words}, and training leaves such out. "
            "A bbox is x, y, width, height in pixels of the image file"))
    elif empty:
        yield Problem("note", "train.json", "", (
            f"{len(empty)} of {count} images have no object: training leaves them out, or with empty_images=used learns from them "
            "what is background"))


def _crowded_images(val: Coco) -> Iterator[Problem]:
    """Classes with more objects in an image than COCO's AP counts detections there: some can only be missed."""
    from workbook.evaluation.coco_metrics import MAX_DETECTIONS  # which loads the evaluation

    objects = Counter((a["category_id"], a["image_id"]) for a in val["annotations"] if not is_crowd(a))
    crowded: dict[int, list[int]] = {}
    for (category_id, _), count in objects.items():
        if count > MAX_DETECTIONS:
            crowded.setdefault(category_id, []).append(count)
    names = {category["id"]: category["name"] for category in val["categories"]}
    for category_id, counts in crowded.items():
        yield Problem("note", "val.json", f"class {names[category_id]}", (
            f"{len(counts)} image(s) have more than {MAX_DETECTIONS} of its objects, the fullest {max(counts)}. "
            f"COCO's AP counts {MAX_DETECTIONS} detections of a class in an image, so the others count as missed: "
            "cut the images into tiles"))


def _file_problems(there: FilesThere, file: str, images: list[Any], files: dict[str, ImageFile]) -> Iterator[Problem]:
    for image in images:
        name, found = image["file_name"], files[image["file_name"]]
        for level, reason in (("error", found.error), ("note", found.note)):
            if reason:
                hint = (there.words(name) or NOWHERE) if reason == MISSING else ""
                yield Problem(level, f"images/{name}", f"image {image['id']} of {file}", reason + hint)  # type: ignore[arg-type]
        if not found.error and isinstance(image.get("width"), int) and isinstance(image.get("height"), int):  # else it has its error
            yield from (Problem(level, file, f"image {image['id']}", f"{name} {reason}") for level, reason in
                        _size(image.get("width"), image.get("height"), found))


def _size(width: Any, height: Any, found: ImageFile) -> Found:
    """Whether the entry's size is that of the image as training reads it: mmcv applies the EXIF orientation first."""
    turned = found.orientation > 1
    if (width, height) != (found.width, found.height):
        why = f" after its EXIF orientation {found.orientation}, which training applies" if turned else ""
        do = "save it upright, or turn size and boxes with it" if turned else "are the boxes for another version of it?"
        yield "error", f"is {found.width}x{found.height} pixels{why}, but the entry says {width}x{height}: {do}"
    elif turned and (found.orientation < 5 or found.width == found.height):
        yield "note", (f"is turned by its EXIF orientation {found.orientation} before training sees it, and its size "
                       "does not show it: make sure that the boxes fit the turned image")


def _same_images(images: dict[str, list[Any]], files: dict[str, ImageFile]) -> Iterator[Problem]:
    """The same bytes in both splits: val would measure what was learned by heart. Twice in one split is only a note."""
    first: dict[str, tuple[str, Any]] = {}
    for split, its in images.items():
        for image in its:
            name, found = image["file_name"], files[image["file_name"]]
            if found.error:
                continue
            its_split, other = first.setdefault(found.sha256, (split, image))
            same = f"{name} is the same image as {other['file_name']} (image {other['id']} of {its_split}.json)"
            if its_split != split:
                yield Problem("error", f"{split}.json", f"image {image['id']}", f"{same}: take it out of one of the "
                              "files, for val must not hold what is trained on")
            elif name != other["file_name"]:
                yield Problem("note", f"{split}.json", f"image {image['id']}", f"{same}: it counts twice")


def _class_problems(train: Coco, val: Coco) -> Iterator[Problem]:
    """Classes that only one split knows. They are matched by name; their ids may differ and have gaps."""
    learned, measured = _objects_by_name(train), _objects_by_name(val)
    for name in [*learned, *(name for name in measured if name not in learned)]:
        for level, file, reason in _class(learned.get(name), measured.get(name)):
            yield Problem(level, file, f"class {name}", reason)
    for name in sorted(_groups(train) | _groups(val)):
        if name in learned and not learned[name] and not measured.get(name):
            yield Problem("note", "train.json", f"class {name}", (
                "no object has this class, and other classes name it as their supercategory: it is a group of classes, as Roboflow writes "
                "one, and yet a class that the detector learns to tell apart, without an AP. Take it out of the categories of both files"))


def _groups(content: Coco) -> set[str]:
    """Names that a category gives as its supercategory and that are not its own."""
    entries: list[Any] = [entry for entry in content["categories"] if isinstance(entry, dict)]
    return {str(entry["supercategory"]) for entry in entries if entry.get("supercategory") not in (None, entry.get("name"))}


def _class(learned: int | None, measured: int | None) -> Iterator[tuple[Level, str, str]]:
    """Level, file and reason, from a class's objects in train and in val; None where its file does not list it."""
    if learned is None and measured:
        yield "error", "val.json", (f"train.json does not list this class, so its {measured} object(s) could never be "
                                    "found: take them out, or list the class in train.json")
    elif learned is None:
        yield "note", "val.json", "train.json does not list this class: it is left out"
    elif measured is None:
        yield "error", "val.json", ("it does not list this class, as train.json does: copy train.json's categories, "
                                    "where a class may stand without objects")
    elif measured and not learned:
        yield "note", "train.json", (f"it has no object here, but {measured} in val.json: it cannot be learned, and "
                                     "its AP of about 0 counts in bbox_mAP")
    elif learned and not measured:
        yield "note", "val.json", f"it has no object here, but {learned} in train.json: it will have no AP"


def _objects_by_name(content: Coco) -> dict[str, int]:
    """Class name → its objects, as far as the entries are sound enough to count."""
    names = {c["id"]: c["name"] for c in content["categories"] if has_id(c) and isinstance(c.get("name"), str)}
    counted = Counter([a["category_id"] for a in content["annotations"]
                       if isinstance(a, dict) and isinstance(a.get("category_id"), int) and not a.get("iscrowd", 0)])
    return {name: counted[id_] for id_, name in names.items()}
