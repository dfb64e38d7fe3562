"""DETR and Deformable DETR of mmdet 3, which took the transformer out of the head, as mmdet 2.28 has them: config and names of weights.

mmdet 3: mmdet/models/detectors/{base_detr,detr,deformable_detr}.py; mmdet 2.28: mmdet/models/dense_heads/{detr,deformable_detr}_head.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbook.runs.adopt.errors import DETECTIONS, AdoptError

DETRS = ("DETR", "DeformableDETR")
MOVED = ("encoder", "decoder", "positional_encoding", "num_queries", "with_box_refine", "as_two_stage", "num_feature_levels")
COSTS = {"ClassificationCost": "cls_cost", "FocalLossCost": "cls_cost", "BBoxL1Cost": "reg_cost", "IoUCost": "iou_cost"}
DIMS, HEADS = 256, 8  # where a config of mmdet 3 says nothing
FFN = dict(type="FFN", embed_dims=DIMS, feedforward_channels=1024, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type="ReLU", inplace=True))
SELF = dict(type="MultiheadAttention", embed_dims=DIMS, num_heads=HEADS)
DEFORMABLE = dict(type="MultiScaleDeformableAttention", embed_dims=DIMS)
# of a name of mmdet 3, from left to right
RENAMED = (
    (r"^(encoder|decoder)\.", r"bbox_head.transformer.\1."),
    (r"^(level_embed)$", r"bbox_head.transformer.\1s"),
    (r"^(reference_points|pos_trans)_fc\.", r"bbox_head.transformer.\1."),
    (r"^pos_trans_norm\.", "bbox_head.transformer.pos_trans_norm."),
    (r"^memory_trans_fc\.", "bbox_head.transformer.enc_output."),
    (r"^memory_trans_norm\.", "bbox_head.transformer.enc_output_norm."),
    (r"^query_embedding\.", "bbox_head.query_embedding."),
    (r"(\.layers\.\d+)\.self_attn\.", r"\1.attentions.0."),
    (r"(\.layers\.\d+)\.cross_attn\.", r"\1.attentions.1."),
    (r"(\.layers\.\d+)\.ffn\.", r"\1.ffns.0."),
)
PROJECTION = ((r"^neck\.convs\.0\.conv\.", "bbox_head.input_proj."),)  # DETR's one level, in mmdet 2 a layer of the head


def as_mmdet_2_weights(weights: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """kind: DETR or DeformableDETR."""
    names = RENAMED + (PROJECTION if kind == "DETR" else ())
    return {_renamed(key, names): value for key, value in weights.items()}


def _renamed(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for old, new in names:
        key = re.sub(old, new, key)
    return key


def as_mmdet_2_model(model: Mapping[str, Any], where: str) -> dict[str, Any]:
    """where: the config, for messages. Raises AdoptError for parts that are missing, or that mmdet 2.28 has in no form."""
    kind = model["type"]
    if lacking := [key for key in ("encoder", "decoder", "bbox_head") if not isinstance(model.get(key), dict)]:
        raise AdoptError(f"{where} has no model.{' and no model.'.join(lacking)}, which the {kind} of mmdet 3.0 to 3.3 has: {DETECTIONS}")
    head = {key: value for key, value in model["bbox_head"].items() if key != "embed_dims"}
    place = {"type": "SinePositionalEncoding", **(model.get("positional_encoding") or {})}
    own = {key: value for key, value in model.items() if key not in MOVED}
    if kind == "DETR":
        made = _detr_head(model, where)
        del own["neck"]
    else:
        made = _deformable_head(model)
    own["bbox_head"] = {**head, **made, "positional_encoding": place}
    if (model.get("train_cfg") or {}).get("assigner"):
        own["train_cfg"] = {**model["train_cfg"], "assigner": _assigner(model["train_cfg"]["assigner"], where)}
    return own


def _detr_head(model: Mapping[str, Any], where: str) -> dict[str, Any]:
    neck = model.get("neck") or {}
    is_projection = (neck.get("type") == "ChannelMapper" and len(neck.get("in_channels", ())) == 1 and neck.get("kernel_size") == 1
                     and neck.get("norm_cfg") is None and neck.get("act_cfg", "ReLU") is None and neck.get("num_outs", 1) == 1)
    if not is_projection:
        raise AdoptError(f"{where} has a DETR whose model.neck is not one 1x1 convolution without norm and activation (ChannelMapper), "
                         f"which is all that mmdet 2.28's has: {DETECTIONS}")
    decoder = {"type": "DetrTransformerDecoder", "return_intermediate": True, **_layers(model["decoder"], SELF)}
    transformer = {"type": "Transformer", "encoder": _encoder(model, SELF), "decoder": decoder}
    return {"in_channels": neck["in_channels"][0], "num_query": model.get("num_queries", 100), "transformer": transformer}


def _deformable_head(model: Mapping[str, Any]) -> dict[str, Any]:
    queries, is_two_stage = model.get("num_queries", 100), model.get("as_two_stage", False)
    decoder = {"type": "DeformableDetrTransformerDecoder", "return_intermediate": True, **_layers(model["decoder"], DEFORMABLE)}
    decoder.pop("post_norm_cfg", None)  # always None
    transformer = {
        "type": "DeformableDetrTransformer", "encoder": _encoder(model, DEFORMABLE), "decoder": decoder,
        "num_feature_levels": model.get("num_feature_levels", 4), "two_stage_num_proposals": queries}
    return {"in_channels": DIMS,  # asked for, and not used: the neck has projected
            "num_query": queries, "transformer": transformer, "as_two_stage": is_two_stage,
            "with_box_refine": model.get("with_box_refine", False)}


def _encoder(model: Mapping[str, Any], attention: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in model["encoder"].items() if key not in ("layer_cfg", "num_cp")}  # num_cp: memory of a training
    layer = model["encoder"].get("layer_cfg") or {}
    return {"type": "DetrTransformerEncoder", **own, "transformerlayers": _layer(
        layer, [_attention(layer.get("self_attn_cfg"), attention)], ("self_attn", "norm", "ffn", "norm"))}


def _layers(decoder: Mapping[str, Any], cross: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in decoder.items() if key != "layer_cfg"}
    layer = decoder.get("layer_cfg") or {}
    attentions = [_attention(layer.get("self_attn_cfg"), SELF), _attention(layer.get("cross_attn_cfg"), cross)]
    return {**own, "transformerlayers": _layer(layer, attentions, ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm"))}


def _attention(given: Mapping[str, Any] | None, kind: Mapping[str, Any]) -> dict[str, Any]:
    """batch_first: mmdet 2's layers have the queries first."""
    return {**kind, **{key: value for key, value in (given or {}).items() if key != "batch_first"}}


def _layer(layer: Mapping[str, Any], attentions: list[dict[str, Any]], order: tuple[str, ...]) -> dict[str, Any]:
    norm = {"norm_cfg": layer["norm_cfg"]} if "norm_cfg" in layer else {}
    return {"type": "BaseTransformerLayer", "attn_cfgs": attentions, "ffn_cfgs": {**FFN, **(layer.get("ffn_cfg") or {})},
            "operation_order": order, **norm}


def _assigner(assigner: Mapping[str, Any], where: str) -> dict[str, Any]:
    costs = assigner.get("match_costs")
    costs = [costs] if isinstance(costs, dict) else list(costs or [])
    named = {COSTS.get(str(cost.get("type"))): dict(cost) for cost in costs}
    if sorted(map(str, named)) != sorted(set(COSTS.values())) or len(costs) != len(named):
        raise AdoptError(f"{where} matches queries by {', '.join(str(cost.get('type')) for cost in costs) or 'nothing'} "
                         "(model.train_cfg.assigner.match_costs), and mmdet 2.28 by one cost each of class (ClassificationCost, "
                         f"FocalLossCost), BBoxL1Cost and IoUCost: {DETECTIONS}")
    return {"type": assigner["type"], **{str(key): value for key, value in named.items()}}
