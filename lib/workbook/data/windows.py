"""Windows: a grid of squares over an image, and what of its boxes each of them shows. Pixels and boxes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# The share of its side that a window has in common with the next: that of SAHI (arXiv:2202.06934,
# github.com/obss/sahi).
OVERLAP = 0.2
# A box of which a window shows less is no object there. In some window of the grid at least (1 + OVERLAP)² / 4 = .36
# of every square object that is no larger than a window is to be seen, so each is an object somewhere.
MIN_VISIBLE = 0.3
# A box that ends nearer than this share of the window's side to one of its inner borders is taken for cut by it.
BORDER = 0.01


@dataclass(frozen=True)
class Window:
    """A rectangle of an image, in whole pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        """Of the image's pixels."""
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        """Of the image's pixels."""
        return slice(self.x, self.x + self.width)

    @property
    def corners(self) -> np.ndarray:
        """[4] x1, y1, x2, y2."""
        return np.array([self.x, self.y, self.x + self.width, self.y + self.height], float)


def shared(side: int) -> int:
    """How many pixels two neighbouring windows of this side have in common, at least."""
    return math.ceil(OVERLAP * side)


def grid(width: int, height: int, side: int) -> list[Window]:
    """The windows of an image of width x height pixels, row by row: each pixel is in one, the last are moved to the
    border.

    An image that is no larger than a window is one window. Raises ValueError for a side of under 2 pixels.
    """
    if side < 2:
        raise ValueError(f"a window has a side of at least 2 pixels, not {side}")
    rows, columns = _starts(height, side), _starts(width, side)
    return [Window(x, y, min(side, width), min(side, height)) for y in rows for x in columns]


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    step = side - shared(side)
    count = math.ceil((length - side) / step) + 1
    return [min(number * step, length - side) for number in range(count)]


def visible_share(boxes_xyxy: np.ndarray, window: Window) -> np.ndarray:
    """[n] the share of each box's area that lies in the window. boxes_xyxy [n, 4]: pixels of the image."""
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    clipped = clip(boxes_xyxy, window)
    inside = clipped[:, 2:] - clipped[:, :2]
    return inside.prod(axis=1) / np.maximum(sides.prod(axis=1), 1e-9)


def clip(boxes_xyxy: np.ndarray, window: Window) -> np.ndarray:
    """[n, 4] the part of each box in the window, in pixels of the window; without area where there is none."""
    corner = window.corners[:2]
    size = window.corners[2:] - corner
    return np.clip(boxes_xyxy - np.tile(corner, 2), 0, np.tile(size, 2))


def cut_by_border(boxes_xyxy: np.ndarray, window: Window, width: int, height: int) -> np.ndarray:
    """[n] bool: the box ends at an inner border of the window, and a neighbouring window shows all of what it is
    about.

    boxes_xyxy [n, 4]: pixels of the window; width, height: of the image. A box that is larger than what two windows
    have in common is not left to the neighbour, which may cut it as well.
    """
    side = max(window.width, window.height)
    near = BORDER * side
    largest = shared(side) - 2 * near
    inner = [window.x > 0, window.y > 0, window.x + window.width < width, window.y + window.height < height]
    distance = np.concatenate([boxes_xyxy[:, :2], np.array([window.width, window.height]) - boxes_xyxy[:, 2:]], axis=1)
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    touches = (distance < near) & np.array(inner)  # [n, left, top, right, bottom]
    fits = np.tile(sides <= largest, 2)
    return (touches & fits).any(axis=1) & ~(touches & ~fits).any(axis=1)
