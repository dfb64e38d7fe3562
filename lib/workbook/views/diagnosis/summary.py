"""Why objects are missed, in plain words computed from the figures: the answer that opens the page of a run.

Every number is of the saved diagnosis. A costliest stage is named only when the interval of its lead excludes 0; from under
ten images no interval is printed; nothing is called free of cost but where the upper bound of its cost is small.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbook.diagnosis.stage import DETECTED, Stage
from workbook.diagnosis.stages.ranking import RANKING
from workbook.diagnosis.store import SavedDiagnosis
from workbook.diagnosis.waterfall import NOT_COUNTED, Cost, SizeWaterfall
from workbook.evaluation.bootstrap import FEWEST_IMAGES
from workbook.evaluation.comparison import Difference
from workbook.views.compare.tables import as_text
from workbook.views.diagnosis import origin
from workbook.words import counted

# A cost whose bounds are both nearer to 0 is next to nothing: about what one seed moves an AP.
SMALL_COST = 0.02
# So many stages that may be the costliest are still a hint; more are none.
MOST_RIVALS = 3
ASKS = {"AP50": "to be found at all (AP50)", "AP": "to be found and to fit (AP, IoU .50 to .95)"}


def summarize(diagnosis: SavedDiagnosis, size: str = "small") -> str:
    """Markdown: how many objects of this size are missed and where, what each stage costs, and what would help.

    size: small, medium, large or all.
    """
    objects = diagnosis.objects(size)
    noun = "object" if size == "all" else f"{size} object"
    if objects.empty:
        there = diagnosis.trace["size"].value_counts()
        others = ", ".join(f"{count} {name}" for name, count in there.items()) or "none at all"
        return f"**Val has no {noun}s**, so nothing can be said of them. It has: {others}."
    parts = [
        origin.said_at_adoption(diagnosis), origin.another_detector(diagnosis), origin.from_detections_alone(diagnosis),
        missed(diagnosis, objects, noun), not_assignable(diagnosis, size),
        precision_now(diagnosis, objects, size), cost_table(diagnosis, size), next_to_nothing(diagnosis, size),
        what_helps(diagnosis, objects, size), origin.where_made(diagnosis),
    ]
    return "\n\n".join(part for part in parts if part)


def missed(diagnosis: SavedDiagnosis, objects: pd.DataFrame, noun: str) -> str:
    """How many objects are missed, by which stage, and why there; then those that are found too late."""
    total = len(objects)
    lost = int((~objects["detected"]).sum())
    start = f"**Of {counted(total, noun)} {lost} {'is' if lost == 1 else 'are'} missed.**"
    if lost in (0, total):
        start = f"**{_all(total, noun)} {'missed' if lost else 'found'}.**"
    losses = [_loss(part, objects, diagnosis) for part in diagnosis.family.parts if part is not RANKING]
    reasons = "; ".join(loss for loss in losses if loss)
    late = _loss(RANKING, objects, diagnosis)
    sentences = [start, f"{reasons}." if reasons else "", f"Of those found, {late}." if late else ""]
    return " ".join(sentence for sentence in sentences if sentence)


def _loss(part: Stage, objects: pd.DataFrame, diagnosis: SavedDiagnosis) -> str:
    """What one stage loses, and why; "" when nothing."""
    lost = objects[objects["stage"] == part.name]
    if lost.empty:
        return ""
    words = part.says(len(lost), diagnosis.iou)
    reasons = {} if part.reasons is None else {why: count for why, count in part.reasons(lost, diagnosis).items() if count}
    if len(reasons) == 1:
        return f"{words}, {next(iter(reasons))}"
    listed = ", ".join(f"{count} {why}" for why, count in reasons.items())
    return f"{words} ({listed})" if listed else words


def not_assignable(diagnosis: SavedDiagnosis, size: str) -> str:
    """How many objects of the training have no positive; "" when every one has."""
    if diagnosis.why_not_assignable:
        return f"What the training can assign is not known here: {as_text(diagnosis.why_not_assignable)}."
    of_train = diagnosis.unreachable.get("train", {}).get(size, {"no_positive": 0, "objects": 0})
    without, objects = of_train["no_positive"], of_train["objects"]
    if not without or diagnosis.assignable is None:
        return ""
    noun = "object" if size == "all" else f"{size} object"
    rows = diagnosis.assignable[(diagnosis.assignable["subset"] == "train") & diagnosis.assignable["no_positive"]]
    rows = rows if size == "all" else rows[rows["size"] == size]
    unreachable = int(diagnosis.is_unreachable(rows).sum())
    why = f": {_of_them(unreachable, without)} because no anchor reaches IoU {diagnosis.anchor_iou:g}" if unreachable else ""
    return (f"Before the model: of the {counted(objects, noun)} in train {without} ({without / objects:.0%}) "
            f"{'is' if without == 1 else 'are'} never assigned to a prediction, so nothing learns them{why}.")


def precision_now(diagnosis: SavedDiagnosis, objects: pd.DataFrame, size: str) -> str:
    """AP50 and AP with their intervals, and over which classes they are means."""
    what = "all objects" if size == "all" else f"{size} objects"
    figures = [f"{metric} {_interval(diagnosis.waterfall.metrics[metric][size])}" for metric in ASKS]
    at_ap = diagnosis.waterfall.metrics["AP"][size]
    rests = f"{counted(at_ap.objects, 'object')} in {counted(at_ap.images, 'image')}"
    start = f"For {what} ({rests}): {figures[0]}, {figures[1]}."
    few = (f" Fewer than {FEWEST_IMAGES} images hold them: too few for an interval, so none is given and every figure is a hint."
           if at_ap.is_few else "")
    return start + few + _classes(objects)


def _interval(of_size: SizeWaterfall) -> str:
    """`0.120 (95%: 0.080 to 0.170)`; without interval where images are few."""
    if of_size.ap is None:
        return "not measured"
    if of_size.is_few or of_size.low is None or of_size.high is None:
        return f"{of_size.ap:.3f}"
    wide = ", too wide to be used" if of_size.undetermined else ""
    return f"{of_size.ap:.3f} ({of_size.low:.3f} to {of_size.high:.3f}, {of_size.confidence}{wide})"


def _classes(objects: pd.DataFrame) -> str:
    """Whose mean an AP is, where several classes are unequal."""
    counts = objects["class"].value_counts()
    if len(counts) < 2 or counts.iloc[0] < 2 * counts.iloc[-1]:
        return ""
    return (f" Each is the mean over the {len(counts)} classes that have such objects, every class counting alike: from "
            f"{counts.iloc[-1]} ({as_text(counts.index[-1])}) to {counts.iloc[0]} ({as_text(counts.index[0])}); "
            "the counts of objects above are not weighted so.")


def cost_table(diagnosis: SavedDiagnosis, size: str) -> str:
    """Markdown: a row a stage with what it costs at AP50 and at AP, what it brings alone and as the last one."""
    columns: dict[str, list[str]] = {}
    every = [cost for metric in ASKS for cost in diagnosis.waterfall.metrics[metric][size].stages]
    shown = {cost.stage for cost in every if cost.stage != NOT_COUNTED or cost.shapley}
    for metric in ASKS:
        of_size = diagnosis.waterfall.metrics[metric][size]
        costs = [cost for cost in of_size.stages if cost.stage in shown]
        columns["stage"] = [cost.stage for cost in costs]
        columns[f"costs {metric}"] = [_cost(cost, of_size) for cost in costs]
        columns[f"alone, last ({metric})"] = [f"{_gain(cost.alone)}, {_gain(cost.last)}" for cost in costs]
    table = str(pd.DataFrame(columns).to_markdown(index=False, disable_numparse=True))
    mark = " A ? stands where the interval of a cost holds 0." if " ?" in table else ""
    return ("What each stage costs: the mean over all orders of what making it perfect brings (Shapley value); beside it what "
            f"it brings alone, and as the last one. The costs add up to 1 less the figure.{mark}\n\n{table}")


def _gain(brings: float | None) -> str:
    return "-" if brings is None else f"{round(brings, 3) + 0.0:+.3f}"


def _cost(cost: Cost, of_size: SizeWaterfall) -> str:
    if cost.shapley is None:
        return ""
    if of_size.is_few or cost.low is None or cost.high is None:
        return f"{cost.shapley:.3f}"
    is_open = " ?" if cost.low <= 0 <= cost.high else ""
    return f"{cost.shapley:.3f} ({cost.low:.3f} to {cost.high:.3f}){is_open}"


def next_to_nothing(diagnosis: SavedDiagnosis, size: str) -> str:
    """The stages whose cost is small for sure: both bounds of its interval are near 0."""
    of_size = diagnosis.waterfall.metrics["AP"][size]
    if of_size.is_few or diagnosis.of_detections_alone:  # there a cost is no bound
        return ""
    small = [
        f"{cost.stage} (at most {cost.high:.3f})" for cost in of_size.stages
        if cost.stage != NOT_COUNTED and cost.low is not None and cost.high is not None
        and cost.low >= -SMALL_COST and cost.high <= SMALL_COST
    ]
    return f"Next to nothing of AP: {', '.join(small)}." if small else ""


def what_helps(diagnosis: SavedDiagnosis, objects: pd.DataFrame, size: str) -> str:
    """The stage that costs most at AP50 and at AP, or those that may, and what helps there."""
    found = {metric: diagnosis.waterfall.metrics[metric][size] for metric in ASKS}
    if not any(of_size.costliest for of_size in found.values()):
        return _all_right(found)
    named: list[str] = []
    sentences: list[str] = []
    if found["AP50"].costliest == found["AP"].costliest:
        sentences.append(_costliest("both to be found (AP50) and to fit (AP)", found["AP"]))
        named += found["AP"].costliest
    else:
        for metric, of_size in found.items():
            sentences.append(_costliest(ASKS[metric], of_size))
            named += [stage for stage in of_size.costliest if stage not in named]
    sentences.append(_other_count(objects, named, diagnosis))
    clear = [stage for stage in named if any(stage in one.costliest[:MOST_RIVALS] and _is_hint(one) for one in found.values())]
    remedies = [_remedies(part, diagnosis) for part in diagnosis.family.parts if part.name in clear]
    return "\n\n".join([" ".join(sentence for sentence in sentences if sentence), *remedies])


def _is_hint(of_size: SizeWaterfall) -> bool:
    return of_size.is_few or 0 < len(of_size.costliest) <= MOST_RIVALS


def _costliest(asks: str, of_size: SizeWaterfall) -> str:
    """One metric's costliest stage, or those that may be, in a sentence."""
    names = of_size.costliest
    if not names:
        return f"For them {asks}, nothing is missing."
    if of_size.is_few:
        return (f"On {_these(of_size.images, 'image')} **{_either(names[:MOST_RIVALS])}** costs most {asks}; from so few "
                "that is a hint, not a finding.")
    if of_size.leader:
        return f"**The costliest stage {asks} is {names[0]}**: the interval of its lead over every other stage excludes 0."
    if len(names) == 1:
        return (f"**Only {names[0]} costs anything {asks}** that {_these(of_size.images, 'image')} can show, but the interval of its "
                "cost holds 0: a hint, not a finding.")
    if len(names) <= MOST_RIVALS:
        return (f"**What costs most {asks} is {_either(names)}**: {_these(of_size.objects, 'object')} in "
                f"{counted(of_size.images, 'image')} cannot say which.")
    return (f"**No stage stands out {asks}**: {_either(names)} may each cost most; "
            f"{_these(of_size.images, 'image')} cannot say which.")


