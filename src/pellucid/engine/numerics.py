"""Small numerical pieces that rules share: stabilised division, sums back to a shape, quotients near zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["accumulation_dtype", "all_finite", "inner", "near_zero", "quotient", "reduce_to", "sign", "stabilise"]


def sign(z: Tensor) -> Tensor:
    """Sign of ``z`` with sign(0) = +1, so that a stabilised zero stays away from zero (and -0.0 below it)."""
    return torch.copysign(torch.ones((), dtype=z.dtype, device=z.device), z)


def stabilise(z: Tensor, epsilon: float | Tensor) -> Tensor:
    """``z + epsilon * sign(z)``: never smaller than ``epsilon`` in magnitude (Bach 2015, eq. 58)."""
    return z + torch.copysign(torch.as_tensor(epsilon, dtype=z.dtype, device=z.device), z)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums over tensors of ``dtype`` are taken."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite: by the sum, which only then can be, or else by a look at each."""
    if tensor.is_floating_point() and tensor.numel() and bool(torch.isfinite(tensor.sum())):
        return True
    return bool(torch.isfinite(tensor).all())


def inner(a: Tensor, b: Tensor) -> Tensor:
    """``sum(a * b)`` over broadcast shapes as a 0-d tensor; for complex values ``Re(conj(b) a)``."""
    if a.is_complex() or b.is_complex():
        return (b.conj() * a).real.sum()
    alike = a.shape == b.shape and a.dtype == b.dtype and a.dtype in (torch.float32, torch.float64)
    if alike and a.is_contiguous() and b.is_contiguous():
        return torch.dot(a.view(-1), b.view(-1))
    product = a * b
    return product.sum(dtype=accumulation_dtype(product.dtype))


def reduce_to(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum ``tensor`` over the dimensions along which an operand of ``shape`` was broadcast."""
    return tensor if tensor.shape == torch.Size(shape) else tensor.sum_to_size(tuple(shape))


def near_zero(dtype: torch.dtype) -> float:
    """Below this magnitude the quotient ``(f(x) - f(0)) / x`` loses more digits than ``f'(x/2)`` does."""
    return float(torch.finfo(dtype).eps ** (1 / 3))


def quotient(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The density factor ``(f(x) - f(0)) / x`` of an elementwise function, and ``f(0)``.

    Near zero it is ``f'(x / 2)``, the midpoint of the same slope: in float32 the plain quotient of softplus at
    1e-6 gives 0.477 where the truth is 0.5.

    Args:
        f: elementwise; called with tensors of the shape of ``x``.
        x: any shape, floating.

    Returns:
        The factor, shaped as ``x``, and ``f(0)``, shaped as ``x``. Either may hold non-finite values where f
        has no finite slope or value at zero; the caller decides.
    """
    limit = near_zero(x.dtype)
    small = x.abs() < limit
    at_zero = f(torch.zeros_like(x))
    factor = (f(x) - at_zero) / torch.where(small, torch.ones_like(x), x)
    if bool(small.any()):
        with torch.enable_grad():
            half = (x / 2).detach().requires_grad_()
            (slope,) = torch.autograd.grad(f(half).sum(), half)
        factor = torch.where(small, slope, factor)
    return factor, at_zero
