"""A val set out of train.json: its share of the objects of each class and size, and no photo on both sides.

The algorithm is iterative stratification: Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label
data", ECML PKDD. The rarest label is dealt out first, while there is still choice, so that what there is little of
comes out in the wanted ratio too. A label here is a class in a size. What is dealt are groups of images with counts of
labels, not single examples, so a group goes to the side that it fits best over all its labels (least squares).
"""

from __future__ import annotations

import errno
import random
import shutil
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbook.data.catalog import dataset_folder
from workbook.data.checks import check_dataset, stop_at_errors
from workbook.data.entries import listed
from workbook.data.images import image_files
from workbook.data.reading import Coco, DataError, content_hash, is_crowd, read_coco
from workbook.evaluation.sizes import sizes_of
from workbook.files import write_json
from workbook.partial import partial_of

Label = tuple[int, str]  # category id, size
IMAGE: Label = (-1, "image")  # the label of every image, so that the number of images is divided in the same ratio
SIDES = ("train", "val")  # a tie goes to train: a single object can be learned there, and measures nothing in val


def split(name: str, val_share: float = 0.2, seed: int = 0, group_by: str = "") -> tuple[Path, Path]:
    """Make train.json and val.json of the dataset out of its train.json alone; returns their paths.

    The whole set stays as `all.json`; to split anew, delete val.json. `group_by` names a field of the images: images
    with the same value stay together, as images of the same bytes always do. The same arguments give the same split.
    Each side gets an image with an object. Raises DataError when val.json exists, the data has errors, there is nothing to
    divide, or the folder cannot be written.
    """
    if not 0 < val_share < 1:
        raise DataError(f"val_share={val_share}: it is the share of val, more than 0 and less than 1, such as 0.2")
    folder = dataset_folder(name)
    train_json, val_json, all_json = (folder / f"{part}.json" for part in ("train", "val", "all"))
    if val_json.exists():
        raise DataError(f"{val_json} exists already. To split anew, delete it: the whole set is then made from "
                        f"{'all.json' if all_json.exists() else 'train.json'}")
    whole = _whole_set(name, folder)
    side_of = divide(whole, folder, val_share, seed, group_by)
    how = {"val_share": val_share, "seed": seed, "group_by": group_by, "of": content_hash(whole)}
    with _writable(folder):
        if not all_json.exists():
            _copy(train_json, all_json)
        for side, path in zip(SIDES, (train_json, val_json), strict=True):  # val last: its presence says that all is done
            write_json(path, part_of(whole, {image for image, own in side_of.items() if own == side}, how))
    return train_json, val_json


def divide(whole: Coco, folder: Path, val_share: float, seed: int = 0, group_by: str = "") -> dict[int, str]:
    """Image id → its side, train or val: stratified by class and object size, images that must stay together on one side.

    whole: sound tables, whose images are in `folder/images`. Raises DataError when there is nothing to divide.
    """
    groups = _groups(whole, folder, group_by)
    labels = _labels(whole)
    counts = [sum((labels[image] for image in group), Counter()) for group in groups]
    _require_two(folder, whole, [group for group, count in zip(groups, counts, strict=True) if _has_objects(count)])
    sides = _deal(counts, val_share, random.Random(seed))
    return {image: side for group, side in zip(groups, sides, strict=True) for image in group}


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Inside, a folder that cannot be written is said to be one of the data, not of the outputs."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        do = "Make room there" if full else "Make the folder writable"
        raise DataError(f"cannot write in {folder}: {error.strerror}. {do}, or copy it into another folder and set WORKBOOK_DATA "
                        "to that one. What was there before is whole, and the same call goes on") from error


def _require_two(folder: Path, whole: Coco, with_objects: list[list[int]]) -> None:
    """Raises DataError when fewer than two of the groups hold objects."""
    if len(with_objects) >= 2:
        return
    images = [image["file_name"] for image in whole["images"] if image["id"] in with_objects[0]]
    one = len(images) == 1
    which = f"only one image holds objects, {images[0]}" if one else \
        f"all objects are in images that must stay together, {listed(images, 3)}"
    raise DataError(f"{folder}: {which}. A val set without an object measures nothing, and from a train set without one nothing is "
                    "learned: label the objects of a second image" + ("" if one else " that is none of these"))


def _whole_set(name: str, folder: Path) -> Coco:
    """all.json when train.json is nothing but a part of it (a split was broken off or undone), else train.json."""
    source = "all" if (folder / "all.json").exists() else "train"
    stop_at_errors(name, folder, check_dataset(folder, splits=(source,)))
    whole = read_coco(folder / f"{source}.json")
    if source == "all":
        train = read_coco(folder / "train.json")
        own = content_hash(train)
        if content_hash(whole) != own and _made(train) != (content_hash(whole), own):
            raise DataError(f"{folder / 'all.json'} is there, but train.json was changed or is of another set: delete "
                            "or rename all.json if train.json holds the whole set, or copy all.json over train.json")
    return whole


