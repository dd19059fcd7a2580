"""Arithmetic, comparisons and products."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor


def add_all(*terms: Tensor) -> Tensor:
    """The sum of any number of tensors."""
    return reduce(torch.add, terms)


def mean_all(*terms: Tensor) -> Tensor:
    """The mean of any number of tensors."""
    return reduce(torch.add, terms) / len(terms)


def max_all(*terms: Tensor) -> Tensor:
    """The largest of any number of tensors, element by element."""
    return reduce(torch.maximum, terms)


def min_all(*terms: Tensor) -> Tensor:
    """The smallest of any number of tensors, element by element."""
    return reduce(torch.minimum, terms)


def add_scalar(x: Tensor, scalar: float) -> Tensor:
    """``x + scalar``."""
    return x + scalar


def subtract_scalar(x: Tensor, scalar: float) -> Tensor:
    """``x - scalar``."""
    return x - scalar


def at_least(x: Tensor, scalar: float) -> Tensor:
    """The larger of ``x`` and ``scalar``."""
    return x.clamp(min=scalar)


def at_most(x: Tensor, scalar: float) -> Tensor:
    """The smaller of ``x`` and ``scalar``."""
    return x.clamp(max=scalar)


def hypotenuse(x: Tensor, scalar: float) -> Tensor:
    """``sqrt(x**2 + scalar**2)``."""
    return (x * x + scalar**2).sqrt()


def quadratic(x: Tensor, a: float, b: float, c: float) -> Tensor:
    """``a * x**2 + b * x + c``."""
    return a * x * x + b * x + c


def gamma(x: Tensor) -> Tensor:
    """Euler's gamma function of positive and negative numbers."""
    positive = x > 0
    # Each branch sees harmless values where the other one counts, so that no gradient is NaN times 0.
    above, below = torch.where(positive, x, 1.0), torch.where(positive, -0.5, x)
    reflected = torch.pi / (torch.sin(torch.pi * below) * torch.lgamma(1 - below).exp())
    return torch.where(positive, torch.lgamma(above).exp(), reflected)


def subtract_from(x: Tensor, scalar: float) -> Tensor:
    """``scalar - x``."""
    return scalar - x


def multiply_scalar(x: Tensor, scalar: float) -> Tensor:
    """``x * scalar``."""
    return x * scalar


def divide_by(x: Tensor, scalar: float) -> Tensor:
    """``x / scalar``."""
    return x / scalar


def divide_scalar(x: Tensor, scalar: float) -> Tensor:
    """``scalar / x``."""
    return scalar / x


def to_power(x: Tensor, scalar: float) -> Tensor:
    """``x ** scalar``."""
    return x**scalar


def power_of(x: Tensor, scalar: float) -> Tensor:
    """``scalar ** x``."""
    result: Tensor = scalar**x
    return result


def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """``x`` limited to ``low..high``."""
    return x.clamp(low, high)


def remainder(x: Tensor, y: Tensor) -> Tensor:
    """The remainder with the sign of the divisor; 0 where the divisor is 0."""
    return torch.remainder(x, y).masked_fill(y == 0, 0)


def remainder_scalar(x: Tensor, scalar: float) -> Tensor:
    """The remainder of ``x`` by a number; see :func:`remainder`."""
    return torch.remainder(x, scalar) if scalar else torch.zeros_like(x)


def remainder_of(x: Tensor, scalar: float) -> Tensor:
    """The remainder of a number by ``x``; see :func:`remainder`."""
    return remainder(torch.full_like(x, scalar), x)


def compared(x: Tensor, y: Tensor, relation: Callable[[Tensor, Any], Tensor]) -> Tensor:
    """A comparison as numbers of the type of ``x``: 1 where it holds, else 0."""
    return relation(x, y).to(x.dtype)


def compared_scalar(x: Tensor, scalar: float, relation: Callable[[Tensor, Any], Tensor]) -> Tensor:
    """A comparison with a number; see :func:`compared`."""
    return relation(x, scalar).to(x.dtype)


def logical(x: Tensor, y: Tensor, relation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A logical relation as numbers of the type of ``x``; what is not 0 counts as true."""
    return relation(x, y).to(x.dtype)


def logical_scalar(x: Tensor, scalar: float, relation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A logical relation with a number; see :func:`logical`."""
    return logical(x, torch.full_like(x, scalar), relation)


def logical_not(x: Tensor) -> Tensor:
    """1 where ``x`` is 0, else 0, in the type of ``x``."""
    return x.eq(0).to(x.dtype)


def round_away(x: Tensor) -> Tensor:
    """To the nearest whole number, halves away from zero."""
    return x.sign() * (x.abs() + 0.5).floor()


def round_down(x: Tensor) -> Tensor:
    """To the nearest whole number, halves down."""
    return (x - 0.5).ceil()


def cube_root(x: Tensor) -> Tensor:
    """The real cube root."""
    return x.sign() * x.abs().pow(1 / 3)


def inverse_cube_root(x: Tensor) -> Tensor:
    """One over the real cube root."""
    return 1 / cube_root(x)


def smooth_l1(x: Tensor, scalar: float = 1.0) -> Tensor:
    """Quadratic for ``|x| < 1 / scalar**2``, linear beyond."""
    square = scalar**2
    return torch.where(x.abs() < 1 / square, 0.5 * square * x * x, x.abs() - 0.5 / square)


def matmul(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False, alpha: float = 1.0) -> Tensor:
    """The (batched) matrix product of the last two axes, times ``alpha``."""
    product = (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)
    return product if alpha == 1.0 else product * alpha


def dot(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    """Sum over the last axis of ``a`` and the first of ``b``; ``transpose`` takes the other end axis."""
    if transpose_a and a.ndim > 1:
        a = a.movedim(0, -1)
    if transpose_b and b.ndim > 1:
        b = b.movedim(-1, 0)
    product: Tensor = a @ b if max(a.ndim, b.ndim) <= 2 else torch.tensordot(a, b, dims=1)
    return product


def dot_np(a: Tensor, b: Tensor) -> Tensor:
    """numpy's ``dot``: the last axis of ``a`` with the last but one of ``b``."""
    if not a.ndim or not b.ndim:
        return a * b
    if max(a.ndim, b.ndim) <= 2:
        return a @ b
    product: Tensor = torch.tensordot(a, b, dims=([a.ndim - 1], [max(b.ndim - 2, 0)]))
    return product


def einsum(*operands: Tensor, equation: str) -> Tensor:
    """Einstein's sum."""
    result: Tensor = torch.einsum(equation, *operands)
    return result


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Tensor:
    """``alpha * a @ b + beta * c``."""
    product = matmul(a, b, transpose_a, transpose_b, alpha)
    if c is None or beta == 0.0:
        return product
    return product + (c if beta == 1.0 else beta * c)
