"""The rescale quotient: how steep a function is between its value at a baseline and at an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pellucid.engine.numerics import near_zero

__all__ = ["in_blocks", "log_mean", "relu_slope", "rescale_slope"]

_BLOCK = 1 << 16


def rescale_slope(f: Callable[[Tensor], Tensor], x: Tensor, x0: Tensor, *, pointwise: bool = True) -> Tensor:
    """``(f(x) - f(x0)) / (x - x0)``, and its limit where the two are close (Shrikumar 2017, eq. 10 and section 3.2).

    Close to each other, the quotient loses digits. There the derivative midway is taken wherever it agrees with the
    quotient within that loss; where it does not, as at a kink, the quotient stands, so that the sum stays exact.

    Args:
        f: elementwise.
        x: any shape, floating.
        x0: shaped as x.
        pointwise: f may be called with a part of the elements.

    Returns:
        Shaped as x, float32 for 16-bit values. 0 where the limit is not finite.
    """
    y, y0 = f(x), f(x0)
    difference = x - x0
    slope = (y - y0) / difference
    small = difference.abs() <= near_zero(x.dtype) * (1 + x.abs())
    if not bool(small.any()):
        return slope
    where = small.nonzero(as_tuple=True)
    near = x[where], x0[where]
    with torch.enable_grad():
        middle = ((near[0] + near[1]) / 2 if pointwise else (x + x0) / 2).detach().requires_grad_()
        (derivative,) = torch.autograd.grad(f(middle).sum(), middle)
    if not pointwise:
        derivative = derivative[where]
    loss = 4 * torch.finfo(x.dtype).eps * (y[where].abs() + y0[where].abs()) / difference[where].abs()
    kept = (slope[where] - derivative).abs() > loss
    slope[where] = torch.where(kept, slope[where], torch.where(torch.isfinite(derivative), derivative, 0))
    return slope


def relu_slope(x: Tensor, x0: Tensor) -> Tensor:
    """The quotient of ReLU in a form without differences: ``(x+ + x0+) / (|x| + |x0|)``, and 0 where both are 0."""
    above = x.clamp(min=0).add_(x0.clamp(min=0))
    return above.div_(x.abs().add_(x0.abs()).add_(torch.finfo(x.dtype).tiny))


def log_mean(one: Tensor, other: Tensor, difference: Tensor) -> Tensor:
    """The logarithmic mean ``(a - b) / (log a - log b)`` of two positive tensors: the quotient of exp.

    Args:
        one: a.
        other: b.
        difference: ``log a - log b``; where it is not a number, as between two masked values, the mean is 0.
    """
    apart = difference.abs()
    share = torch.where(apart > 0, -torch.expm1(-apart) / apart, 1.0)
    return torch.nan_to_num(torch.maximum(one, other) * share, nan=0.0)


def in_blocks(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """``function`` of tensors of one shape, elementwise, block by block: on a CPU, blocks stay in the cache.

    Args:
        function: called with a part of each tensor, gives a tensor of the same size.
        tensors: of one shape.
    """
    first = tensors[0]
    alike = all(tensor.stride() == first.stride() and tensor.dtype == first.dtype for tensor in tensors)
    dense = first.is_contiguous() or first.is_contiguous(memory_format=torch.channels_last) if first.ndim == 4 else (
        first.is_contiguous()
    )  # fmt: skip
    if first.device.type != "cpu" or first.numel() <= _BLOCK or not (alike and dense):
        return function(*tensors)
    flat = [tensor.as_strided((tensor.numel(),), (1,)) for tensor in tensors]
    out = torch.empty_like(first)
    into = out.as_strided((out.numel(),), (1,))
    for start in range(0, out.numel(), _BLOCK):
        block = slice(start, start + _BLOCK)
        into[block] = function(*(tensor[block] for tensor in flat))
    return out
