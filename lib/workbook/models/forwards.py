"""Another forward for a module of somebody else's, with the same result by other operations.

It stands on the module itself and refers to it, so a copy of the model (`copy.deepcopy`, pickle) computes with its own weights, and the
keys of the state dict stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, eq=False)
class Forward(ABC):
    """A forward in the place of that of the module's class."""

    module: Any  # an nn.Module: its layers are known to those who replace its forward

    @abstractmethod
    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """What the module computes of these inputs."""


def set_forward(module: nn.Module, forward: Forward) -> None:
    module.forward = forward


def restore_forwards(model: nn.Module) -> None:
    """Every module computes as its class says again."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), Forward):
            del module.forward
