"""Why objects are missed, in plain words computed from the figures: the paragraph that opens the page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from workbook.diagnosis.stages import LEAST_PRECISION
from workbook.diagnosis.store import Kept
from workbook.diagnosis.trace import LIMIT, NEIGHBOUR
from workbook.evaluation.bootstrap import FEW_HOLD, FEW_IMAGES
from workbook.views.compare.tables import as_text

RANKING = "ranking"
# stage → how many it loses; words in braces follow the number
LOST = {
    "proposals": "{n} {were} never proposed",
    "candidates": "{n} {have} no point that answers for {them}",
    "queries": "{n} {have} no query that looks at {them}",
    "class": "{n} {are} not given {their} own class",
    "box": "{n} {get} no box that fits (IoU {iou:g})",
    "suppression": "{n} {are} lost after a good box was found",
}
NUMBER = {  # word → one, several
    "were": ("was", "were"), "have": ("has", "have"), "are": ("is", "are"), "get": ("gets", "get"),
    "them": ("it", "them"), "their": ("its", "their"), "objects": ("object", "objects"), "they": ("it", "they"),
}
CUTS = {  # trace's candidate_cut → why nothing stands on the object
    "no anchor reaches it": "because no anchor's predicted box comes near",
    "pre-NMS top-k": "because what stood there scored too low for the pre-NMS top-k",
    "RPN NMS": "because the RPN's NMS removed what stood there",
    "RPN max_per_img": "because what stood there scored too low for the limit of proposals",
    "score threshold": "because what stood there scored below the threshold",
    "no point's box is near it": "because no point's box comes near",
    "no query's box is near it": "because no query's box comes near",
}
TAKEN = {  # trace's lost_to → by what the good box was lost
    "NMS": "NMS", "score threshold": "the score threshold", "max_per_img": "the limit of detections",
    LIMIT: "COCO's limit of 100 of a class", NEIGHBOUR: "a neighbour, whose detection it is counted as",
}


def paragraph(kept: Kept, size: str = "small") -> str:
    """Markdown: how many objects of this size are missed and where, what each stage costs, and what would help.

    size: small, medium, large or all. Every number is of the trace or of the waterfall with its intervals.
    """
    objects = kept.trace if size == "all" else kept.trace[kept.trace["size"] == size]
    what = "object" if size == "all" else f"{size} object"
    if objects.empty:
        there = kept.trace["size"].value_counts()
        others = ", ".join(f"{count} {name}" for name, count in there.items()) or "none at all"
        return f"**Val has no {what}s**, so nothing can be said of them. It has: {others}."
    parts = [missed(objects, what, kept), taught(kept, size), costs(kept, size), help_for(kept, size)]
    return "\n\n".join(part for part in parts if part)


def missed(objects: pd.DataFrame, what: str, kept: Kept) -> str:
    """Of so many objects so many are missed, by which stage, and why there."""
    total, stages = len(objects), objects["stage"].value_counts()
    lost = int((~objects["detected"]).sum())
    late = int(stages.get(RANKING, 0))
    start = f"**Of {_count(total, what)} {lost} {_word('are', lost)} missed.**" if lost else f"**{_every(total, what)} found.**"
    told = [_lost(stage, objects[objects["stage"] == stage], kept) for stage in kept.stage_names if stage in LOST]
    told = [words for words in told if words]
    sentences = [start]
    if told:
        sentences.append("; ".join(told) + ".")
    if late:
        found = f"Of those found, {late}" if lost else f"{late} of them"
        sentences.append(f"{found} {_word('are', late)} found too late: at every score cut that shows {_word('them', late)}, "
                         f"less than {LEAST_PRECISION:.0%} of what is shown is true.")
    return " ".join(sentences)


def taught(kept: Kept, size: str) -> str:
    """The ceiling: how many objects of the training the detector is never taught; "" when it is taught with all."""
    of_train = kept.figures["ceiling"].get("train", {}).get(size, {"never_taught": 0, "objects": 0})
    never, objects = of_train["never_taught"], of_train["objects"]
    if not never:
        return ""
    what = "" if size == "all" else f"{size} "
    why = kept.reach[(kept.reach["subset"] == "train") & kept.reach["never_taught"]]
    why = why if size == "all" else why[why["size"] == size]
    need = f": {_of_them(_unreached(why, kept), never)} because no anchor reaches IoU {kept.anchor_iou:g}" if (
        _unreached(why, kept)) else ""
    return (f"Before the model: of the {_count(objects, what + 'object')} in train {never} ({never / objects:.0%}) "
            f"{_word('are', never)} never taught{need}.")


def costs(kept: Kept, size: str) -> str:
    """The AP now, and what each stage costs on the way to 1, largest first; what cannot be told is said to be so."""
    intervals, steps = kept.figures["intervals"][size], kept.figures["sizes"][size]["steps"]
    told: list[str] = []
    open_: list[str] = []
    free: list[str] = []
    for step in sorted(steps, key=lambda step: -step["drop"]):
        interval = intervals["steps"].get(step["stage"])
        if interval and interval["low"] == interval["high"] == 0:
            free.append(step["stage"])
            continue
        words = f"{step['stage']} {step['drop']:.3f}"
        if interval:
            words += f" ({interval['low']:.3f} to {interval['high']:.3f})"
        (open_ if interval and interval["undetermined"] else told).append(words)
    now = intervals["ap"]
    what = "all objects" if size == "all" else f"{size} objects"
    start = f"The AP of {what} is {now['value']:.3f} (95%: {now['low']:.3f} to {now['high']:.3f}; n = {_on(now)})"
    start += ", undetermined: the interval is too wide to be used, or rests on too few images." if now["undetermined"] else "."
    found = f" Of the way to 1 the stages cost: {', '.join(told)}." if told else ""
    vague = f" Undetermined, with these {now['objects']} {_word('objects', now['objects'])}: {', '.join(open_)}." if open_ else ""
    nothing = f" Nothing: {', '.join(free)}." if free else ""
    narrow = (f" Intervals of an AP from fewer than {FEW_IMAGES} images are somewhat too narrow: on made data, whose truth is known, "
              f"they held it in {FEW_HOLD:.0%} of the cases, not 95%.") if 0 < now["images"] < FEW_IMAGES else ""
    return start + found + vague + nothing + narrow


def help_for(kept: Kept, size: str) -> str:
    """The costliest stage, how sure that is, and its remedies as a list."""
    steps = [step for step in kept.figures["sizes"][size]["steps"] if step["stage"] in kept.stage_names]
    worst = max(steps, key=lambda step: step["drop"])
    if worst["drop"] <= 0:
        return "No stage costs anything: there is nothing to mend."
    interval = kept.figures["intervals"][size]["steps"][worst["stage"]]
    stage = next(stage for stage in kept.figures["stages"] if stage["name"] == worst["stage"])
    first = kept.trace if size == "all" else kept.trace[kept.trace["size"] == size]
    most_lost = first.loc[~first["detected"], "stage"].mode()
    other = ""
    if len(most_lost) and worst["stage"] not in list(most_lost):
        other = (f" Most of the missed are lost at {most_lost[0]}: that counts objects at IoU {kept.iou:g}, while AP also asks for "
                 "boxes that fit to IoU .95, and counts false detections.")
    sure = f"it costs most in {interval['largest_in']:.0%} of the resamples"
    if interval["undetermined"]:
        sure += f", but {_on(interval)} {_word('are', interval['objects'])} too few to be sure"
    remedies = "\n".join(f"- {remedy}" for remedy in stage["remedies"])
    return (f"**The costliest stage is {worst['stage']}** ({sure}): {stage['question']}{other} "
            f"What helps at {worst['stage']}:\n\n{remedies}")


def difference(kept: Kept, other: Kept, differences: pd.DataFrame) -> str:
    """What two runs on the same images differ in, size by size; `differences` is that of diagnosis_tables."""
    mine, its = as_text(kept.run.name), as_text(other.run.name)
    lines = [f"**{its} less {mine}**, on the same {len(kept.truth['images'])} val images:"]
    for size, row in differences.iterrows():
        if pd.isna(row["difference"]):
            lines.append(f"- {size}: no objects")
            continue
        verdict = ("undetermined" if row["undetermined"] else
                   f"{its if row['difference'] > 0 else mine} is better")
        lines.append(f"- {size}: {row['difference']:+.3f} (95%: {row['low']:+.3f} to {row['high']:+.3f}, "
                     f"n = {row['objects']} in {_count(int(row['images']), 'image')}): {verdict}")
    return "\n".join([lines[0], "", *lines[1:]])


def _lost(stage: str, objects: pd.DataFrame, kept: Kept) -> str:
    """What one stage loses, and why; "" when nothing."""
    lost = len(objects)
    if not lost:
        return ""
    words = LOST[stage].format(n=lost, iou=kept.iou, **{word: _word(word, lost) for word in NUMBER})
    if stage == "box":
        best = objects["box_iou"].median()
        return f"{words}, the best {'has' if lost == 1 else 'have a median of'} {best:.2f}"
    reasons = {"class": _named, "suppression": _taken}.get(stage, lambda lost: _cut(lost, kept))(objects)
    told = [f"{count} {reason}" for reason, count in reasons.items() if count]
    first = next((reason for reason, count in reasons.items() if count), "")
    if len(told) == 1:
        return f"{words}, {first if lost == 1 else f'all {first}'}"
    return ", ".join([words, told[0].replace(" ", " of them ", 1), *told[1:]]) if told else words


def _named(objects: pd.DataFrame) -> dict[str, int]:
    """What the objects that do not get their own class are taken for."""
    named = objects["named_class"]
    background, own = named == "background", named == objects["class"]
    return {"taken for background": int(background.sum()),
            "taken for another class": int((named.notna() & ~own & ~background).sum()),
            "with too low a score for their class": int(own.sum())}


def _taken(objects: pd.DataFrame) -> dict[str, int]:
    return {f"to {TAKEN.get(str(by), by)}": int(count) for by, count in objects["lost_to"].value_counts().items()}


def _cut(objects: pd.DataFrame, kept: Kept) -> dict[str, int]:
    """Why nothing stands on the objects: first what no detector could be taught, then what cut the last candidate."""
    unreached = _is_unreached(objects, kept)
    cuts = objects.loc[~unreached, "candidate_cut"].value_counts()
    return {f"because no anchor reaches IoU {kept.anchor_iou or 0:g}": int(unreached.sum())} | {
        CUTS.get(str(cut), f"cut by {cut}"): int(count) for cut, count in cuts.items()}


def _is_unreached(objects: pd.DataFrame, kept: Kept) -> pd.Series:
    """The objects that are never taught because their best anchor overlaps them too little."""
    if kept.anchor_iou is None:
        return pd.Series(False, index=objects.index)
    return objects["never_taught"].astype(bool) & (objects["best_anchor_iou"] < kept.anchor_iou)


def _unreached(objects: pd.DataFrame, kept: Kept) -> int:
    return int(_is_unreached(objects, kept).sum())


def _word(word: str, count: int) -> str:
    return NUMBER[word][count != 1]


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _every(count: int, noun: str) -> str:
    return f"The only {noun} is" if count == 1 else f"All {count:,} {noun}s are"


def _of_them(count: int, of: int) -> str:
    return ("the only one" if of == 1 else "all") if count == of else f"{count} of them"


def _on(interval: Mapping[str, Any]) -> str:
    return f"{_count(interval['objects'], 'object')} in {_count(interval['images'], 'image')}"
