"""Softmax and fused attention.

AttnLRP (Achtibat 2024): the product of attention and values shares half and half, so does query times key; softmax is
its first-order Taylor expansion, whose remainder is booked. Through the fused kernel that is the kernel's own backward
with dV / 2, dQ / 4, dK / 4. CP-LRP (Ali 2022): softmax results are coefficients, so values take all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.engine.numerics import inner
from pellucid.engine.private import LOG_SOFTMAX, LOG_SUM_EXP, field, saved
from pellucid.engine.step import Relevance, Step
from pellucid.errors import ModelError

__all__ = ["Gate", "Taylor", "fused_attention"]


@dataclass(frozen=True)
class Taylor:
    """Softmax and its kin by their first-order Taylor expansion: ``G_x = sum_j G_j ds_j/dx`` (Achtibat 2024, eq. 13).

    What the expansion leaves over, ``sum f(x) G - sum x dx``, is booked as "softmax" over the finite inputs.
    """

    def __call__(self, step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
        """See the class."""
        density = densities[0]
        assert density is not None
        messages = step.native([density])
        incoming = messages[0]
        assert incoming is not None
        result = saved(step.node, "result")
        if result is None:
            raise ModelError(f"The result of {step.describe()} was changed in place and cannot be read.")
        step.book("softmax", inner(result, density) - inner(_input_up_to_shift(step, result), incoming))
        return list(step.keep_live(messages))


@dataclass(frozen=True)
class Gate:
    """Softmax results are coefficients: no relevance enters where they scale a signal (Ali 2022).

    Where a softmax is a path of its own, there is no signal to take its share, and its Taylor expansion is used.
    """

    def __call__(self, step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
        """See the class."""
        return Taylor()(step, densities)


def _input_up_to_shift(step: Step, result: Tensor) -> Tensor:
    """The input, or the input plus a number per row: what arrives sums to zero over a row, so a shift does not count.

    Masked inputs of -inf have density 0 and count as 0.
    """
    name = step.walk.graph.names[step.index]
    if name == LOG_SOFTMAX:
        x = result
    elif name == LOG_SUM_EXP:
        x = step.operand(0)
    else:
        x = torch.where(result > 0, result, 1).log()
    return torch.where(torch.isfinite(x), x, 0)


def fused_attention(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """Attention in one node: the kernel's own backward with ``dV / 2``, ``dQ / 4``, ``dK / 4`` (Achtibat 2024).

    No L x L matrix is made. What softmax and mask keep is booked. Where attention is a coefficient (Ali 2022), the
    values take all.
    """
    density = densities[0]
    record = step.record
    assert density is not None
    if record is None:
        raise ModelError(f"{step.describe()} ran where it could not be observed.")
    dropout = field(step.node, "dropout_p", 0.0)
    if dropout:
        raise ModelError(f"{step.describe()} drops attention at random (p = {dropout}). Call model.eval() first.")
    query, key, value = step.live[0], step.live[1], step.live[2]
    messages = step.native([density, *[None] * (step.walk.graph.outputs(step.index) - 1)])
    if not (query or key):
        return list(step.keep_live(messages))
    halves = (0.5 if value else 1.0) * (0.5 if query and key else 1.0)
    out: list[Tensor | Relevance | None] = [None] * len(step.live)
    arrived = _arrived(step, density)
    walked_on = torch.zeros(
        (), dtype=torch.float64 if density.dtype == torch.float64 else torch.float32, device=density.device
    )
    for k, share in ((0, halves), (1, halves), (2, 0.5)):
        message = messages[k]
        if step.live[k] and message is not None:
            scaled = message.mul_(share)
            out[k] = scaled
            walked_on = walked_on + inner(step.operand(k), scaled)
    step.book("softmax and mask", arrived - walked_on)
    return out


def _arrived(step: Step, density: Tensor) -> Tensor:
    """Relevance of the result, ``sum output * G``."""
    result = saved(step.node, "output")
    if result is None:
        raise ModelError(f"The result of {step.describe()} cannot be read.")
    return inner(result, density)
