"""The rules, and the default for every operation."""

from __future__ import annotations

from pellucid.engine.ops import Kind, Op
from pellucid.engine.registry import RuleFunction, register, registered
from pellucid.rules.attention import Gate, Taylor, fused_attention
from pellucid.rules.elementwise import ELEMENTWISE_DEFAULTS, region
from pellucid.rules.foreign import FOREIGN
from pellucid.rules.linear import Box, Epsilon, Flat, LinearRule, Pass, WSquare, Zero
from pellucid.rules.norm import batch_norm, group_norm, layer_norm, rms_norm
from pellucid.rules.product import Half, SignalTakesAll, divide
from pellucid.rules.recurrent import refuse_opaque
from pellucid.rules.signed import AlphaBeta, AlphaBetaByDepth, Gamma, ZPlus
from pellucid.rules.structural import affine, native, winner, write

__all__ = [
    "AlphaBeta",
    "AlphaBetaByDepth",
    "Box",
    "Epsilon",
    "Flat",
    "Gamma",
    "Gate",
    "Half",
    "LinearRule",
    "Pass",
    "SignalTakesAll",
    "Taylor",
    "WSquare",
    "ZPlus",
    "Zero",
    "default_rules",
    "register_defaults",
]


def register_defaults() -> None:
    """Give every operation its default rule; done once, when this package is imported."""
    if Op.RESHAPE in registered():
        return
    for op in Op:
        if op.kind in (Kind.MOVE, Kind.MIX):
            register(op, native)
        elif op.kind is Kind.WINNER:
            register(op, winner)
        elif op.kind is Kind.AFFINE:
            register(op, write if op is Op.WRITE else affine)
        elif op in ELEMENTWISE_DEFAULTS:
            register(op, ELEMENTWISE_DEFAULTS[op])
        elif op.kind is Kind.LINEAR:
            register(op, Zero())
        elif op.kind is Kind.PRODUCT:
            register(op, Half())
    register("elementwise region", region)
    for name, rule in FOREIGN.items():
        register(name, rule)
    register(Op.DIVISION, divide)
    register(Op.BATCH_NORM, batch_norm)
    register(Op.LAYER_NORM, layer_norm)
    register(Op.GROUP_NORM, group_norm)
    register(Op.RMS_NORM, rms_norm)
    register(Op.SOFTMAX, Taylor())
    register(Op.ATTENTION, fused_attention)
    register(Op.RECURRENT, refuse_opaque)


def default_rules() -> dict[RuleFunction, list[str]]:
    """Every rule of the library that some operation has unless a composite says otherwise, and for which operations."""
    found: dict[RuleFunction, list[str]] = {}
    for key, rule in registered().items():
        if rule.__module__.partition(".")[0] != __name__.partition(".")[0]:
            continue  # a user's own
        found.setdefault(rule, []).append(key.label if isinstance(key, Op) else key)
    return found


register_defaults()
