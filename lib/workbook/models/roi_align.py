"""RoIAlign on a CPU as one sparse matrix times all feature maps; on a GPU torchvision's own kernel.

The average over bilinear samples is linear in the features, so each output bin is a short weighted sum of feature cells. The cells
and weights of all RoIs on all levels are written down once; the forward pass is then one `embedding_bag` over the cells, and the
backward pass the same with the matrix transposed. Torchvision's kernels work sample by sample, backward on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.builder import ROI_EXTRACTORS
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import embedding_bag


@ROI_EXTRACTORS.register_module()
class SparseRoIExtractor(SingleRoIExtractor):
    """mmdet's extractor (one level for each RoI, by its size) with the same results, on a CPU many times faster.

    The RoIAlign of its config must have `aligned=True` (mmdet's default) and average; others raise ValueError when built.
    """

    def build_roi_layers(self, layer_cfg: dict[str, Any], featmap_strides: Sequence[int]) -> torch.nn.ModuleList:
        layers = super().build_roi_layers({**layer_cfg, "use_torchvision": True}, featmap_strides)
        wrong = [layer for layer in layers if not getattr(layer, "aligned", False) or layer.pool_mode != "avg"]
        if wrong:
            raise ValueError(f"roi_layer: only RoIAlign with aligned=True and pool_mode='avg' is known here, not {wrong[0]}")
        return layers

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """feats: one [images, channels, h, w] a level; rois [n, 5]: image, x1, y1, x2, y2 in pixels → [n, channels, bins, bins]."""
        if rois.device.type != "cpu":
            return super().forward(feats, rois, roi_scale_factor)
        # a box that is turned around on one side has no size, so no level
        levels = self.map_roi_levels(rois, len(self.roi_layers)).clamp(0, len(self.roi_layers) - 1)
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        layer = self.roi_layers[0]
        scales = [layer.spatial_scale for layer in self.roi_layers]
        return sparse_roi_align(list(feats[: len(scales)]), rois, levels, scales, layer.output_size, layer.sampling_ratio)


def sparse_roi_align(
    maps: Sequence[Tensor], rois: Tensor, levels: Tensor, scales: Sequence[float], bins: tuple[int, int], sampling_ratio: int
) -> Tensor:
    """torchvision's `roi_align(..., aligned=True)` of each RoI on its level, in float32.

    maps: [images, channels, h, w] a level. rois [n, 5]: image, x1, y1, x2, y2 in pixels; levels [n]; scales: cells a pixel on each
    level. sampling_ratio 0 is the adaptive number of samples. Returns [n, channels, bins_y, bins_x].
    """
    channels = maps[0].shape[1]
    table = torch.cat([m.float().permute(0, 2, 3, 1).reshape(-1, channels) for m in maps])  # [cells, channels]
    with torch.no_grad():
        cells, weights, starts = bilinear_weights([m.shape for m in maps], rois.float(), levels, scales, bins, sampling_ratio)
    pooled: Tensor = _WeightedSums.apply(table, cells, weights, starts)  # [n * bins, channels]
    return pooled.view(len(rois), *bins, channels).permute(0, 3, 1, 2)


def bilinear_weights(
    shapes: Sequence[Sequence[int]], rois: Tensor, levels: Tensor, scales: Sequence[float], bins: tuple[int, int], sampling_ratio: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The sparse matrix of RoIAlign by rows: cells [nnz] (counted through all maps), weights [nnz], starts [n * bins + 1].

    The sampling points are torchvision's (csrc/ops/cpu/roi_align_common.h, aligned): a grid in every bin, a point more than one
    cell outside the map counts as zero. Its weight is that of its row times that of its column, so each axis is done alone.
    """
    height, width = (torch.tensor([shape[axis] for shape in shapes], dtype=torch.int32)[levels] for axis in (2, 3))
    sizes = torch.tensor([shape[0] * shape[2] * shape[3] for shape in shapes], dtype=torch.int32)
    base = (sizes.cumsum(0, dtype=torch.int32) - sizes)[levels] + rois[:, 0].int() * height * width  # [n] its map's first cell
    corners = rois[:, 1:] * torch.tensor(scales, dtype=rois.dtype)[levels][:, None] - 0.5  # [n, 4] cells
    first_y, count_y, weight_y = _axis(corners[:, 1], corners[:, 3], height, bins[0], sampling_ratio)
    first_x, count_x, weight_x = _axis(corners[:, 0], corners[:, 2], width, bins[1], sampling_ratio)

    counts = (count_y[:, :, None] * count_x[:, None, :]).flatten()  # [n * bins]
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0, dtype=torch.int32)])
    corner = (base[:, None, None] + (first_y * width[:, None])[:, :, None] + first_x[:, None, :]).flatten()
    shape = (len(rois), *bins)
    row_y = torch.arange(weight_y[..., 0].numel(), dtype=torch.int32).view(-1, bins[0], 1) * weight_y.shape[-1]
    row_x = torch.arange(weight_x[..., 0].numel(), dtype=torch.int32).view(-1, 1, bins[1]) * weight_x.shape[-1]

    owner = torch.repeat_interleave(counts)  # [nnz] the bin of each entry

    def of_owner(by_bin: Tensor) -> Tensor:
        return by_bin.expand(shape).flatten().index_select(0, owner)

    place = torch.arange(len(owner), dtype=torch.int32) - of_owner(starts[:-1].view(shape))
    columns = of_owner(count_x[:, None, :])
    down = torch.div(place, columns, rounding_mode="floor")
    right = place - down * columns
    cells = of_owner(corner.view(shape)) + down * of_owner(width[:, None, None]) + right
    weights = (weight_y.flatten().index_select(0, of_owner(row_y) + down)
               * weight_x.flatten().index_select(0, of_owner(row_x) + right))
    return cells, weights, starts