def _these(count: int, noun: str) -> str:
    return f"{'this' if count == 1 else 'these'} {counted(count, noun)}"


def _all_right(found: dict[str, SizeWaterfall]) -> str:
    bound = max((cost.high or 0 for of_size in found.values() for cost in of_size.stages), default=0)
    if any(of_size.is_few for of_size in found.values()):
        return "On these images no stage costs anything; from so few that is a hint, not a finding."
    return f"No stage costs anything that these images show; what they may hide is at most {bound:.3f} a stage."


def _other_count(objects: pd.DataFrame, named: Sequence[str], diagnosis: SavedDiagnosis) -> str:
    """Where the most objects are lost, when that is none of the costliest stages."""
    lost = objects.loc[objects["stage"] != DETECTED, "stage"]
    if lost.empty or set(lost.mode()) & set(named):
        return ""
    return (f"Most of the objects that are lost are lost at {lost.mode()[0]}: that counts each object once, at IoU "
            f"{diagnosis.iou:g}; the AP also counts false detections, and boxes that fit better.")


def _remedies(part: Stage, diagnosis: SavedDiagnosis) -> str:
    remedies = "\n".join(f"- {remedy}" for remedy in part.remedies_for(diagnosis.family.key))
    return f"What may help at {part.name} ({part.question}):\n\n{remedies}"


def _all(count: int, noun: str) -> str:
    few = {1: f"The only {noun} is", 2: f"Both {noun}s are"}
    return few.get(count, f"All {count:,} {noun}s are")


def _of_them(count: int, of: int) -> str:
    if count == of:
        return "the only one" if of == 1 else "all"
    return f"{count} of them"


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def difference(diagnosis: SavedDiagnosis, other: SavedDiagnosis, differences: Sequence[Difference]) -> str:
    """What two trainings on the same images differ in, size by size; `differences` is that of views.diagnosis.tables."""
    if diagnosis.run.folder == other.run.folder:
        return "Both are the same run: name another one to compare with."
    names = f"{as_text(diagnosis.run.name)} and {as_text(other.run.name)}"
    start = f"**{names}**, on the same {len(diagnosis.ground_truth['images'])} val images:"
    return "\n".join([start, "", *(f"- {as_text(one.words())}." for one in differences)])
