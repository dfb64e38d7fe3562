"""Labels to look at: the detector is as sure as it is of half of what it finds, and the labels say otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

NO_LABEL, OTHER_CLASS = "no label here?", "another class?"


@dataclass(frozen=True)
class Suspects:
    """Where a label may be missing, and which may be wrong."""

    sure: float  # from this score on the detector is asked
    unlabelled: np.ndarray  # [detections] bool: sure, and near no object
    mislabelled: np.ndarray  # [truths] bool: missed, and surely named another class


def find_suspects(trace: pd.DataFrame, score: np.ndarray, outcome: np.ndarray, kind: np.ndarray) -> Suspects:
    """trace: a row a truth. score, outcome, kind: [detections], as in kept.DETECTION_COLUMNS.

    Sure is the median score of the true detections, because detectors differ in how high they score; one that finds
    nothing has only its scores of 1 asked about.
    """
    true = score[outcome == "true"]
    sure = float(np.median(true)) if len(true) else 1.0
    named = trace["named_class"].where(trace["named_class"].notna(), "background")
    other = (named != "background") & (named != trace["class"]) & ~trace["detected"].astype(bool)
    return Suspects(sure, (kind == "background") & (score >= sure), (other & (trace["named_score"] >= sure)).to_numpy(bool))
