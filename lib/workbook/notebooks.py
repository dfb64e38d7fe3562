"""What the first cell of every notebook asks: were its parameters spelled right?"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any


def refuse_unknown(namespace: Mapping[str, Any], *known: str) -> None:
    """Raises ValueError when papermill was given a parameter that is not among `known`; call it with `globals()`.

    papermill itself only warns of a name that the notebook does not have, and runs with the default.
    """
    if unknown := [name for name in injected(namespace.get("In", [])) if name not in known]:
        raise ValueError(f"no such parameter: {', '.join(unknown)}. This notebook has: {', '.join(known)}")


def injected(cells: Sequence[str]) -> dict[str, str]:
    """Name → literal, as papermill wrote them into its own cell (`# Parameters`). `cells` is IPython's `In`."""
    found: dict[str, str] = {}
    for source in cells:
        if source.startswith("# Parameters\n"):
            for statement in ast.parse(source).body:
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    found[statement.targets[0].id] = ast.unparse(statement.value)
    return found
