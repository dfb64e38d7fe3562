"""All that a `run.json` knows and that can decide a figure: what two runs may differ in besides what they are compared for.

The machine is no such thing. Another GPU or CPU, and the instruction set that torch finds on it (`settings.cpu_capability`), move the
last bits of a figure, as another order of a sum does, and its speed. What a machine changes more than that is recorded by itself: the
precision as it became, and the number of devices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workbook.runs.folder import with_later_parameters

# what can decide a result besides the backbone → where run.json has it
ASPECTS = {
    "dataset": "parameters.dataset", "data contents": "data.hash", "detector": "parameters.detector",
    "recipe": "parameters.recipe", "optimizer": "optimizer.type", "initial lr": "optimizer.lr",
    "optimizer settings": "optimizer.other", "lr schedule": "schedule", "epochs": "parameters.epochs",
    "batch size": "parameters.batch_size", "devices": "parameters.devices", "image size": "parameters.image_size",
    "pretraining": "parameters.pretrained", "start weights": "parameters.load_from",
    "overrides": "parameters.overrides", "remedies": "parameters.remedies", "precision": "settings.precision", "seed": "parameters.seed",
    "use of images without objects": "parameters.empty_images", "git commit": "git_commit", "origin": "origin.path",
}
CONTENTS = ("data contents", "start weights' contents")  # hashes, of which eight digits are shown
WEIGHTS_OF = "contents of the weights of "  # and the name of a backbone
OF_THE_MACHINE = ("cpu_capability",)
ABSENT = object()  # what a run has not written


def aspects(record: Mapping[str, Any]) -> dict[str, Any]:
    """Aspect → its value, of all that can decide a result besides the backbone; what the run has not written is not there."""
    record = with_later_parameters(record)
    values = {aspect: value_at(record, path) for aspect, path in ASPECTS.items()}
    values |= {f"version of {package}": version for package, version in record.get("versions", {}).items()}
    values |= {
        f"torch setting {key}": value for key, value in record.get("settings", {}).items() if key not in ("precision", *OF_THE_MACHINE)
    }
    values |= _weight_contents(record)
    return {aspect: value for aspect, value in values.items() if value is not ABSENT}


def value_at(record: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path of run.json, `ABSENT` where it is not written."""
    if path == "optimizer.other":
        rest = {key: value for key, value in record.get("optimizer", {}).items() if key not in ("type", "lr")}
        return rest if "optimizer" in record else ABSENT
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return ABSENT
        value = value[key]
    return value


def aspect_words(aspect: str, value: Any) -> str:
    """The value of an aspect as a person writes it."""
    if aspect.startswith("contents") or aspect in CONTENTS:
        return str(value)[:8]
    if aspect == "image size":
        return "x".join(map(str, value))
    if value in (None, "", {}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True).replace('"', "")


def _weight_contents(record: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of the weight files. Those of the backbone are compared between runs of the same backbone alone."""
    parameters = record.get("parameters", {})
    of_backbone = value_at(record, "model.weights")
    contents = {}
    for path, digest in record.get("files", {}).items():
        if path == of_backbone and path != parameters.get("load_from"):
            contents[f"{WEIGHTS_OF}{parameters.get('backbone')}"] = digest
        else:
            contents["start weights' contents"] = digest
    return contents
