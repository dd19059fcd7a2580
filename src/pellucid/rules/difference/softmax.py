"""Softmax and its kin: ``exp(x - log sum exp x)``, every exp and log by the rescale rule.

The quotient of exp is a logarithmic mean L. With e = exp(x) and s its sum, ``log s - log s0 = sum_j w_j (x_j - x0_j)``
with ``w_j = L(e_j, e0_j) / L(s, s0)``, and ``y_i - y0_i = L(y_i, y0_i) (x_i - x0_i - (log s - log s0))``. The result is
softmax's derivative with logarithmic means in the place of values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.engine.pair import Both
from pellucid.engine.private import LOG_SOFTMAX, LOG_SUM_EXP, SOFTMAXES
from pellucid.rules.difference.slopes import log_mean

__all__ = ["softmax", "softmax_multiplier"]


def softmax(both: Both, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Softmax, log-softmax and log-sum-exp."""
    density = arrived[0]
    if density is None:
        return [None]
    here = both.records[0]
    x, x0 = both.inputs()
    dims = here.args[1]
    if both.name == LOG_SUM_EXP:
        dims = [dims] if isinstance(dims, int) else list(dims)
        keep = bool(here.args[2]) if len(here.args) > 2 else bool(here.kwargs.get("keepdim", False))
        if not keep:
            for dim in sorted(dim % x.ndim for dim in dims):
                density = density.unsqueeze(dim)
        return [_weights(x, x0, dims) * density]
    if both.name == LOG_SOFTMAX:
        return [density - _weights(x, x0, [dims]) * density.sum(dims, keepdim=True)]
    if both.name not in SOFTMAXES:
        raise both.refuse("it is a softmax of a kind that is not known.")
    return [softmax_multiplier(density, x, x0, dims)]


def softmax_multiplier(arrived: Tensor, x: Tensor, x0: Tensor, dim: int) -> Tensor:
    """What arrives at the input of a softmax.

    Args:
        arrived: shaped as x.
        x: the scores, -inf where masked.
        x0: the same for the baseline.
        dim: that sums to one.
    """
    logs, logs0 = (torch.log_softmax(value, dim) for value in (x, x0))
    inner = log_mean(logs.exp(), logs0.exp(), logs - logs0) * arrived
    return inner - _weights(x, x0, [dim]) * inner.sum(dim, keepdim=True)


def _weights(x: Tensor, x0: Tensor, dims: Sequence[int]) -> Tensor:
    """w: the quotients of log-sum-exp."""
    top = torch.maximum(x, x0).amax(list(dims), keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0)
    x, x0 = x - top, x0 - top
    total, total0 = (torch.logsumexp(value, list(dims), keepdim=True) for value in (x, x0))
    return log_mean(x.exp(), x0.exp(), x - x0) / log_mean(total.exp(), total0.exp(), total - total0)
