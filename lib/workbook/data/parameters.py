"""What may be asked of a look at a dataset, and how its name and the image size are read."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import BeforeValidator, Field

from workbook.data.catalog import dataset_names
from workbook.data.checks import parse_image_size
from workbook.parameters import Asked, read_name

DatasetName = Annotated[str, BeforeValidator(partial(read_name, there=dataset_names))]
ImageSize = Annotated[tuple[int, int], BeforeValidator(parse_image_size)]


class DataParameters(Asked):
    """The parameters of `1_data.ipynb`."""

    dataset: DatasetName = Field("tree_crowns", description="a folder of data/, or the embedded tree_crowns", min_length=1)
    image_size: ImageSize = Field((400, 400), description="pixels an image is scaled into, ratio kept: 1024, or 1333x800")
