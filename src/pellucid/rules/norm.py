"""Normalisation layers: the statistics are coefficients, centring and scaling are linear (Ali 2022, eq. 8).

Writing s = 1 / sigma: the density at the input is ``g - mean(g)`` with ``g = G * weight * s``, taken over what the
statistics were taken over; what mean and bias brought is booked. Batch-norm in evaluation mode has fixed statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.engine.numerics import inner
from pellucid.engine.step import Relevance, Step
from pellucid.rules.blocks import rows_per_block

__all__ = ["batch_norm", "batch_norm_affine", "group_norm", "layer_norm", "rms_norm"]


def batch_norm_affine(step: Step) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel of a batch-norm with fixed statistics: ``y = x * scale + shift``, shapes (C,)."""
    record = step.record
    assert record is not None
    weight, bias = record.args[1:3]
    mean, variance = step.field("running_mean"), step.field("running_var")
    scale: Tensor = torch.rsqrt(variance + float(step.field("eps")))
    if isinstance(weight, Tensor):
        scale = scale * weight.detach()
    shift = -mean * scale
    if isinstance(bias, Tensor):
        shift = shift + bias.detach()
    return scale, shift


def batch_norm(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Batch norm: ``G_x = G w / sigma`` with fixed statistics, and the shift is booked.

    On statistics of the batch (instance norm) these are frozen, as in layer norm.
    """
    density = densities[0]
    assert density is not None
    record = step.record
    assert record is not None
    shape = (1, -1, *[1] * (density.ndim - 2))
    dims = [d for d in range(density.ndim) if d != 1]
    if not step.field("training"):
        scale, shift = batch_norm_affine(step)
        step.book("bias", (density.sum(dims) * shift).sum())
        return [density * scale.to(density.dtype).view(shape), None, None]
    weight, bias = record.args[1], record.args[2]
    scale = step.field("result2")
    if isinstance(weight, Tensor):
        scale = scale * weight.detach()
    if isinstance(bias, Tensor):
        step.book("bias", (density.sum(dims) * bias.detach()).sum())
    scaled = density * scale.to(density.dtype).view(shape)
    return [scaled - scaled.mean(dims, keepdim=True), None, None]


def layer_norm(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Layer norm with frozen statistics: ``G_x = g - mean(g)``, ``g = G w / sigma``; the bias is booked (Ali 2022)."""
    density, record = densities[0], step.record
    assert density is not None
    assert record is not None
    _, normalized, weight, bias = record.args[:4]
    if isinstance(bias, Tensor):
        step.book("bias", inner(density.sum_to_size(tuple(bias.shape)), bias.detach()))
    message = torch.empty_like(density, memory_format=torch.contiguous_format)
    width = math.prod(normalized)
    tables = [density.reshape(-1, width), step.field("result2").reshape(-1, 1), message.view(-1, width)]
    scale = weight.detach().reshape(1, width) if isinstance(weight, Tensor) else None
    rows = rows_per_block(density, width)
    for arrived, deviation, out in zip(*(table.split(rows) for table in tables), strict=True):
        scaled = arrived * deviation
        if scale is not None:
            scaled = scaled * scale if scaled.dtype != scale.dtype else scaled.mul_(scale)
        out.copy_(scaled.sub_(scaled.mean(1, keepdim=True)))
    return [message, None, None]


def group_norm(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Group norm with frozen statistics, as layer norm, over the channels of a group and all positions (Ali 2022)."""
    density, record = densities[0], step.record
    assert density is not None
    assert record is not None
    weight, bias = record.args[1], record.args[2]
    groups = int(step.field("group"))
    samples = density.shape[0]
    shape = (1, -1, *[1] * (density.ndim - 2))
    if isinstance(bias, Tensor):
        step.book("bias", inner(bias.detach().view(shape).expand(density.shape), density))
    scaled = density * weight.detach().view(shape) if isinstance(weight, Tensor) else density
    grouped = scaled.reshape(samples, groups, -1) * step.field("result2").view(samples, groups, 1)
    return [(grouped - grouped.mean(2, keepdim=True)).to(density.dtype).view_as(density), None, None]


def rms_norm(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """RMS norm with a frozen root mean square: ``G_x = G w / rms(x)``; nothing is centred (Ali 2022)."""
    density, record = densities[0], step.record
    assert density is not None
    assert record is not None
    weight = record.args[2] if len(record.args) > 2 else None
    scaled = density * step.field("result1")
    if isinstance(weight, Tensor):
        scaled = scaled * weight.detach()
    return [scaled.to(density.dtype), *[None] * (len(step.live) - 1)]
