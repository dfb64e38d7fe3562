"""What may be asked of a look at a dataset, and how its name and the image size are read."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from workbook.parameters import Asked, read_name

SMALLEST, LARGEST = 32, 10_000  # pixels: the deepest feature level has stride 32


def read_dataset(value: Any) -> str:
    """The name of a dataset. Raises ValueError as `read_name`, and for an empty one."""
    from workbook.data.catalog import dataset_names  # loads what reads images, which `workbook --help` does not need

    name = read_name(value, dataset_names)
    if not name.strip():
        raise ValueError(f"a name is needed. There are: {', '.join(dataset_names())}")
    return name


def parse_image_size(value: Any) -> tuple[int, int]:
    """`1024`, `"1024"`, `"1333x800"`, `[1333, 800]` or `(1333, 800)` → (width, height) in pixels.

    Raises ValueError for anything else, and for sides under 32 or over 10000.
    """
    sides: Any = value
    if isinstance(value, str):
        numbers = re.fullmatch(r"\s*(\d{1,9})\s*(?:[xX×]\s*(\d{1,9})\s*)?", value)
        sides = [int(numbers[1]), int(numbers[2] or numbers[1])] if numbers else None
    elif isinstance(value, int):
        sides = [value, value]
    if (not isinstance(sides, list | tuple) or len(sides) != 2
            or any(not isinstance(side, int) or isinstance(side, bool) for side in sides)):
        raise ValueError(f"{value!r} is no image size: give pixels as 1024, or width x height as 1333x800")
    width, height = sides
    if not all(SMALLEST <= side <= LARGEST for side in (width, height)):
        raise ValueError(f"{value!r} is out of range: a side has {SMALLEST} to {LARGEST} pixels")
    return width, height


DatasetName = Annotated[str, BeforeValidator(read_dataset)]
ImageSize = Annotated[tuple[int, int], BeforeValidator(parse_image_size)]


class DataParameters(Asked):
    """The parameters of `1_data.ipynb`."""

    dataset: DatasetName = Field("tree_crowns", description="a folder of data/, or the embedded tree_crowns")
    image_size: ImageSize = Field((400, 400), description="pixels an image is scaled into, ratio kept: 1024, or 1333x800")
