"""What makes a run another run: the content of its weight files and the precision it computes in, not the words that
asked for them."""

from __future__ import annotations

from pathlib import Path

from workbook.models.backbones import find_backbone
from workbook.models.weights import WeightsError, find_weights, sha256
from workbook.training.parameters import Parameters


def resolve(parameters: Parameters) -> dict[str, str]:
    """What `pretrained`, `load_from`, `precision` and `remedies` stand for on this machine: `runs.folder.identity` takes these in
    their place.

    Files are their sha256, so another file under the same path is another run, and the same file under another path is
    the same run: a path has no influence on what is learned. `none` and an empty `load_from` stay as they are.
    Precision is fp32 or bf16. A remedy of the user's own counts with the sha256 of its file. Weights that are not on
    this machine are fetched. Raises WeightsError and ParameterError.
    """
    from workbook.models.device import pick_device, pick_precision  # torch takes a second

    weights = find_weights(parameters.pretrained, find_backbone(parameters.backbone).weights)
    resolved = {
        "pretrained": sha256(weights) if weights else "none",
        "load_from": sha256(load_from_file(parameters)) if parameters.load_from else "",
        "precision": pick_precision(parameters.precision, pick_device(parameters.device, parameters.devices)),
    }
    if parameters.remedies:
        from workbook.remedies.registry import identity_of

        resolved["remedies"] = identity_of(parameters.remedies)
    return resolved


def load_from_file(parameters: Parameters) -> Path:
    """The checkpoint that `load_from` names. Raises WeightsError when it is not there."""
    path = Path(parameters.load_from)
    if not path.is_file():
        raise WeightsError(f"load_from={parameters.load_from}: no such file. "
                           f"It must be a checkpoint of a whole {parameters.detector}")
    return path
