"""Bad studies and bad tables of earlier experiments: what is wrong, what a person asks then, and a part of what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbook.runs.reported import adopt
from workbook.studies.study import read_study

GRID = "grid: {dataset: pets, backbone: [tf_efficientnet_lite0, tf_efficientnet_lite2], recipe: finetune}\n"
CLAIM = "claims: ['{}']\n"
HEAD = "| Exp num | Backbone | Epoch | Best Epoch | val/bbox_mAP | val/bbox_mAP_50 | val/acc |\n|---|---|---|---|---|---|---|\n"
SOUND = "| 1 | R50 | 1x | 10 | 0.231 | 0.424 | 92.1 |\n"


Row = tuple[str, str, Callable[[Any], Any], str, str, Callable[[Any], Any]]  # as bad_inputs.Case


def _study(wrong: str, says: str, text: str) -> Row:
    def arrange(place: Any) -> None:
        (place.root / "mine.yaml").write_text(text)

    def ask(place: Any) -> None:
        read_study(place.root / "mine.yaml", {})

    return "Studies", wrong, ask, says, "stops before training", arrange


def _table(wrong: str, says: str, text: str, dataset: str = "pets") -> Row:
    def arrange(place: Any) -> None:
        (place.root / "experiments.md").write_text(text)

    def ask(place: Any) -> None:
        adopt(place.root / "experiments.md", dataset)

    return "Earlier tables", wrong, ask, says, "refused; nothing is changed", arrange


STUDIES = [
    _study("a study that is no YAML", "is no YAML", "grid: ["),
    _study("a study without runs", "no grid: a study says which runs it needs", "question: why\n"),
    _study("a study with several mistakes", "line 2: 'lite9 > lite0 on mAP': no run of this study",
           "question: 7\n" + CLAIM.format("lite9 > lite0 on mAP") + GRID + "because: so\n"),
    _study("a claim and a key of the grid that are both wrong", "no such parameter", CLAIM.format("lite9 > lite0 on mAP")
           + GRID.replace("}", ", sed: 1}")),
    _study("parameters beside the grid of a study", "parameters of the runs belong under grid", "question: why\nepochs: 3\n" + GRID),
    _study("a key of a study that is there twice", "'grid' is there twice", GRID + GRID),
    _study("a claim in free words", "is no claim. A claim is 'LEFT > RIGHT on FIGURE'", CLAIM.format("lite2 is better") + GRID),
    _study("a claim about a backbone that is not trained", "no run of this study has backbone 'swin_t'. Its values:",
           CLAIM.format("swin_t > lite0 on bbox_mAP") + GRID),
    _study("a claim whose short form may mean two", "'lite' may be tf_efficientnet_lite0 or tf_efficientnet_lite2",
           CLAIM.format("lite > lite0 on bbox_mAP") + GRID),
    _study("a claim of equality without a margin", "only within a margin between 0 and 1",
           CLAIM.format("lite2 = lite0 on bbox_mAP") + GRID),
    _study("a claim about seeds", "seed cannot be claimed",
           CLAIM.format("seed=1 > seed=0 on bbox_mAP") + GRID.replace("}", ", seed: [0, 1]}")),
]
TABLES = [
    _table("a row with a cell too many", "cell 7, '374' under val/acc, is too many", HEAD + SOUND.replace("| 92.1 |", "| 374 | 92.1 |")),
    _table("a precision in percent", "val/bbox_mAP is '23.1'. Allowed: a precision from 0 to 1", HEAD + SOUND.replace("0.231", "23.1")),
    _table("a decimal comma", "val/bbox_mAP is '0,231'. Allowed: a precision from 0 to 1. Write it with a point: 0.231",
           HEAD + SOUND.replace("0.231", "0,231")),
    _table("a precision above that at IoU .5", "val/bbox_mAP 0.531 is above val/bbox_mAP_50 0.424", HEAD + SOUND.replace("0.231", "0.531")),
    _table("a best epoch after the last", "Best Epoch 13 is after the last one, 12", HEAD + SOUND.replace("| 10 |", "| 13 |")),
    _table("an unknown column", "unknown columns: mAP. Known: Exp num", HEAD.replace("val/bbox_mAP |", "mAP |", 1) + SOUND),
    _table("a table of a dataset that is not there", "no dataset 'cats'", HEAD + SOUND, "cats"),
    _table("a file without a table", "holds no table", "just words"),
]
