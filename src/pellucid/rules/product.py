"""Products, quotients and matrix products of signals.

Two signals of equal rank share (half each: AttnLRP's uniform rule, Achtibat 2024 eq. 14); a signal times its gate takes
all (Arras 2017); of a quotient the numerator takes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.engine.numerics import inner, reduce_to
from pellucid.engine.private import ADDCDIV, ADDED_PRODUCTS, BMM, GLU, MUL, saved
from pellucid.engine.step import Fresh, Relevance, Step

__all__ = ["Half", "SignalTakesAll", "divide"]


@dataclass(frozen=True)
class Half:
    """Relevance of a product: ``R_a = R_b = R / 2`` (Achtibat 2024, eq. 14); all to a factor that is alone."""

    def __call__(self, step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
        """See the class."""
        density = densities[0]
        name = step.walk.graph.names[step.index]
        assert density is not None
        if name == GLU:
            return [_glu(step, density)]
        if name in ADDED_PRODUCTS:
            return _add_product(step, density)
        if sum(step.live) == 1:
            alone = _alone(step, density, step.live.index(True))
            if alone is not None:
                return alone
            return list(step.keep_live(step.native(densities)))
        return list(step.keep_live(step.native([density / 2])))


@dataclass(frozen=True)
class SignalTakesAll:
    """Relevance of a product of two live signals: all to the one named, 0 the first, 1 the second (Arras 2017)."""

    signal: int = 0

    def __call__(self, step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
        """See the class."""
        if sum(step.live) < 2:
            return Half()(step, densities)
        live = [k for k, ok in enumerate(step.live) if ok]
        chosen = live[min(self.signal, len(live) - 1)]
        messages = step.native(densities)
        return [message if k == chosen else None for k, message in enumerate(messages)]


def divide(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
    """Quotients: the numerator takes all, ``G_a = G / b`` (signal takes all, Arras 2017)."""
    density = densities[0]
    other = saved(step.node, "other")
    if density is not None and other is not None and step.live[0] and not density.is_complex():
        messages: list[Tensor | Fresh | Relevance | None] = [None] * len(step.live)
        messages[0] = reduce_to(density / other, step.shape(0))
        return messages
    return list(step.keep_live(step.native(densities)))


def _alone(step: Step, density: Tensor, k: int) -> list[Tensor | Fresh | Relevance | None] | None:
    """One live factor: the density times the other one, without the derivative of the other."""
    name = step.walk.graph.names[step.index]
    messages: list[Tensor | Fresh | Relevance | None] = [None] * len(step.live)
    if name == MUL and not density.is_complex():
        factor = saved(step.node, ("other", "self")[k])
        if factor is None or factor.is_complex():
            return None
        in_place = step.owned and density.shape == step.shape(k) and density.dtype == factor.dtype
        made = density.mul_(factor) if in_place else reduce_to(density * factor, step.shape(k))
        messages[k] = Fresh(made)
        return messages
    if name == BMM:
        factor = saved(step.node, ("mat2", "self")[k])
        if factor is None:
            return None
        messages[k] = density @ factor.mT if k == 0 else factor.mT @ density
        return messages
    return None


def _glu(step: Step, density: Tensor) -> Tensor:
    """Gated linear unit: the signal half times sigmoid of the gate half; the gate gets nothing."""
    record = step.record
    assert record is not None
    dim = int(record.args[1]) if len(record.args) > 1 else -1
    _, gate = step.operand(0).chunk(2, dim)
    signal = density * torch.sigmoid(gate)
    return torch.cat((signal, torch.zeros_like(signal)), dim)


def _add_product(step: Step, density: Tensor) -> list[Tensor | Fresh | Relevance | None]:
    """``a + c * b1 * b2``, ``a + c * b1 / b2``, ``a + b1 @ b2``: the sum as it is, then the product's own rule."""
    messages = step.native([density])
    if step.walk.graph.names[step.index] == ADDCDIV:
        messages[2] = None
    elif step.live[1] and step.live[2]:
        messages[1] = None if messages[1] is None else messages[1] / 2
        messages[2] = None if messages[2] is None else messages[2] / 2
    record = step.record
    base = record.args[0] if record is not None and not step.live[0] else None
    if record is not None and isinstance(base, Tensor):
        value = record.base if record.base is not None else base
        source, module = step.walk.plan.origin(record, step.module)
        beta = record.kwargs.get("beta", 1)
        rest = torch.where(density == 0, 0, value * beta)  # a mask of -inf that let nothing through
        step.book(source, inner(rest, density), module)
    return list(step.keep_live(messages))