def _made(part: Coco) -> tuple[str, str]:
    """What a split has written into its file: the hash of the whole set, and that of the file itself."""
    info: Any = part.get("info")
    how = info.get("split") if isinstance(info, dict) else None
    return (str(how.get("of")), str(how.get("hash"))) if isinstance(how, dict) else ("", "")


def _groups(whole: Coco, folder: Path, group_by: str) -> list[list[int]]:
    """Image ids that must stay together: the same bytes, or the same value of `group_by`; in the order of the file."""
    if group_by and (without := [image["id"] for image in whole["images"] if group_by not in image]):
        fields = sorted(set.intersection(*(set(image) for image in whole["images"])) - {"id", "width", "height"})
        raise DataError(f"group_by={group_by}: {len(without)} image(s) have no such field, the first is image "
                        f"{without[0]}. Fields that every image has: {', '.join(fields)}")
    files = image_files(folder / "images", [image["file_name"] for image in whole["images"]])
    group_of: dict[int, list[int]] = {}
    first_with: dict[Hashable, int] = {}
    for image in whole["images"]:
        group_of[image["id"]] = [image["id"]]
        keys: list[Hashable] = [("bytes", files[image["file_name"]].sha256)]
        keys += [("field", repr(image[group_by]))] if group_by else []  # type: ignore[literal-required]
        for key in keys:
            _merge(group_of, first_with.setdefault(key, image["id"]), image["id"])
    groups = list({id(group): group for group in group_of.values()}.values())
    if len(groups) < 2:
        raise DataError(f"{folder}: all {len(whole['images'])} image(s) must stay together, so nothing can be divided")
    return groups


def _merge(group_of: dict[int, list[int]], one: int, other: int) -> None:
    group = group_of[one]
    merged = group_of[other]
    if group is not merged:
        group += merged
        group_of.update(dict.fromkeys(merged, group))


def _labels(whole: Coco) -> dict[int, Counter[Label]]:
    """Image id → how many objects of each class and size, and one image. On a size's border the smaller one counts."""
    labels = {image["id"]: Counter({IMAGE: 1}) for image in whole["images"]}
    for a in whole["annotations"]:
        if not is_crowd(a):
            labels[a["image_id"]][(a["category_id"], sizes_of(a["area"])[0])] += 1
    return labels


def _has_objects(group: Counter[Label]) -> bool:
    return group.total() > group[IMAGE]


def _deal(groups: list[Counter[Label]], val_share: float, rng: random.Random) -> list[str]:
    """The side of each group, given its counts of labels. No side stays without an object: at least two groups have one."""
    share = {"val": val_share, "train": 1 - val_share}
    totals = sum(groups, Counter())
    wanted = {side: {label: share[side] * count for label, count in totals.items()} for side in SIDES}
    lacking = {side: dict(wanted[side]) for side in SIDES}
    order = list(range(len(groups)))
    rng.shuffle(order)  # among equals, chance decides
    sides: dict[int, str] = {}
    left = Counter(totals)
    while left:
        rarest = min(left, key=lambda label: (left[label], label))
        holders = (number for number in order if number not in sides and groups[number][rarest])
        for number in sorted(holders, key=lambda number: -groups[number][rarest]):  # the large ones while there is room
            sides[number] = min(SIDES, key=lambda side: _cost(groups[number], lacking[side], wanted[side]))
            for label, count in groups[number].items():
                lacking[sides[number]][label] -= count
            left -= groups[number]  # labels that reach zero drop out
    with_objects = [number for number in sides if _has_objects(groups[number])]
    for side in SIDES:
        if side not in {sides[number] for number in with_objects}:
            sides[with_objects[-1]] = side  # the last one dealt holds only what there is most of
    return [sides[number] for number in range(len(groups))]


def _cost(group: Counter[Label], lacking: dict[Label, float], wanted: dict[Label, float]) -> float:
    """How much giving the group to a side changes its sum of (lacking)² / wanted over the labels; less is better."""
    return sum(count * (count - 2 * lacking[label]) / wanted[label] for label, count in group.items())


def part_of(whole: Coco, images: set[int], how: dict[str, Any]) -> dict[str, Any]:
    """The file of one side: the chosen images in the order of the whole set; every other key stays."""
    part: dict[str, Any] = {**whole, "images": [image for image in whole["images"] if image["id"] in images],
                            "annotations": [a for a in whole["annotations"] if a["image_id"] in images]}
    info = part.get("info") if isinstance(part.get("info"), dict) else {}
    return {**part, "info": {**info, "split": {**how, "hash": content_hash(part)}}}  # type: ignore[dict-item, arg-type]


def _copy(source: Path, target: Path) -> None:
    """The user's own bytes; whole or not at all."""
    with partial_of(target) as partial:
        shutil.copyfile(source, partial)
        partial.replace(target)