def _axis(low: Tensor, high: Tensor, cells: Tensor, bins: int, sampling_ratio: int) -> tuple[Tensor, Tensor, Tensor]:
    """One axis of RoIs from `low` to `high` [n] on maps of `cells` [n]: per bin the first cell it touches [n, bins], how many
    cells [n, bins] (0 when every sample is outside), and their weights [n, bins, most cells]."""
    step = (high - low) / bins
    grid = torch.full_like(cells, sampling_ratio) if sampling_ratio > 0 else step.ceil().clamp(min=0).int()
    sample = torch.arange(int(grid.max()) if len(grid) else 0)  # [most samples a bin]
    bin_low = low[:, None] + torch.arange(bins) * step[:, None]
    at = bin_low[:, :, None] + ((sample + 0.5) * step[:, None] / grid[:, None])[:, None, :]  # [n, bins, samples]
    last = (cells - 1)[:, None, None]
    counted = (at >= -1) & (at <= last + 1) & (sample < grid[:, None])[:, None, :]
    at = at.clamp(min=0)
    lower = torch.minimum(at.nan_to_num().int(), last)
    upper = torch.minimum(lower + 1, last)
    share = torch.where(upper > lower, at - lower, 0.0)  # of the upper cell
    weight = counted / grid.clamp(min=1)[:, None, None]

    first = torch.where(counted, lower, last).amin(2) if len(sample) else torch.zeros_like(bin_low, dtype=torch.int32)
    count = torch.where(counted, upper - first[:, :, None] + 1, 0).amax(2) if len(sample) else torch.zeros_like(first)
    spread = torch.zeros(*first.shape, max(1, int(count.max()) if count.numel() else 1))
    for cell, part in ((lower, 1 - share), (upper, share)):
        spread.scatter_add_(2, torch.where(counted, cell - first[:, :, None], 0).long(), torch.where(counted, part * weight, 0.0))
    return first, count, spread


class _WeightedSums(torch.autograd.Function):
    """Each row of the result is the weighted sum of the rows of `table` that its run of `cells` names."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, cells: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(cells, weights, starts)
        ctx.rows = len(table)
        return _bag(table, cells, weights, starts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        cells, weights, starts = ctx.saved_tensors
        matrix = csr_matrix((weights.numpy(), cells.numpy(), starts.numpy()), (len(starts) - 1, ctx.rows)).tocsc()
        turned = (torch.from_numpy(part) for part in (matrix.indices, matrix.data, matrix.indptr))
        return _bag(grad.contiguous(), *turned), None, None, None


def _bag(table: Tensor, cells: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    return embedding_bag(cells, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)
