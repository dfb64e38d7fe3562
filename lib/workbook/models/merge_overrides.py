"""Overrides put into a config: what they name must be there, be of the same kind, and be decided by no parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmcv import Config

from workbook.models.kinds import default_of, fitted

FRESH = "_delete_"  # mmcv's word for a group that replaces another one whole


def merge_overrides(config: Config, overrides: Mapping[str, Any]) -> None:
    """Apply mmcv-style `a.b.c = value` to `config`.

    Raises ValueError when there is nothing above the last key, when a value is of another kind than the one that it replaces, and
    for a new key where nobody would miss a misspelled one: what has a `type` refuses unknown keys when it is built.
    """
    changes = {}
    for key, value in overrides.items():
        for place, new in _single_changes(config, key, value):
            changes[place] = {**new, FRESH: True} if isinstance(new, Mapping) else new
    config.merge_from_dict(changes, allow_list_keys=True)


def _single_changes(config: Config, key: str, new: Any) -> Iterator[tuple[str, Any]]:
    """An override of a group is one of each of its keys, at every depth, but where a whole group is given anew."""
    old = _known_value(config, key)
    if not _merges(old, new):
        yield key, fitted(key, old, new)
        return
    for part, value in new.items():
        yield from _single_changes(config, f"{key}.{part}", value)


def _merges(old: Any, new: Any) -> bool:
    """Whether `new` changes keys of the group `old`, or, by their numbers, elements of the list `old`."""
    if not isinstance(new, Mapping) or FRESH in new:
        return False
    return isinstance(old, Mapping) or (isinstance(old, list | tuple) and all(str(part).isdigit() for part in new))


def _known_value(config: Config, key: str) -> Any:
    """What an override of `key` would replace: what stands there, or the default of its reader; None where nothing is known.

    Raises ValueError where no such key can be.
    """
    parent: Any = config
    *path, last = key.split(".")
    for part in path:
        parent = _step_into(parent, part, key)
    if not path and last not in config:
        raise ValueError(f"override {key}: unknown key. Known at this level: {', '.join(config.keys())}")
    if not path or not hasattr(parent, "keys") or last in parent:
        return _step_into(parent, last, key)
    if not _refuses_unknown(parent, key):
        known = ", ".join(parent.keys()) or "none"
        raise ValueError(f"override {key}: unknown key '{last}'. Known at this level: {known}")
    default = default_of(parent, last)
    return None if isinstance(default, Mapping) else default  # a group that is not there is given whole


def _refuses_unknown(parent: Mapping[str, Any], key: str) -> bool:
    """Whether the reader of `parent` refuses a key that it does not know; mmdet's samplers accept and ignore any."""
    return key.startswith(("lr_config.", "optimizer.")) or ("type" in parent and ".sampler." not in key)


def _step_into(parent: Any, part: str, key: str) -> Any:
    if isinstance(parent, list | tuple):
        if part.isdigit() and int(part) < len(parent):
            return parent[int(part)]
        raise ValueError(f"override {key}: '{part}' is not an index below {len(parent)}")
    if not hasattr(parent, "keys"):
        raise ValueError(f"override {key}: there is nothing below '{parent}' to name '{part}' in")
    if part not in parent:
        raise ValueError(f"override {key}: unknown key '{part}'. Known at this level: {', '.join(parent.keys())}")
    return parent[part]


def require_as_asked(config: Config, image_size: tuple[int, int], classes: int) -> None:
    """Raises ValueError where an override has changed what a parameter decides, by whatever way it came there.

    The number of classes is that of the dataset. Images are scaled to `image_size`; in training they may be scaled to several sizes in
    turn, for which there is no parameter. In validation nothing is flipped: mmdet would not turn the detections back.
    """
    for place, count in _values(config.model, "model", "num_classes"):
        if count != classes:
            raise ValueError(f"override {place}: {count} classes, but the dataset has {classes}. Its train.json lists the classes: use "
                             "the parameter dataset")
    for split in ("train", "val"):
        _require_scales(split, config.data[split].pipeline, image_size)
    for place, ratio in _values(config.data.val.pipeline, "data.val.pipeline", "flip_ratio"):
        if ratio not in (None, 0):
            raise ValueError(f"override {place}: {ratio}, but val images are never flipped: their detections would lie beside the "
                             f"objects. Use data.train.{place.partition('val.')[2]} for the train images")


def _require_scales(split: str, pipeline: Any, image_size: tuple[int, int]) -> None:
    place = f"data.{split}.pipeline"
    scales = list(_values(pipeline, place, "img_scale"))
    if not scales:
        raise ValueError(f"override {place}: it has no Resize, so the parameter image_size would have no meaning. Add "
                         f"{{'type':'Resize','img_scale':{image_size},'keep_ratio':True}}".replace(", ", ","))
    for key, scale in scales:
        sizes = scale if isinstance(scale, list) else [scale]
        if sizes != [image_size] and not (split == "train" and len(sizes) > 1):
            more = "; several sizes in turn are data.train.pipeline.2.img_scale=[(640,640),(800,800)]" if split == "train" else ""
            raise ValueError(f"override {key}: {scale}, but images are scaled to {image_size}: use the parameter image_size{more}")


def _values(value: Any, place: str, wanted: str) -> Iterator[tuple[str, Any]]:
    """Every value of the key `wanted` in nested groups and lists, with its place."""
    if isinstance(value, Mapping):
        parts = list(value.items())
    else:
        parts = [(str(number), item) for number, item in enumerate(value)] if isinstance(value, list | tuple) else []
    for key, item in parts:
        if key == wanted:
            yield f"{place}.{key}", item
        else:
            yield from _values(item, f"{place}.{key}", wanted)
