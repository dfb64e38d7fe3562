"""Things that are a file each: what the modules of a package define is found by listing the package."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def plugins(package: ModuleType, kind: type) -> list[Any]:
    """All objects of `kind` that the modules of a package define: a new one is a new file there."""
    found: list[Any] = []
    for module in pkgutil.iter_modules(package.__path__):
        content = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
        found += [value for value in content.values() if isinstance(value, kind) and value not in found]
    return found
