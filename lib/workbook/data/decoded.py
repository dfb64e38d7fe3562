"""Images decoded once where several windows are cut from one: a small memory a process."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.builder import PIPELINES
from mmdet.datasets.pipelines import LoadImageFromFile

from workbook.data.windows import Window

MEMORY_BYTES = 256 * 2**20  # of decoded pixels a process; the last image stays, however large

Stamp = tuple[str, int, int]  # path, size in bytes, time of the content


class DecodedImages:
    """The images that were decoded last, as mmdet's LoadImageFromFile reads them (EXIF applied, BGR, 8 bits)."""

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self.limit = limit
        self._bytes = 0
        self._images: OrderedDict[Stamp, np.ndarray] = OrderedDict()

    def read(self, path: Path) -> np.ndarray:
        """The pixels of a file [height, width, 3], which the caller may not change. A changed file is read again."""
        stat = os.stat(path)
        stamp = (str(path), stat.st_size, stat.st_mtime_ns)
        if stamp in self._images:
            self._images.move_to_end(stamp)
            return self._images[stamp]
        pixels = LoadImageFromFile()({"img_prefix": None, "img_info": {"filename": str(path)}})["img"]
        pixels.setflags(write=False)
        self._images[stamp] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self.limit and len(self._images) > 1:
            self._bytes -= self._images.popitem(last=False)[1].nbytes
        return pixels


DECODED = DecodedImages()


@PIPELINES.register_module()
class LoadWindow:
    """mmdet's LoadImageFromFile for a window: of the image, only `results["window"]`; all of it where there is none."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add what LoadImageFromFile adds. Raises FileNotFoundError for a file that is not there."""
        name = results["img_info"]["filename"]
        path = Path(results["img_prefix"] or "", name)
        pixels = DECODED.read(path)
        window: Window | None = results.get("window")
        pixels = pixels.copy() if window is None else pixels[window.rows, window.columns].copy()
        shape = pixels.shape
        results.update(filename=str(path), ori_filename=name, img=pixels, img_fields=["img"])
        results.update(img_shape=shape, ori_shape=shape)
        return results
