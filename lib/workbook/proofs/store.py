"""A search for remedies and its proof as `outputs/remedies/<name>/proof.json` holds them: one writer, one reader.

A gain is claimed from `sizes` alone: there the winner and the baseline were trained with fresh seeds on the whole of
train, and measured on val once. What `arms` says was measured on images cut from train, to choose the winner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbook.errors import RunError
from workbook.files import outputs_root, read_json, write_json

PROOF_FILE = "proof.json"
OWN, EVALUATION, TRAINING, COMBINATION = "baseline", "evaluation", "training", "combination"
CURVE, LABELS = "curve", "labels"
MORE_IMAGES, MENDED_LABELS = "more_images", "mended_labels"  # what no remedy of a run can do, but its user


@dataclass(frozen=True)
class ArmResult:
    """One arm of the search, measured on images cut from train. Figures are None where it could not be measured.

    kind: baseline (no remedy), evaluation (the baseline's weights under other test settings), training, combination, curve
    (the prediction for twice the images) or labels (the upper bound for mended labels, on val).
    """

    remedies: tuple[str, ...]
    kind: str
    outcome: str  # what became of it, in words
    promised: float | None  # what the stages that it addresses cost, by the diagnosis
    seeds: int
    score: float | None  # the AP of the size, mean over the seeds
    gain: float | None  # the same less the baseline's
    low: float | None  # 95%, of the gain; not corrected: it chooses, and claims nothing
    high: float | None
    images: int  # that score, and hold such objects
    objects: int
    work: float | None  # steps times pixels of its training, as a multiple of the baseline's
    seconds_a_step: float | None
    seconds_an_image: float | None
    runs: tuple[str, ...]


def unmeasured(remedies: tuple[str, ...], kind: str, outcome: str, promised: float | None = None) -> ArmResult:
    """An arm without figures."""
    return ArmResult(remedies, kind, outcome, promised, 0, None, None, None, None, 0, 0, None, None, None, ())


@dataclass(frozen=True)
class SizeProof:
    """One size of the proof: AP on val, means over the seeds."""

    before: float | None  # None where val has no such object
    after: float | None
    difference: float | None
    low: float | None  # 95% over seeds and images, corrected for the sizes (Holm); None on too few images
    high: float | None
    promised: float | None  # what the stages cost that the winner addresses, by the diagnosis

    @property
    def gains(self) -> bool:
        """Whether a gain may be claimed: the corrected interval lies above 0."""
        return self.low is not None and self.low > 0

    @property
    def loses(self) -> bool:
        """Whether a loss may be claimed."""
        return self.high is not None and self.high < 0


@dataclass(frozen=True)
class Cost:
    """What a setting of the proof costs, and what it reports: means over its seeds."""

    runs: tuple[str, ...]
    evaluation: str  # the name of the evaluation of these runs that was measured; empty for the runs themselves
    steps: int  # of a training
    pixels: float  # of an image as the network is trained on it
    training_seconds: float
    seconds_a_step: float
    seconds_an_image: float  # of validation, losses included
    detections_an_image: float
    images: int  # of val
    objects: Mapping[str, int]  # size → how many in val
    recall: Mapping[str, float | None]  # size → the share of its objects that COCO counts as found at IoU .50


@dataclass(frozen=True)
class Control:
    """The baseline at the winner's cost."""

    how: str  # how it was made, in words
    sizes: Mapping[str, SizeProof]  # `before` is the control's AP; empty where it is no training of its own


@dataclass(frozen=True)
class Proof:
    """What would fix a run: the arms that were tried, the winner, and what it brings on val.

    Without a winner there was nothing to prove: `winner`, `seeds` and `sizes` are empty, `control` is None. A winner without
    `sizes` was found within a budget that does not hold the proof.
    """

    run: str
    size: str
    winner: tuple[str, ...]
    seeds: tuple[int, ...]
    control: Control | None
    sizes: Mapping[str, SizeProof]
    cost: Mapping[str, Cost]  # before, after, control: those that there are
    arms: tuple[ArmResult, ...]

    @property
    def is_proven(self) -> bool:
        """Whether what the search found was put to the proof; without a winner there is nothing to prove."""
        return bool(self.sizes) or not self.winner

    @property
    def is_claimed(self) -> bool:
        """Whether the winner may be called one that raises the AP of the size."""
        return bool(self.sizes) and self.sizes[self.size].gains

    def to_json(self) -> dict[str, Any]:
        """Plain values, as the file has them."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Proof:
        """The proof that `to_json` gave. Raises KeyError or TypeError for anything else."""
        control = content["control"]
        return cls(
            run=content["run"], size=content["size"], winner=tuple(content["winner"]), seeds=tuple(content["seeds"]),
            control=Control(control["how"], _sizes(control["sizes"])) if control else None,
            sizes=_sizes(content["sizes"]),
            cost={name: Cost(**{**one, "runs": tuple(one["runs"])}) for name, one in content["cost"].items()},
            arms=tuple(
                ArmResult(**{**one, "remedies": tuple(one["remedies"]), "runs": tuple(one["runs"])}) for one in content["arms"]
            ),
        )


def _sizes(content: Mapping[str, Mapping[str, Any]]) -> dict[str, SizeProof]:
    return {size: SizeProof(**one) for size, one in content.items()}


def remedies_root() -> Path:
    """The folder that holds one folder a search."""
    return outputs_root() / "remedies"


def search_folder(run_name: str, size: str) -> Path:
    """The folder of the search for this run and size."""
    return remedies_root() / f"{run_name}-{size}"


def save_proof(folder: Path, proof: Proof) -> None:
    """Write proof.json, whole or not at all. Raises RunError when there is a finished one: it is not overwritten."""
    path = folder / PROOF_FILE
    known = load_proof(folder)
    if known and known.is_proven:
        raise RunError(f"{path} is there already: delete it to search anew. The runs that were trained are not trained again")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, proof.to_json())


def load_proof(folder: Path) -> Proof | None:
    """The proof that the folder holds; None where there is none. Raises RunError for a file that is not one."""
    path = folder / PROOF_FILE
    if not path.exists():
        return None
    try:
        return Proof.from_json(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is not as the search writes it ({error!r}): restore it, or delete it and call `workbook remedy` "
                       "again, which trains no finished run anew") from error
