"""Elementwise functions, alone or as regions of several nodes.

The density of f at x is ``(f(x) - f(0)) / x`` times what arrives, its limit near zero; ``f(0)`` itself owes nothing to
the input and goes to the ledger. For ReLU and leaky ReLU this is the native backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pellucid.engine.numerics import inner, quotient
from pellucid.engine.ops import Op
from pellucid.engine.private import PRODUCTS_ALONG, VARIANCES, saved
from pellucid.engine.registry import RuleFunction
from pellucid.engine.step import Fresh, Relevance, Step
from pellucid.errors import UnknownOpError
from pellucid.rules.blocks import Rows

__all__ = ["closed_form", "gelu", "power", "region", "relu", "relu_gradient", "silu", "slope", "statistic"]


def slope(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Elementwise functions: ``G_x = G (f(x) - f(0)) / x``, and ``f(0)`` is booked (LRP-0 of f - f(0), Bach 2015)."""
    density = densities[0]
    record = step.record
    if density is None:
        return [None] * len(step.live)
    if record is None:
        raise UnknownOpError(f"{step.describe()} ran where it could not be observed; its values are not known.")
    k = step.live.index(True)
    return _by_quotient(step, record.first, step.operand(k), density, k)


def region(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Several nodes that are one elementwise function f: ``G_x = G (f(x) - f(0)) / x`` for all of them at once.

    ``0.5 x (1 + tanh(...))`` is a GELU however it is written; ``f(0)`` is booked.
    """
    density = densities[0]
    found = step.walk.plan.regions[step.index]
    graph, observer = step.walk.graph, step.walk.observer
    x = step.walk.values.of(found.source)
    if x is None:
        raise UnknownOpError(
            f"The value that enters the elementwise function ending at {step.describe()} was not kept."
        )
    assert density is not None
    return _by_quotient(step, lambda value: found.replay(graph, observer, value), x, density, 0, width=1)


def _by_quotient(
    step: Step, f: Callable[[Tensor], Tensor], x: Tensor, density: Tensor, k: int, *, width: int | None = None
) -> list[Tensor | Relevance | None]:
    factor, offset = quotient(f, x)
    if not bool(torch.isfinite(offset).all()) or not bool(torch.isfinite(factor).all()):
        raise UnknownOpError(
            f"{step.describe()} has no finite value or slope at zero, so what it owes to its input is undefined. Such "
            f"functions are followed only where their result scales another signal (as in a norm). Register a rule for "
            f"{step.op} with pellucid.engine.registry, or explain a layer after it."
        )
    if bool((offset != 0).any()):
        step.book("offset", inner(offset, density))
    messages: list[Tensor | Relevance | None] = [None] * (len(step.live) if width is None else width)
    # Relevance of a complex value is Re(conj(G) v), so that a complex factor crosses conjugated.
    messages[k] = (factor.conj() if factor.is_complex() else factor) * density
    return messages


def silu(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
    """SiLU: ``G_x = G sigmoid(x)``, which is ``f(x) / x``."""
    return closed_form(step, densities, _sigmoid)


def _sigmoid(x: Tensor, out: Tensor) -> Tensor:
    return torch.sigmoid(x, out=out)


def gelu(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
    """GELU: ``G_x = G Phi(x)``, which is ``f(x) / x``; the tanh form goes the general way."""
    record = step.record
    if record is not None and record.kwargs.get("approximate", "none") != "none":
        return list(slope(step, densities))
    return closed_form(step, densities, _normal_cdf)


def _normal_cdf(x: Tensor, out: Tensor) -> Tensor:
    return torch.mul(x, 0.5**0.5, out=out).erf_().add_(1).mul_(0.5)


def closed_form(
    step: Step, densities: Sequence[Tensor | None], factor: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor | Fresh | Relevance | None]:
    """A quotient known in closed form, of a function with f(0) = 0; ``factor(x, out)`` writes it into ``out``."""
    density = densities[0]
    if density is None:
        return [None]
    x = step.operand(0)
    message = step.room(density, x)
    rows = Rows([x, density, message], None)
    for (value, arrived, out), _ in rows:
        torch.mul(factor(value, rows.scratch(value)), arrived, out=out)
    return [Fresh(message)]


def relu(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
    """ReLU: ``G_x = G [x > 0]``, which is ``f(x) / x`` and its own backward (Bach 2015)."""
    density, result = densities[0], saved(step.node, "result")
    if density is None or result is None or not step.owned or density.dtype != result.dtype:
        return list(relu_gradient(step, densities))
    torch.ops.aten.threshold_backward.grad_input(density, result, 0, grad_input=density)
    return [Fresh(density)]


def power(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Powers and roots on a path of their own, by the quotient; of a root ``G_x = G / sqrt(x)`` for x > 0."""
    record = step.record
    density = densities[0]
    name = record.func._overloadpacket.__name__ if record is not None else ""
    if name not in ("sqrt", "sqrt_") or density is None or record is None:
        return slope(step, densities)
    x = step.operand(0)
    return [torch.where(x > 0, density * x.rsqrt(), 0)]


def statistic(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Norms, deviations and variances on a path of their own: ``G_x = G (df/dx) / d`` for a function of degree d.

    By Euler's theorem on homogeneous functions, ``sum x df/dx = d f``: the native backward for norm and std (d = 1),
    half of it for var (d = 2).
    """
    name = step.walk.graph.names[step.index]
    incoming = list(densities)
    if name in VARIANCES:
        incoming[0] = None if incoming[0] is None else incoming[0] / 2
    elif name in PRODUCTS_ALONG:
        raise UnknownOpError(
            f"{step.describe()} multiplies live values with each other along a dimension; no rule is registered for it."
        )
    messages = step.native(incoming)
    return list(step.keep_live(messages))


def relu_gradient(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Functions that are linear on each side of zero: ``G_x = G f(x) / x``, which is their own backward."""
    return list(step.keep_live(step.native(densities)))


ELEMENTWISE_DEFAULTS: dict[Op, RuleFunction] = {
    Op.RELU: relu,
    Op.LEAKY_RELU: relu_gradient,
    Op.SCALE: relu_gradient,
    Op.SILU: silu,
    Op.GELU: gelu,
    Op.ACTIVATION: slope,
    Op.FUNCTION: slope,
    Op.SIGMOID: slope,
    Op.EXPONENTIAL: slope,
    Op.POWER: power,
    Op.STATISTIC: statistic,
}
