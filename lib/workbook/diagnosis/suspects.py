"""Labels to look at: the detector is sure, and the labels say otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbook.diagnosis.stage import LEAST_PRECISION

NO_LABEL, OTHER_CLASS = "no label here?", "another class?"


@dataclass(frozen=True)
class Suspects:
    """Where a label may be missing, and which may be wrong."""

    sure: float  # from this score on the detector is asked
    unlabelled: np.ndarray  # [detections] bool: sure, and near no object
    mislabelled: np.ndarray  # [objects] bool: missed, and surely named another class


def find_suspects(trace: pd.DataFrame, detections: pd.DataFrame) -> Suspects:
    """trace: a row an object (trace.COLUMNS). detections: a row a detection (diagnose.DETECTION_COLUMNS).

    Sure is as high as the surest half of the true detections score, because detectors differ in how high they score; and
    so high that half of the detections from there on are true, because a poor detector is sure of much that is not there.
    Where there is no such score it is 1.
    """
    score = detections["score"].to_numpy(float)
    outcome = detections["outcome"].to_numpy(object)
    kind = detections["kind"].to_numpy(object)
    order = np.argsort(-score, kind="stable")
    true = (outcome == "true")[order]
    found = np.cumsum(true)
    asked = true & (found <= (true.sum() + 1) // 2) & (found >= LEAST_PRECISION * np.arange(1, len(true) + 1))
    sure = float(score[order][asked].min(initial=1.0))
    named = trace["named_class"].where(trace["named_class"].notna(), "background")
    other = (named != "background") & (named != trace["class"]) & ~trace["detected"].astype(bool)
    return Suspects(sure, (kind == "background") & (score >= sure), (other & (trace["named_score"] >= sure)).to_numpy(bool))
