"""The kind of a config's value, and what an override may put in its place: a number for a number, a list for a list.

mmdet checks few of its values. `scales=4` instead of `scales=[4]` makes torch.Tensor(4), four numbers that nobody has set.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from mmcv.cnn.bricks import registry as bricks
from mmcv.runner.optimizer import OPTIMIZERS
from mmcv.utils import Registry
from mmdet.core.anchor.builder import PRIOR_GENERATORS
from mmdet.core.bbox.builder import BBOX_ASSIGNERS, BBOX_CODERS, BBOX_SAMPLERS
from mmdet.core.bbox.iou_calculators.builder import IOU_CALCULATORS
from mmdet.core.bbox.match_costs.builder import MATCH_COST
from mmdet.datasets.builder import DATASETS, PIPELINES
from mmdet.models.builder import MODELS
from mmdet.models.utils.builder import TRANSFORMER


class Kind(StrEnum):
    YES_OR_NO = "a yes or no (True or False)"
    NUMBER = "a number"
    WORD = "a word"
    LIST = "a list"
    GROUP = "a group of keys"


TYPES: dict[Kind, type | tuple[type, ...]] = {  # in this order: True is an int, too
    Kind.YES_OR_NO: bool, Kind.NUMBER: (int, float), Kind.WORD: str, Kind.LIST: (list, tuple), Kind.GROUP: Mapping,
}
# Keys where mmdet takes one of two types, by its docstrings. A list of another type it would pass over without a word
EITHER: dict[str, tuple[type, type]] = {
    "flip_ratio": (float, list), "direction": (str, list), "neg_iou_thr": (float, tuple), "conv_bias": (bool, str),
    "add_extra_convs": (bool, str), "pretrain_img_size": (int, tuple), "patch_size": (int, tuple), "out_indices": (int, tuple),
    "init_cfg": (dict, list), "transformerlayers": (dict, list), "attn_cfgs": (dict, list),
}
PAIRS = ("img_scale", "strides")  # lists of numbers, or of pairs of numbers
REGISTRIES: tuple[Registry, ...] = (
    MODELS, TRANSFORMER, PRIOR_GENERATORS, BBOX_ASSIGNERS, BBOX_CODERS, BBOX_SAMPLERS, IOU_CALCULATORS, MATCH_COST, DATASETS,
    PIPELINES, OPTIMIZERS, bricks.ATTENTION, bricks.FEEDFORWARD_NETWORK, bricks.POSITIONAL_ENCODING, bricks.TRANSFORMER_LAYER,
    bricks.TRANSFORMER_LAYER_SEQUENCE,
)


def fitted(key: str, old: Any, new: Any) -> Any:
    """`new` in the form in which it may stand in the place of `old` at `key`: where a float stands, 1 becomes 1.0.

    Raises ValueError when it is of another kind than `old` and than mmdet takes there; the message names both kinds and an example.
    A None fits everywhere but for a yes or no: whether its reader takes it shows when the detector is built and tried.
    """
    kind = kind_of(old)
    if kind is None or (new is None and kind is not Kind.YES_OR_NO):
        return new
    either = EITHER.get(key.rpartition(".")[2], ())
    if kind_of(new) not in {kind, *(kind_of(one()) for one in either)}:
        raise ValueError(f"override {key}: {new!r} is {_words(new)}, where {kind} stands, {_short(old)}. {_example(key, old, new)}")
    if kind_of(new) is Kind.NUMBER:
        return _like(old if kind is Kind.NUMBER else 0.5, new)
    if kind_of(new) is Kind.LIST:
        form = next((one for one in either if issubclass(one, list | tuple)), type(old))
        return _fitted_list(key, old, new, form)
    return new


def _fitted_list(key: str, old: Any, new: Any, form: type) -> Any:
    """The elements of `new`, each in the form of those of `old`, as a list or a tuple: whichever `form` is."""
    if key.rpartition(".")[2] in PAIRS and all(_is_pair(element) for element in new):
        return [tuple(element) for element in new]
    of_old = list(old) if isinstance(old, list | tuple) else [old]
    kinds = {kind_of(element) for element in of_old}
    wrong = [element for element in new if kind_of(element) not in kinds]
    if len(kinds) == 1 and wrong:
        raise ValueError(f"override {key}: {wrong[0]!r} in {new!r} is {_words(wrong[0])}, where {_words(of_old[0])} stands, "
                         f"{_short(old)}. {_example(key, old, old)}")
    if kinds == {Kind.NUMBER}:
        model = next((element for element in of_old if isinstance(element, float)), of_old[0])
        return form(_like(model, element) for element in new)
    return form(new)


def kind_of(value: Any) -> Kind | None:
    """None for a None, and for what no config holds."""
    return next((kind for kind, types in TYPES.items() if isinstance(value, types)), None)


def default_of(group: Mapping[str, Any], key: str) -> Any:
    """What a key that `group` does not give stands for: the default of the class of its `type`, None where there is none."""
    for owner in _classes(str(group.get("type"))):
        for init in filter(None, (vars(base).get("__init__") for base in inspect.getmro(owner)[:-1])):
            known = inspect.signature(init).parameters.get(key)
            if known is not None and known.default is not inspect.Parameter.empty:
                return known.default
    return None


def _classes(name: str) -> Iterator[type]:
    for registry in REGISTRIES:
        found = registry.module_dict.get(name)
        if inspect.isclass(found):
            yield found


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and [kind_of(side) for side in value] == [Kind.NUMBER] * 2


def _like(old: Any, new: Any) -> Any:
    """A number in the form of another one, its value the same: mmdet's RandomFlip takes 1.0 and no 1, a sampler 64 and no 64.0."""
    if isinstance(old, float):
        return float(new)
    return int(new) if isinstance(new, float) and new.is_integer() else new


def _example(key: str, old: Any, new: Any) -> str:
    """What may be written instead: the value in a list, the only value of a list, or else what stands there."""
    if isinstance(old, Mapping):
        return f"Give its keys one by one, such as {key}.{next(iter(old), 'key')}"
    value = old
    if kind_of(old) is Kind.LIST and old and kind_of(new) is kind_of(old[0]):
        value = [new]
    elif kind_of(new) is Kind.LIST and len(new) == 1 and kind_of(new[0]) is kind_of(old):
        value = new[0]
    return f"For example {key}={_short(value).replace(' ', '')}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _words(value: Any) -> str:
    return str(kind_of(value) or "None")
