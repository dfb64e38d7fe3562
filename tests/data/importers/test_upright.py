"""The size of an image without decoding it, beside what OpenCV, with which training reads, makes of the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bad_data import exif, image_bytes
from small_dataset import picture
from workbook.data.importers.upright import read_upright


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_width_and_height_are_those_that_training_sees(kind: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(image_bytes(picture(1, 80, 48), kind, exif=exif(orientation)))
    height, width = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    image = read_upright(path)
    assert (image.width, image.height) == (width, height)
    assert image.stored == (80, 48)


def test_a_file_that_is_no_image_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"<html>404 Not Found")
    with pytest.raises(ValueError, match="no image that can be read: copy it again"):
        read_upright(tmp_path / "photo.jpg")
