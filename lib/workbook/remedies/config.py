"""Where a config has what several remedies change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcv import Config, ConfigDict


def final_test_cfg(config: Config) -> ConfigDict:
    """The settings by which the detector picks its last boxes: score threshold, suppression, limit."""
    test_cfg = config.model.test_cfg
    return test_cfg.rcnn if "rcnn" in test_cfg else test_cfg


def transforms(config: Config, split: str, kind: str) -> list[Any]:
    """The transforms of this type in the pipeline of `train` or `val`, as the config has them."""
    return [step for step in config.data[split].pipeline if step["type"] == kind]


def insert_transform(config: Config, before: str, step: dict[str, Any]) -> None:
    """Put the step before the first transform of type `before` in the pipeline of train."""
    from mmcv import ConfigDict

    pipeline = list(config.data.train.pipeline)
    place = [each["type"] for each in pipeline].index(before)
    config.data.train.pipeline = [*pipeline[:place], ConfigDict(step), *pipeline[place:]]


def nominal_size(config: Config) -> tuple[int, int]:
    """Width and height in pixels that validation scales an image into, ratio kept: what training varies about."""
    [resize] = transforms(config, "val", "Resize")
    width, height = resize.img_scale
    return int(width), int(height)


def import_module(config: Config, name: str) -> None:
    """Have the run, and whoever reads its config, import this module of the workbook, which registers what the config names."""
    import importlib

    importlib.import_module(name)
    if name not in config.custom_imports.imports:
        config.custom_imports.imports = [*config.custom_imports.imports, name]
