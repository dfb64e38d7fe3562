"""The blocks of mmdet's PVT without what they do not need: the table of attention weights, and maps that are copied to be turned.

mmdet asks torch for the attention weights and drops them (backbones/pvt.py, SpatialReductionAttention.forward): the weights of 65,536
places and 1,024 keys, in float32, for every head, kept for the backward pass. torch's own kernel never writes them down
(scaled_dot_product_attention; Dao et al. 2022, arXiv:2205.14135). And a sequence [batch, places, channels] is a map in the
channels-last layout as it lies; mmdet copies it into the other one.
"""

from __future__ import annotations

from mmdet.models.backbones.pvt import MixFFN, SpatialReductionAttention
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from workbook.models.forwards import Forward, set_forward

Sides = tuple[int, int]


def lean_blocks(model: nn.Module) -> None:
    """PVT's attention and feed-forward parts compute the same with less memory and fewer copies."""
    for module in model.modules():
        if type(module) is MixFFN:
            set_forward(module, _FeedForward(module))
        if type(module) is SpatialReductionAttention:
            set_forward(module, _Attention(module))


class _FeedForward(Forward):
    def __call__(self, x: Tensor, hw_shape: Sides, identity: Tensor | None = None) -> Tensor:
        """x [batch, places, channels], of a map of hw_shape."""
        out = as_sequence(self.module.layers(as_map(x, hw_shape)))
        return (x if identity is None else identity) + self.module.dropout_layer(out)


class _Attention(Forward):
    def __call__(self, x: Tensor, hw_shape: Sides, identity: Tensor | None = None) -> Tensor:
        """x [batch, places, channels], of a map of hw_shape."""
        block, attention = self.module, self.module.attn
        places = block.norm(as_sequence(block.sr(as_map(x, hw_shape)))) if block.sr_ratio > 1 else x
        width, weight, bias = attention.embed_dim, attention.in_proj_weight, attention.in_proj_bias
        query = linear(x, weight[:width], None if bias is None else bias[:width])
        key, value = linear(places, weight[width:], None if bias is None else bias[width:]).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value))
        out = scaled_dot_product_attention(q, k, v, dropout_p=attention.dropout if block.training else 0.0)
        out = attention.out_proj(out.transpose(1, 2).flatten(2))
        return (x if identity is None else identity) + block.dropout_layer(block.proj_drop(out))


def as_map(sequence: Tensor, hw_shape: Sides) -> Tensor:
    """[batch, places, channels] → [batch, channels, height, width], channels-last, without a copy."""
    return sequence.transpose(1, 2).unflatten(2, hw_shape)


def as_sequence(maps: Tensor) -> Tensor:
    """[batch, channels, height, width] → [batch, places, channels]; no copy where the map is channels-last."""
    return maps.flatten(2).transpose(1, 2)
