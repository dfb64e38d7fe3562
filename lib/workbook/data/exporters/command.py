"""`workbook export`: a dataset in another format, whole or not at all."""

from __future__ import annotations

import os

from workbook.data.catalog import dataset_folder
from workbook.data.checks import check_dataset, stop_at_errors
from workbook.data.exporters import coco, voc, yolo
from workbook.data.exporters.record import Export, Exporter, Notes
from workbook.data.reading import DataError, read_coco
from workbook.files import WRITABLE, outputs_root
from workbook.partial import partial_of

EXPORTERS: dict[str, Exporter] = {"yolo": yolo.write, "voc": voc.write, "coco": coco.write}
SPLITS = ("train", "val", "test")


def export_dataset(name: str, to: str) -> Export:
    """Write outputs/exports/NAME-FORMAT and return it.

    Raises DataError when there is no such dataset, it has errors, the format is unknown or cannot hold the names, the
    export is there already, or it cannot be written; nothing is left then.
    """
    if to not in EXPORTERS:
        raise DataError(f"--to {to}: unknown format. Known: {', '.join(EXPORTERS)}")
    source = dataset_folder(name)
    folder = outputs_root() / "exports" / f"{name}-{to}"
    if os.path.lexists(folder):
        raise DataError(f"{folder} is there already, and is not overwritten: move or delete it, then export again")
    splits = tuple(split for split in SPLITS if (source / f"{split}.json").exists())
    stop_at_errors(name, source, check_dataset(source, splits))
    notes = Notes()
    try:
        with partial_of(folder) as partial:
            partial.mkdir(parents=True)
            EXPORTERS[to](source, {split: read_coco(source / f"{split}.json") for split in splits}, partial, notes)
            partial.rename(folder)
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}. {WRITABLE}. Nothing was written") from error
    return Export(folder, notes.lines())


