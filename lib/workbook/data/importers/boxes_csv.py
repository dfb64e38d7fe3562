"""A CSV of boxes: a row an object, as TensorFlow's tutorials, Roboflow, DeepForest and many a script write it.

FiftyOne's CSVDatasetImporter reads fields of samples, and no boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbook.data.importers.collect import Collector, corners, number
from workbook.data.importers.openimages import is_openimages
from workbook.data.importers.record import Box, Imported, Importer
from workbook.data.importers.source import SeveralFit, Source, split_of_file
from workbook.data.importers.tables import header, read_table

# what is meant → the names of its column, in lower case without spaces, - and _
COLUMNS = {
    "image": ("filename", "image", "imagename", "imagepath", "imagefile", "filepath", "path", "file", "img", "imageid"),
    "class": ("class", "label", "classname", "category", "categoryname", "labelname", "name"),
    "xmin": ("xmin", "x1", "left", "bboxxmin", "xmn"), "ymin": ("ymin", "y1", "top", "bboxymin", "ymn"),
    "xmax": ("xmax", "x2", "right", "bboxxmax", "xmx"), "ymax": ("ymax", "y2", "bottom", "bboxymax", "ymx"),
    "x": ("x", "bboxx", "xmin", "left"), "y": ("y", "bboxy", "ymin", "top"),
    "width": ("w", "width", "bboxwidth", "bboxw"), "height": ("h", "height", "bboxheight", "bboxh"),
    "split": ("split", "set", "subset", "partition"), "crowd": ("iscrowd", "difficult", "ignore"),
}
SIZES = {"width": ("width", "imagewidth", "imgwidth", "imagew"),
         "height": ("height", "imageheight", "imgheight", "imageh")}
CORNERS = ("xmin", "ymin", "xmax", "ymax")
SIDES = ("x", "y", "width", "height")
WANTED = ("an image (filename), a class (class), and the box as xmin, ymin, xmax, ymax or as x, y, width, height, in "
          "pixels")
UNLISTED = "image files that no csv lists, left out"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _columns(names: list[str]) -> dict[str, str]:
    """What is meant → the column's name, of those that there are."""
    by_plain = {_plain(name): name for name in reversed(names)}
    return {meaning: by_plain[word] for meaning, words in COLUMNS.items() for word in words[::-1] if word in by_plain}


def _missing(columns: Mapping[str, str]) -> list[str]:
    """What a table of boxes lacks."""
    lacking = [meaning for meaning in ("image", "class") if meaning not in columns]
    box = [meaning for meaning in CORNERS if meaning not in columns]
    if box and any(meaning not in columns for meaning in SIDES):
        lacking += box
    return lacking


def _matches(source: Source) -> str:
    for path in source.with_suffix(".csv"):
        columns = _columns(header(path))
        if not is_openimages(path) and "image" in columns and len(_missing(columns)) <= 1:
            return source.shown(path)
    return ""


def _read(source: Source) -> Imported:
    found = Collector(source)
    names: list[str] = []
    listed: set[Path] = set()
    tables = [path for path in source.with_suffix(".csv") if not is_openimages(path)]
    for path in tables:
        listed |= _add_table(path, found, names)
    if not tables:
        found.problem(source.file or source.folder, f"there is no csv with {WANTED}")
    for image in source.images if source.file is None else ():
        if image not in listed:
            found.note(UNLISTED, image)
    numbered = all(map(str.isdigit, names))
    return found.done("csv", sorted(set(names), key=lambda name: (len(name) if numbered else 0, name)))


def _add_table(path: Path, found: Collector, names: list[str]) -> set[Path]:
    """Adds the images of one table; returns their paths, and adds the classes to `names`."""
    try:
        table = read_table(path)
    except ValueError as error:
        found.problem(path, str(error))
        return set()
    columns = _columns(list(table.columns))
    if missing := _missing(columns):
        found.problem(path, f"it has no column for {', '.join(missing)}; there are only {', '.join(table.columns)}. "
                            "Name them so that "
                      f"there are {WANTED}")
        return set()
    images: set[Path] = set()
    for name, rows in found.each(list(table.groupby(columns["image"], sort=False)), f"reading {path.name}", "image"):
        boxes = _boxes(path, rows, columns, found)
        names += [box.name for box in boxes]
        image = _image(path, str(name), found)
        if image is not None:
            images.add(image)
            found.add(image, _split(path, image, rows, columns, found), boxes, _recorded(rows, columns))
    return images


def _image(path: Path, name: str, found: Collector) -> Path | None:
    split = split_of_file(path.stem) or found.source.split_of(path)
    try:
        image = found.source.find_image(name, path.parent, split) or found.source.find_stem(name, path.parent, split)
    except SeveralFit as error:
        found.problem(path, f"{name}: {error}")
        return None
    if image is None:
        found.problem(path, f"the image {name!r} is not there: copy it there, or take the rows out")
    return image


def _split(path: Path, image: Path, rows: Any, columns: Mapping[str, str], found: Collector) -> str:
    """The column's, else that of the csv's name, else that of a folder."""
    if "split" not in columns:
        return split_of_file(path.stem) or found.source.split_of(path) or found.source.split_of(image)
    words = sorted(set(rows[columns["split"]]))
    splits = [split_of_file(word) for word in words]
    if len(words) > 1 or (words[0] and not splits[0]):
        found.problem(path, f"{columns['split']} is {' and '.join(words)}, but must be train, val or test, and the "
                            "same for all rows of an "
                      "image", image.name)
    return splits[0]


def _recorded(rows: Any, columns: Mapping[str, str]) -> tuple[int, int] | None:
    """width and height are those of the image where the box has corners."""
    if any(meaning not in columns for meaning in CORNERS):
        return None
    by_plain = {_plain(name): name for name in rows.columns}
    sides = [next((rows[by_plain[word]].iloc[0] for word in words if word in by_plain), "") for words in SIZES.values()]
    try:
        width, height = (int(float(side)) for side in sides)
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _boxes(path: Path, rows: Any, columns: Mapping[str, str], found: Collector) -> list[Box]:
    boxes = []
    meanings = CORNERS if all(meaning in columns for meaning in CORNERS) else SIDES
    for index, row in rows.iterrows():
        words = [row[columns[meaning]].strip() for meaning in meanings]
        if not any(words):
            continue  # an image without objects
        try:
            boxes.append(_box(row, words, meanings, columns))
        except ValueError as error:
            found.problem(path, str(error), f"line {index + 2}")
    return boxes


def _box(row: Any, words: list[str], meanings: tuple[str, ...], columns: Mapping[str, str]) -> Box:
    """Raises ValueError, with words for people."""
    name = row[columns["class"]].strip()
    if not name:
        raise ValueError(f"{columns['class']} is empty: name the class, or take the row out")
    values = [number(word, columns[meaning]) for word, meaning in zip(words, meanings, strict=True)]
    if any(values) and all(0 <= value <= 1 for value in values):
        raise ValueError(f"{', '.join(words)} lie within 0 to 1: shares of the image. Multiply x by the image's "
                         "width, y by the height")
    if meanings == CORNERS:
        xywh = corners(*values)
    else:
        x, y, width, height = values
        if width < 0 or height < 0:
            raise ValueError(f"{columns['width']} or {columns['height']} is negative: are they corners? Call them "
                             "xmax and ymax then")
        xywh = (x, y, width, height)
    crowd = "crowd" in columns and row[columns["crowd"]].strip().lower() in ("1", "true", "1.0")
    return Box(name, xywh, crowd=crowd)


CSV = Importer("csv", "CSV of boxes", "a csv with a column for the image, the class and the corners", _matches, _read)
