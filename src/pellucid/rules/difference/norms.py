"""Norms taken apart: centring is linear, variance by two equal factors, its root by the rescale rule, and the quotient
of the centred signal c and the deviation d as a quotient of two signals (see ``quotients``).

With y = c / d: ``m_c = 2 m / (d + d0) - (c + c0) / n * 2 / (d + d0)^2 * sum m (y + y0) / 2``. Nothing is divided by a
difference, nor by the deviation of one run alone, which for a baseline of zeros is next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.pair import Both
from pellucid.rules.norm import batch_norm_affine

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]


def layer_norm(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Layer norm over the last dimensions."""
    _, shape, weight, _, eps = both.records[0].args[:5]
    width = math.prod(shape)
    scale = weight.reshape(1, width) if isinstance(weight, Tensor) else None
    return _normalised(both, arrived[0], (-1, width), scale, float(eps))


def group_norm(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Group norm over the channels of a group and all positions."""
    _, weight, _, samples, channels, positions, groups, eps = both.records[0].args[:8]
    scale = None
    if isinstance(weight, Tensor):
        scale = weight.reshape(1, channels, 1).expand(samples, channels, positions).reshape(samples * groups, -1)
    return _normalised(both, arrived[0], (samples * groups, -1), scale, float(eps))


def batch_norm(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Batch-norm: linear with fixed statistics; with those of the batch, as instance norm has, taken apart.

    The native backward of torch 2.14 is wrong for one sample whose gradient has the strides of a transposed view.
    """
    density = arrived[0]
    if density is None:
        return [None] * len(both.live)
    record = both.records[0]
    if not both.here.field("training"):
        factor = batch_norm_affine(both.here)[0].to(density.dtype)
        return [density * factor.view(-1, *[1] * (density.ndim - 2)), *[None] * (len(both.live) - 1)]
    weight, eps = record.args[1], record.args[-1]
    x, x0 = both.here.operand(0), both.there.operand(0)
    scale = weight.reshape(-1, 1) if isinstance(weight, Tensor) else None
    m, c, c0 = (value.transpose(0, 1).reshape(x.shape[1], -1) for value in (density, x, x0))
    message = _multiplier(m, c, c0, scale, float(eps), centred=True)
    back = message.view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)
    return [back, *[None] * (len(both.live) - 1)]


def rms_norm(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """RMS norm: nothing is centred."""
    args, _ = both.records[0].arguments()
    x, shape = args[:2]
    width = math.prod(shape)
    weight = args[2] if len(args) > 2 else None
    eps = args[3] if len(args) > 3 and args[3] is not None else torch.finfo(x.dtype).eps
    scale = weight.reshape(1, width) if isinstance(weight, Tensor) else None
    return _normalised(both, arrived[0], (-1, width), scale, float(eps), centred=False)


def _normalised(
    both: Both,
    density: Tensor | None,
    rows: tuple[int, int],
    scale: Tensor | None,
    eps: float,
    *,
    centred: bool = True,
) -> list[Tensor | None]:
    messages: list[Tensor | None] = [None] * len(both.live)
    if density is None:
        return messages
    if sum(both.live) != 1 or not both.live[0]:
        raise both.refuse("its scale or shift is behind the input.")
    x, x0 = both.inputs()
    m, c, c0 = (value.reshape(rows) for value in (density, x, x0))
    messages[0] = _multiplier(m, c, c0, scale, eps, centred=centred).reshape(x.shape)
    return messages


def _multiplier(arrived: Tensor, x: Tensor, x0: Tensor, scale: Tensor | None, eps: float, *, centred: bool) -> Tensor:
    """What arrives at rows that are normalised one by one: all (rows, width)."""
    dtype = accumulation_dtype(x.dtype)
    m, c, c0 = (value.to(dtype) for value in (arrived, x, x0))
    if centred:
        c, c0 = c - c.mean(1, keepdim=True), c0 - c0.mean(1, keepdim=True)
    if scale is not None:
        m = m * scale.to(dtype)
    d, d0 = ((value.square().mean(1, keepdim=True) + eps).sqrt() for value in (c, c0))
    share = 2 / (d + d0)
    results = (m * (c / d + c0 / d0)).sum(1, keepdim=True)
    message = share * (m - (c + c0) * (share / (2 * x.shape[1]) * results / 2))
    if centred:
        message = message - message.mean(1, keepdim=True)
    return message.to(arrived.dtype)
