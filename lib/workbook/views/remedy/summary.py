"""What would fix a run, in plain words computed from its proof.

A gain is called one only where the corrected interval of the proof lies above 0. What the search measured on images cut
from train chose the winner, and is called no more than that.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbook.progress import duration
from workbook.proofs.store import CURVE, LABELS, ArmResult, Cost, Proof, SizeProof
from workbook.views.compare.tables import as_text

AP_OF = {"all": "AP", "small": "AP_s", "medium": "AP_m", "large": "AP_l"}
ORDER = ("small", "all", "medium", "large")


def summarize(proof: Proof) -> str:
    """Markdown: what helps and by how much, what it costs, and what was promised; or that nothing helps, and what else may."""
    parts = [answer(proof), against_control(proof), other_sizes(proof), price(proof), more_images(proof), labels(proof), pair(proof)]
    return "\n\n".join(part for part in parts if part)


def answer(proof: Proof) -> str:
    """The first paragraph."""
    ap = AP_OF[proof.size]
    tried = sum(bool(arm.seeds and arm.remedies) for arm in proof.arms)
    if not proof.winner:
        return (f"**No remedy helps.** {tried} were tried on images cut from train, and none raised {ap} by more than the error of its "
                "gain. So none was put to the proof.")
    name = named(proof.winner)
    if not proof.sizes:
        return (f"**{name} was the best of {tried} on images cut from train; it is not proven.** The budget did not hold the proof, so "
                f"no gain is claimed. `workbook remedy {proof.run} --size {proof.size}` proves it.")
    of_size = proof.sizes[proof.size]
    if of_size.gains:
        return f"**{name} raises {ap} from {of_size.before:.3f} to {of_size.after:.3f}: {interval(of_size, proof)}.** {got(proof)}"
    if of_size.difference is None:
        return f"**No gain is proven.** {name} was the best of {tried} on images cut from train, but val has no {proof.size} object."
    where = f"from {_figure(of_size.before)} to {_figure(of_size.after)}: {interval(of_size, proof)}"
    verdict = "a loss" if of_size.loses else "undetermined"
    return (f"**No gain is proven.** {name} was the best of {tried} on images cut from train, but with fresh seeds on val {ap} went "
            f"{where}: {verdict}. {got(proof)}")


def named(keys: Sequence[str]) -> str:
    """`fitted_anchors with soft_nms`."""
    return " with ".join(keys)


def interval(size: SizeProof, proof: Proof) -> str:
    """`+0.031 (95%: +0.012 to +0.050 over 3 seeds and the val images, corrected for the sizes)`."""
    if size.difference is None:
        return "val has no such object"
    if size.low is None:
        return f"{size.difference:+.3f}, on too few images for an interval"
    return (f"{size.difference:+.3f} (95%: {size.low:+.3f} to {size.high:+.3f} over {len(proof.seeds)} seeds and the val images, corrected "
            "for the sizes)")


def got(proof: Proof) -> str:
    """What the diagnosis promised, and what came of it."""
    of_size = proof.sizes[proof.size]
    if of_size.promised is None or of_size.difference is None:
        return ""
    return (f"The diagnosis says that the stages which it addresses cost {of_size.promised:.3f} {AP_OF[proof.size]}; the remedy brought "
            f"{of_size.difference:+.3f} of that.")


def against_control(proof: Proof) -> str:
    """Whether the gain is the remedy's, or that of the cost alone."""
    if proof.control is None:
        return ""
    if not proof.control.sizes:
        return f"The control of the same cost: {proof.control.how}."
    of_size = proof.control.sizes[proof.size]
    verdict = "so the gain is not that of its cost alone" if of_size.gains else "so its cost alone may explain as much"
    return (f"The control of the same cost is {proof.control.how}. Above it the winner scores {interval(of_size, proof)}, {verdict}.")


