"""What an importer has read, of whatever format: images with their split and boxes, the classes in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbook.data.importers.source import Source

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Box:
    """One object. Pixels are those of the upright image, counted from its left and upper edge."""

    name: str  # the class
    xywh: tuple[float, float, float, float]  # left, top, width, height in pixels
    crowd: bool = False  # a region to excuse, not an object to find
    area: float | None = None  # of the mask or polygon in pixels²; None where the box is all there is
    segmentation: Any = None  # as COCO writes it: polygons or RLE
    fields: Mapping[str, Any] = field(default_factory=dict)  # further keys of the annotation, such as truncated


@dataclass(frozen=True)
class Picture:
    """One image file with its boxes."""

    path: Path
    split: str  # train, val, test; empty where the format divides nothing
    width: int  # pixels, upright
    height: int
    boxes: tuple[Box, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)  # further keys of the image, such as gsd


@dataclass(frozen=True)
class Unreadable:
    """Something that cannot be read; one of them stops an import before it writes."""

    where: str  # the file relative to the folder, with its line, id or key
    reason: str  # what is wrong, what is allowed, what to do

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Imported:
    """A folder's labels, whole."""

    format: str
    classes: tuple[str, ...]  # in the order of the format's numbers, or of its list of names
    pictures: tuple[Picture, ...]
    problems: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()  # what was turned, left out or taken for something else
    class_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # class → further keys of its category
    tables: Mapping[str, Any] = field(default_factory=dict)  # further tables of a COCO file, such as licenses


@dataclass(frozen=True)
class Importer:
    """One format: how a folder of it is recognised and read."""

    key: str  # what --format calls it
    title: str
    needs: str  # the files by which it is recognised, for people
    matches: Callable[[Source], str]  # the file that shows the format; empty where there is none
    read: Callable[[Source], Imported]
