"""Linear maps whose gradient is a rule's density, from the four sign combinations of signal and weight.

A slow second opinion for whole nets: `ruled(a, w, b, apply, rule)` has the value `apply(a, w, b)`; a message that
arrives as density G leaves as the density of `rule` at `a`, so that gradient times input of a net made of these is its
relevance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Apply = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""`apply(a, w, b)`: linear in a and in w, plus b."""

EPSILON = 1e-6


class _Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, w: Tensor, b: Tensor | None, apply: Apply, rule: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(a, w, b)
        ctx.map, ctx.rule = apply, rule
        return apply(a, w, b)

    @staticmethod
    def backward(ctx: Any, density: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        a, w, b = ctx.saved_tensors
        apply, (name, *numbers) = ctx.map, ctx.rule
        w_up, w_down = w.clamp(min=0), w.clamp(max=0)
        b_up, b_down = (None, None) if b is None else (b.clamp(min=0), b.clamp(max=0))
        a_up, a_down = a.clamp(min=0), a.clamp(max=0)

        def transposed(s: Tensor, for_positive: Tensor, for_negative: Tensor) -> Tensor:
            """Messages s along one weight for positive signals and another for negative ones."""
            with torch.enable_grad():
                probe = torch.zeros_like(a).requires_grad_()
                (up,) = torch.autograd.grad(apply(probe, for_positive, None), probe, s)
                (down,) = torch.autograd.grad(apply(probe, for_negative, None), probe, s)
            return torch.where(a >= 0, up, down)

        z = apply(a, w, b)
        positive = apply(a_up, w_up, b_up) + apply(a_down, w_down, None)
        negative = apply(a_up, w_down, b_down) + apply(a_down, w_up, None)
        r = z * density
        if name == "0":
            out = transposed(density, w, w)
        elif name == "epsilon":
            out = transposed(r / torch.where(z >= 0, z + numbers[0], z - numbers[0]), w, w)
        elif name == "alpha-beta":
            alpha, beta = numbers
            out = alpha * transposed(r / (positive + EPSILON), w_up, w_down)
            out = out - beta * transposed(r / (negative - EPSILON), w_down, w_up)
        elif name == "gamma":
            (gamma,) = numbers
            above = torch.where(z >= 0, r / (z + gamma * positive + EPSILON), 0.0)
            below = torch.where(z < 0, r / (z + gamma * negative - EPSILON), 0.0)
            out = transposed(above + below, w, w)
            out = out + gamma * (transposed(above, w_up, w_down) + transposed(below, w_down, w_up))
        else:
            raise ValueError(f"no rule {name!r}")
        return out, None, None, None, None


def ruled(a: Tensor, w: Tensor, b: Tensor | None, apply: Apply, rule: tuple[Any, ...]) -> Tensor:
    """See the module; `rule` is ("0",), ("epsilon", e), ("alpha-beta", alpha, beta) or ("gamma", g)."""
    return _Ruled.apply(a, w.detach(), None if b is None else b.detach(), apply, rule)
