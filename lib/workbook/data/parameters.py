"""What may be asked of a look at a dataset, and how its name and the image size are read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from workbook.data.catalog import dataset_names
from workbook.data.checks import parse_image_size
from workbook.parameters import Asked, read_name


def read_dataset(value: Any) -> str:
    """The name of a dataset. Raises ValueError as `read_name`, and for an empty one."""
    name = read_name(value, dataset_names)
    if not name.strip():
        raise ValueError(f"a name is needed. There are: {', '.join(dataset_names())}")
    return name


DatasetName = Annotated[str, BeforeValidator(read_dataset)]
ImageSize = Annotated[tuple[int, int], BeforeValidator(parse_image_size)]


class DataParameters(Asked):
    """The parameters of `1_data.ipynb`."""

    dataset: DatasetName = Field("tree_crowns", description="a folder of data/, or the embedded tree_crowns")
    image_size: ImageSize = Field((400, 400), description="pixels an image is scaled into, ratio kept: 1024, or 1333x800")