def other_sizes(proof: Proof) -> str:
    """What it does to the other sizes: a gain, a loss, or open."""
    sentences = []
    for size in ORDER:
        if size == proof.size or size not in proof.sizes:
            continue
        one = proof.sizes[size]
        if one.before is None:
            sentences.append(f"{AP_OF[size]}: val has no such object")
            continue
        verdict = "rises" if one.gains else "open"
        verdict = "falls" if one.loses else verdict
        borders = "too few images for an interval" if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
        sentences.append(f"{AP_OF[size]} {one.before:.3f} to {one.after:.3f} ({one.difference:+.3f}, 95%: {borders}): {verdict}")
    return "The other sizes: " + "; ".join(sentences) + "." if sentences else ""


def price(proof: Proof) -> str:
    """Markdown: a row a setting of the proof with what it takes and what it reports."""
    if not proof.cost:
        return ""
    table = pd.DataFrame({name: _price(cost) for name, cost in proof.cost.items()})
    return ("What it costs, means over the seeds, measured while the runs of the proof shared the machine:\n\n"
            + str(table.rename_axis("").to_markdown(disable_numparse=True)))


def _price(cost: Cost) -> dict[str, str]:
    return {
        "steps of a training": f"{cost.steps:,}", "pixels of a training image": f"{cost.pixels:,.0f}",
        "training and validation": duration(cost.training_seconds), "seconds a step": f"{cost.seconds_a_step:.3g}",
        "seconds an image of val": f"{cost.seconds_an_image:.3g}", "detections an image": f"{cost.detections_an_image:.1f}",
        **{f"recall of {size} objects (IoU .50)": _figure(value) for size, value in cost.recall.items()},
    }


def more_images(proof: Proof) -> str:
    """What the learning curve says of twice the images."""
    arm = next((arm for arm in proof.arms if arm.kind == CURVE), None)
    if arm is None:
        return ""
    if arm.gain is None:
        return f"**More images**: the learning curve was {as_text(arm.outcome)}."
    sign = "would bring" if arm.low is not None and arm.low > 0 else "may bring, or not,"
    return (f"**More images**: by the learning curve ({arm.outcome.partition(', from ')[2]}, a power law) twice as many {sign} "
            f"{arm.gain:+.3f} {AP_OF[proof.size]} (95%: {arm.low:+.3f} to {arm.high:+.3f}, if the law holds).")


def labels(proof: Proof) -> str:
    """What mended labels could bring at most."""
    arm = next((arm for arm in proof.arms if arm.kind == LABELS), None)
    if arm is None or not arm.gain:
        return ""
    return (f"**Labels**: {arm.outcome}, {AP_OF[proof.size]} would be {arm.score:.3f}, {arm.gain:+.3f}; that is a bound, for the detector "
            f"judges itself. `workbook browse {proof.run}` shows them under `label suspects`.")


def pair(proof: Proof) -> str:
    """Where to see what the remedy changed."""
    runs = [proof.cost[name].runs[0] for name in ("before", "after") if name in proof.cost]
    if len(set(runs)) < 2:
        return ""
    return (f"The objects themselves: `workbook browse {' '.join(runs)}`, saved views `missed before, found now` and `found before, missed "
            "now`.")


def arms_table(proof: Proof) -> pd.DataFrame:
    """A row an arm, the highest gain first: what it promised, what it gained on images cut from train, and what became of it."""
    rows = [_row(arm) for arm in sorted(proof.arms, key=lambda arm: -(arm.gain if arm.gain is not None else -1.0))]
    return pd.DataFrame(rows)


def _row(arm: ArmResult) -> dict[str, str]:
    return {
        "arm": named(arm.remedies) or "baseline", "needs": arm.kind, "promised": _figure(arm.promised), "seeds": str(arm.seeds or ""),
        "AP": _figure(arm.score), "gain": _signed(arm.gain),
        "95%": "" if arm.low is None else f"{arm.low:+.3f} to {arm.high:+.3f}",
        "training": "" if arm.work is None else f"x{arm.work:.2f}", "what became of it": as_text(arm.outcome),
    }


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


