"""The formats that can be imported, and which of them a folder has."""

from __future__ import annotations

from workbook.data.importers import boxes_csv, coco, dota, labelme, openimages, visdrone, voc, yolo
from workbook.data.importers.record import Importer
from workbook.data.importers.source import Source
from workbook.data.importers.texts import unreadable_json
from workbook.data.importers.yolo_config import broken_yaml
from workbook.data.reading import DataError

FORMATS: tuple[Importer, ...] = (
    yolo.YOLO, voc.VOC, coco.COCO, labelme.LABELME, visdrone.VISDRONE, dota.DOTA, openimages.OPENIMAGES, boxes_csv.CSV)


def find_importer(source: Source, asked: str = "") -> Importer:
    """The importer of the format `asked` for, else of the one that the folder has.

    Raises DataError when the format is unknown, when none fits, or when two do.
    """
    by_key = {importer.key: importer for importer in FORMATS}
    if asked:
        if asked not in by_key:
            raise DataError(f"--format {asked}: unknown format. Known: {', '.join(by_key)}")
        return by_key[asked]
    found = {importer.key: evidence for importer in FORMATS if (evidence := importer.matches(source))}
    if not found:
        raise DataError(_nothing_fits(source))
    if len(found) > 1:
        evidence = " and ".join(f"{key} ({file})" for key, file in found.items())
        raise DataError(f"{source.folder}: {evidence} fit. Name the one that holds your labels: --format "
                        f"{' or --format '.join(found)}")
    return by_key[next(iter(found))]


def _nothing_fits(source: Source) -> str:
    if source.file is None and not source.files:
        return f"{source.folder} is empty: give the folder that holds labels and images"
    lines = [f"{source.file or source.folder}: no labels of a known format. Known formats:",
             *(f"  - {importer.key}: {importer.needs}" for importer in FORMATS)]
    broken = [*unreadable_json(source), *broken_yaml(source)]
    lines += [f"  {source.shown(path)}: {reason}" for path, reason in broken]
    return "\n".join([*lines, "Give the folder that holds labels and images together, or name the format with "
                              "--format"])
