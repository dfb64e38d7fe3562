"""A training that needs more memory than there is, said in words."""

from __future__ import annotations

import torch

from workbook.errors import RunError
from workbook.training.parameters import Parameters

ON_A_CPU = "DefaultCPUAllocator"  # torch raises a plain RuntimeError there, and names its allocator


class MemoryFullError(RunError):
    """The training needs more memory than the device has; the message says what needs less."""


def explained(error: Exception, parameters: Parameters) -> Exception:
    """The error itself, or a MemoryFullError where memory ran out."""
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and ON_A_CPU not in str(error):
        return error
    size = "x".join(map(str, parameters.image_size))
    return MemoryFullError(
        f"the memory is full (device={parameters.device}, batch_size={parameters.batch_size}, image_size={size}): {error}\n"
        "Use a smaller batch_size or a smaller image_size, which makes another run, or end what else uses this memory and call the "
        "same again: it goes on from the last checkpoint")
