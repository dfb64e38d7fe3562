"""What is left of a detector whose model is not at hand: the boxes that it reported."""

from workbook.diagnosis.family import Family

BY_NO_BOX, BY_POOR_BOX = "none near", "none fits"


class Detections(Family):
    """A candidate is a reported box, whatever detector gave it."""

    key = "detections"
    candidate_noun = "reported boxes"
    cut_words = {
        BY_NO_BOX: "because no reported box comes near",
        BY_POOR_BOX: "because the reported boxes near them overlap them too little (IoU under .5)",
    }


DETECTIONS = Detections()
