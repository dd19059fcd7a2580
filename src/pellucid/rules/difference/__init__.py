"""Rules for multipliers over two runs (DeepLIFT): every one keeps ``sum m_k (x_k - x0_k) = m (y - y0)``."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.engine.ops import Kind, Op
from pellucid.engine.pair import PairRule
from pellucid.engine.private import (
    ADDCDIV,
    GLU,
    GRID_SAMPLERS,
    INDEX_REDUCE,
    LERP,
    LERP_LIVE,
    MAX_UNPOOLS,
    MUL,
    NAN_TO_NUM,
    PRODUCTS_ALONG,
    RANKED,
    ROI_ALIGN,
    SCATTER_REDUCE,
)
from pellucid.rules.difference.attention import fused_attention
from pellucid.rules.difference.elementwise import changed, glu, of_saved, relu, rescale
from pellucid.rules.difference.linear import factors, linear, reduction, regions, sample, statistic, write
from pellucid.rules.difference.norms import batch_norm, group_norm, layer_norm, rms_norm
from pellucid.rules.difference.quotients import add_quotient, divide, product
from pellucid.rules.difference.softmax import softmax
from pellucid.rules.difference.winners import ranked, winner

__all__ = ["changed", "difference_rule"]

_BY_NAME: dict[str, PairRule | None] = {
    GLU: glu,
    ADDCDIV: add_quotient,
    MUL: product,
    LERP: linear,
    LERP_LIVE: factors,
    **dict.fromkeys(MAX_UNPOOLS, linear),
    SCATTER_REDUCE: reduction,
    INDEX_REDUCE: None,
    NAN_TO_NUM: rescale,
    ROI_ALIGN: regions,
    **dict.fromkeys(GRID_SAMPLERS, sample),
    **dict.fromkeys(PRODUCTS_ALONG, None),
    **dict.fromkeys(RANKED, ranked),
    "transformers.models.bloom.modeling_bloom.GeLUFunction": of_saved(nn.GELU("tanh")),
    "transformers.models.recurrent_gemma.modeling_recurrent_gemma.SqrtBoundDerivative": of_saved(torch.sqrt),
}
_BY_OP: dict[Op, PairRule] = {
    Op.JOIN: linear,
    Op.ADD: linear,
    Op.FILL: linear,
    Op.WRITE: write,
    Op.SCALE: linear,
    Op.RELU: relu,
    Op.STATISTIC: statistic,
    Op.BATCH_NORM: batch_norm,
    Op.LAYER_NORM: layer_norm,
    Op.GROUP_NORM: group_norm,
    Op.RMS_NORM: rms_norm,
    Op.ATTENTION: fused_attention,
}
_BY_KIND: dict[Kind, PairRule] = {
    Kind.MOVE: linear,
    Kind.MIX: linear,
    Kind.WINNER: winner,
    Kind.ELEMENTWISE: rescale,
    Kind.GATE: rescale,
    Kind.PRODUCT: factors,
    Kind.DIVISION: divide,
    Kind.LINEAR: factors,
    Kind.SOFTMAX: softmax,
}


def difference_rule(name: str, op: Op | None) -> PairRule | None:
    """The rule for a node, or None.

    Args:
        name: of the node; of a custom ``autograd.Function`` the qualified name of its class.
        op: what the node means, None for unknown ones.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if op is None:
        return None
    return _BY_OP.get(op) or _BY_KIND.get(op.kind)
