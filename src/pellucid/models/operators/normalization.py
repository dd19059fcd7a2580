"""Norms without a torch layer of their own."""

from __future__ import annotations

import torch
from torch import Tensor


def l2_normalize(x: Tensor, axes: str = "instance", eps: float = 1e-10) -> Tensor:
    """``x`` over its length: of a whole sample (``instance``), on axis 1 (``channel``), of a map (``spatial``)."""
    dims = {"instance": tuple(range(1, x.ndim)), "channel": (1,), "spatial": tuple(range(2, x.ndim))}[axes]
    return x / ((x * x).sum(dims, keepdim=True) + eps).sqrt()


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Group norm whose scale and shift hold one number a group."""
    each = x.shape[1] // groups
    return torch.group_norm(x, groups, weight.repeat_interleave(each), bias.repeat_interleave(each), eps)


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Batch norm with given statistics along axis 1, all of them live."""
    shape = (1, -1, *(1,) * (x.ndim - 2))
    scale = weight * (var + eps).rsqrt()
    return x * scale.reshape(shape) + (bias - mean * scale).reshape(shape)


def inverse_deviation(x: Tensor, var: Tensor, eps: float) -> Tensor:
    """``1 / sqrt(var + eps)``: what MXNet's batch norm gives as its third output."""
    return (var + eps).rsqrt().to(x.dtype)


def moments(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance over axes."""
    var, mean = torch.var_mean(x, axes or None, correction=0, keepdim=keepdim)
    return mean, var
