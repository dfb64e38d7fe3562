"""How large an image is when it is upright, and where its boxes lie then."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import PIL.Image

from workbook.data.importers.record import Box

_ORIENTATION = 0x0112  # the EXIF tag
NOT_TURNED = ("AVIF",)  # OpenCV, with which training reads, does not apply the tag of these
UPRIGHT_IN_PILLOW = ("TIFF",)  # Pillow gives the size of these as it is after the tag
SIDEWAYS = 5  # from this value on width and height change places


@dataclass(frozen=True)
class Upright:
    """`width` and `height` in pixels after the EXIF orientation, as training reads the file."""

    width: int
    height: int
    orientation: int  # 1 upright, 2 to 8 turned or mirrored

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the pixels as they lie in the file."""
        return (self.height, self.width) if self.orientation >= SIDEWAYS else (self.width, self.height)


def read_upright(path: Path) -> Upright:
    """Reads the header alone. Raises ValueError, with words for people, when the file is no image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of harmless oddities in EXIF
        try:
            with PIL.Image.open(path) as image:
                orientation = int(PIL.Image.Image.getexif(image).get(_ORIENTATION, 1))
                kind = str(image.format)
                width, height = image.size
        except PIL.Image.DecompressionBombError:
            raise ValueError("it has more than 178 million pixels: cut it into tiles, and label these") from None
        except Exception:  # Pillow raises many kinds on damaged headers; all mean the same to the user
            raise ValueError("it is no image that can be read: copy it again, or delete it with the labels") from None
    if kind in NOT_TURNED or not 1 <= orientation <= 8:
        return Upright(width, height, 1)
    if orientation >= SIDEWAYS and kind not in UPRIGHT_IN_PILLOW:
        return Upright(height, width, orientation)
    return Upright(width, height, orientation)


def turned(box: Box, image: Upright) -> Box:
    """The box, drawn on the pixels as they are stored, on the upright image. A mask of runs is left out."""
    x, y, width, height = box.xywh
    corners = [_point(x, y, image), _point(x + width, y + height, image)]
    left, top = (min(values) for values in zip(*corners, strict=True))
    right, bottom = (max(values) for values in zip(*corners, strict=True))
    return replace(box, xywh=(left, top, right - left, bottom - top), segmentation=_polygons(box.segmentation, image))


def _polygons(segmentation: Any, image: Upright) -> Any:
    if not isinstance(segmentation, list):
        return None
    parts = [list(zip(part[::2], part[1::2], strict=False)) for part in segmentation]
    return [[value for x, y in part for value in _point(x, y, image)] for part in parts]


def _point(x: float, y: float, image: Upright) -> tuple[float, float]:
    """EXIF 2.3, table 6: which side of the picture the first row and the first column of the file are."""
    width, height = image.stored
    return {1: (x, y), 2: (width - x, y), 3: (width - x, height - y), 4: (x, height - y),
            5: (y, x), 6: (height - y, x), 7: (height - y, width - x), 8: (y, width - x)}[image.orientation]


def around(points: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """The upright box x, y, width, height around points [n, 2]."""
    xs = [float(x) for x, _ in points]
    ys = [float(y) for _, y in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def polygon_area(points: Sequence[Sequence[float]]) -> float:
    """The area within a polygon [n, 2] in pixels², by the shoelace formula."""
    following = [*points[1:], *points[:1]]
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(points, following, strict=True))) / 2
