"""What a diagnosis was made from, in plain words: whose detector, what was doubtful at its adoption, where it was computed."""

from __future__ import annotations

from workbook.diagnosis.store import SavedDiagnosis
from workbook.views.compare.tables import as_text
from workbook.words import counted


def said_at_adoption(diagnosis: SavedDiagnosis) -> str:
    """What was doubtful when the run was adopted, and what was to be known; "" for a run that was trained here."""
    record = diagnosis.run.record
    if "origin" not in record:
        return ""
    doubts = [f"**At its adoption: {as_text(warning)}.**" for warning in record.get("warnings") or []]
    notes = "; ".join(as_text(note) for note in record["origin"].get("notes") or [])
    return "\n\n".join([*doubts, f"At its adoption: {notes}." if notes else ""]).strip()


def another_detector(diagnosis: SavedDiagnosis) -> str:
    """That this is not the detector which the run's own validation measured, and why; "" when it is."""
    if not diagnosis.disagreement:
        return ""
    return ("**The detector diagnosed here is not quite the one that the run measured**: "
            f"{'; '.join(map(as_text, diagnosis.disagreement))}. Diagnose it where the run was trained to speak of that one.")


def from_detections_alone(diagnosis: SavedDiagnosis) -> str:
    """What a diagnosis without the model can and cannot say; "" for one with it."""
    if not diagnosis.of_detections_alone:
        return ""
    return ("**Made from detections alone; the model is not at hand.** What happened before a box was reported cannot be seen. An object "
            "that no reported box fits is lost at unreported; class, box, suppression and ranking are judged by the boxes that were "
            "reported. So this is a split of what can be seen, not of the detector: a loose box counts as the box's, even where its "
            "proposal was at fault. " + _lowest_score(diagnosis))


def _lowest_score(diagnosis: SavedDiagnosis) -> str:
    table = diagnosis.detections
    if table.empty:
        return ""
    most = int(table["image_id"].value_counts().max())
    return f"The lowest score in the file is {table['score'].min():.3g}, and no image has more than {counted(most, 'detection')}."


def where_made(diagnosis: SavedDiagnosis) -> str:
    """Where and in which numbers the detector computed; of detections alone, whose they are."""
    if diagnosis.of_detections_alone:
        return f"Diagnosed from the detections of {as_text(str(diagnosis.run.record['origin']['path']))}."
    made = diagnosis.made_from
    versions = ", ".join(f"{name} {made.versions[name]}" for name in ("torch", "mmdet") if name in made.versions)
    return f"Diagnosed on {made.device} in {made.precision}, {versions}."
