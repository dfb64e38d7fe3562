"""Run in a process of its own, as importing FiftyOne needs a database: FiftyOne writes a data set, and reads what we wrote.

Arguments: a folder, a JSON file with the photos (path, split, width, height, boxes as class and x, y, width, height). FiftyOne's
files are in theirs/{yolo,voc,coco}; what its importers read of ours/{yolo,voc,coco} is printed as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from workbook.browse.database import connect


def main(root: Path, photos: list[dict[str, Any]]) -> None:
    connect()
    from fiftyone.utils import coco, voc, yolo

    classes = ["zebra", "ant", "moth"]
    for split in ("train", "val"):
        chosen = [photo for photo in photos if photo["split"] == split]
        write(yolo.YOLOv5DatasetExporter(str(root / "theirs" / "yolo"), split=split, classes=classes, export_media=True), chosen)
        write(voc.VOCDetectionDatasetExporter(str(root / "theirs" / "voc" / split), export_media=True), chosen)
        write(coco.COCODetectionDatasetExporter(str(root / "theirs" / "coco" / split), classes=classes, export_media=True), chosen)
    ours = root / "ours"
    print(json.dumps({
        "yolo": [read(yolo.YOLOv5DatasetImporter(str(ours / "yolo"), "data.yaml", split)) for split in ("train", "val")],
        "voc": [read(voc.VOCDetectionDatasetImporter(str(ours / "voc"), "JPEGImages", "Annotations"))],
        "coco": [read(coco.COCODetectionDatasetImporter(
            data_path=str(ours / "coco" / "images"), labels_path=str(ours / "coco" / "annotations" / f"instances_{split}.json"),
            label_types="detections")) for split in ("train", "val")]}))


def write(exporter: Any, photos: list[dict[str, Any]]) -> None:
    import fiftyone as fo

    with exporter:
        for photo in photos:
            width, height = photo["width"], photo["height"]
            boxes = [fo.Detection(label=name, bounding_box=[x / width, y / height, w / width, h / height])
                     for name, (x, y, w, h) in photo["boxes"]]
            exporter.export_sample(photo["path"], fo.Detections(detections=boxes), metadata=None)


def read(importer: Any) -> dict[str, list[Any]]:
    """Name of the image → class and box, in pixels of the metadata where there are any, else as shares."""
    with importer:
        return {Path(path).name: [(box.label, box.bounding_box) for box in label.detections] if label else []
                for path, _, label in importer}


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
