"""Rules that treat positive and negative contributions apart: alpha-beta, z+, gamma.

``z+`` and ``z-`` are the positive and negative parts of the output, contribution by contribution. For a signal >= 0 the
sign of a contribution is the weight's and each part is a map of its own. For any other signal they are
``(z0 +- |w| |a|) / 2 + b+-``, where z0 is the output without bias and |w| |a| one extra map; a part below the rounding
error of that difference counts as none, as dividing by it would turn rounding into relevance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.step import Relevance
from pellucid.errors import InputError
from pellucid.rules.blocks import Rows, by_sign
from pellucid.rules.linear import LinearRule, check_epsilon
from pellucid.rules.maps import LinearMap

__all__ = ["AlphaBeta", "AlphaBetaByDepth", "Gamma", "ZPlus"]


class _Account:
    """What bias and stabiliser took, summed over blocks and booked once."""

    def __init__(self, layer: LinearMap, epsilon: float) -> None:
        self._step = layer.step
        self._epsilon = epsilon
        self._dtype = accumulation_dtype(layer.output.dtype)
        self._bias = torch.zeros((), dtype=self._dtype, device=layer.output.device)
        self._quotients = torch.zeros_like(self._bias)

    def add(self, s: Tensor, bias: Tensor | None, side: Tensor | None = None) -> None:
        """A block of quotients s: the bias took ``s * bias``, the stabiliser ``epsilon * side * s``."""
        if bias is not None:
            self._bias += (s * bias).sum(dtype=self._dtype)
        self._quotients += (s if side is None else s * side).sum(dtype=self._dtype)

    def close(self, *, biased: bool) -> None:
        """Write both into the ledger."""
        if biased:
            self._step.book("bias", self._bias)
        self._step.book("stabiliser", self._quotients * self._epsilon)


def _noise(spread: Tensor) -> Tensor:
    """The rounding error of a difference of two maps of this size."""
    return spread * (16 * torch.finfo(spread.dtype).eps)


def _is_unsigned(x: Tensor) -> bool:
    return x.numel() > 0 and bool(x.amin() >= 0)


@dataclass(frozen=True)
class AlphaBeta(LinearRule):
    """LRP-alpha-beta: positive and negative contributions apart (Bach 2015, eq. 60), with beta = alpha - 1.

    ``R_i = alpha z+_ij / z+_j R_j - beta z-_ij / z-_j R_j``.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse pairs that do not conserve, and a stabiliser that stabilises nothing."""
        check_epsilon(self.epsilon)
        if self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-9:
            raise InputError(
                f"Expected alpha - beta = 1 with beta >= 0 (else relevance is not conserved), got alpha={self.alpha}, "
                f"beta={self.beta}. For example AlphaBeta(2, 1) or AlphaBeta(1, 0)."
            )

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        return self._unsigned(layer, density) if _is_unsigned(layer.x) else self._signed(layer, density)

    def _unsigned(self, layer: LinearMap, density: Tensor) -> Tensor:
        """For a >= 0: no part is a difference, and each takes its own way back."""
        above = layer.weight.clamp(min=0)
        plus = layer.forward(layer.x, above)
        below = layer.weight.clamp(max=0) if self.beta else None
        minus = None if below is None else layer.forward(layer.x, below)
        account = _Account(layer, self.epsilon)
        for (z, arrived, positive, *rest), bias in Rows(
            [layer.output, density.contiguous(), plus, *([] if minus is None else [minus])], layer.bias
        ):
            relevance = z * arrived
            self._quotient(account, relevance * self.alpha, positive, bias, 1)
            for negative in rest:
                self._quotient(account, relevance.mul_(self.beta), negative, bias, -1)
        account.close(biased=layer.bias is not None)
        result = layer.backward(plus, above)
        return result if minus is None or below is None else result.sub_(layer.backward(minus, below))

    def _quotient(self, account: _Account, share: Tensor, part: Tensor, bias: Tensor | None, side: int) -> None:
        """``share / part``, stabilised, written into ``part``."""
        held = None if bias is None else bias.clamp(min=0) if side > 0 else bias.clamp(max=0)
        if held is not None:
            part.add_(held)
        torch.div(share, part.add_(side * self.epsilon), out=part)
        account.add(part, None if held is None else side * held)

    def _signed(self, layer: LinearMap, density: Tensor) -> Tensor:
        """For any signal: two maps of both parts together."""
        absolute = layer.weight.abs()
        spread = layer.forward(layer.x.abs(), absolute)
        crossed = spread if self.beta == 0 else torch.empty_like(spread)
        account = _Account(layer, self.epsilon)
        for (z, arrived, size, out), bias in Rows([layer.output, density.contiguous(), spread, crossed], layer.bias):
            relevance = z * arrived
            bare = z if bias is None else z - bias
            plus = self._part(account, relevance * self.alpha, bare, size, bias, 1)
            if self.beta == 0:
                out.copy_(plus)
                continue
            minus = self._part(account, relevance.mul_(self.beta), bare, size, bias, -1)
            torch.add(plus, minus, out=out)
            torch.sub(plus, minus, out=size)
        account.close(biased=layer.bias is not None)
        straight = layer.backward(spread, layer.weight)
        return by_sign(straight, layer.backward(crossed, absolute), layer.x, 1.0).div_(2)

    def _part(
        self, account: _Account, share: Tensor, bare: Tensor, spread: Tensor, bias: Tensor | None, side: int
    ) -> Tensor:
        """``share / z+`` (side 1) or ``share / z-`` (side -1); 0 where that part has no contributions."""
        part = torch.add(bare, spread, alpha=side).div_(2)
        none = (part if side > 0 else -part) <= _noise(spread)
        part.masked_fill_(none, 0)
        self._quotient(account, share, part, bias, side)
        return part.masked_fill_(none, 0)


@dataclass(frozen=True)
class AlphaBetaByDepth(LinearRule):
    """Alpha-beta whose beta shrinks with the number of convolutions walked, so that depth does not blow it up.

    A layer can multiply the sum of |relevance| by alpha + beta = 1 + 2 beta; with
    ``beta = (growth ** (1 / L) - 1) / 2`` for L convolutions the whole net stays below ``growth``. Found on tasks with
    a known answer: a fixed beta is too strong for deep nets and too weak for shallow ones.
    """

    growth: float = 40.0
    epsilon: float = 1e-6

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        count = max(layer.step.walk.plan.convolutions, 1)
        beta = min(1.0, (self.growth ** (1 / count) - 1) / 2)
        return AlphaBeta(1 + beta, beta, self.epsilon).propagate(layer, density)


def ZPlus(epsilon: float = 1e-6) -> AlphaBeta:  # noqa: N802  (a rule's name, used as one)
    """The z+ rule: positive contributions only (Montavon 2017), which is alpha-beta with alpha = 1, beta = 0."""
    return AlphaBeta(1.0, 0.0, epsilon)


@dataclass(frozen=True)
class Gamma(LinearRule):
    """LRP-gamma in its signed form: contributions of the output's own sign count (1 + gamma) times.

    Montavon 2019 (eq. 13) for positive signals and outputs; Andeol 2021 for any sign: ``z + gamma z+`` below where
    z >= 0, ``z + gamma z-`` where z < 0.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse a stabiliser that stabilises nothing, and a negative gamma."""
        check_epsilon(self.epsilon)
        if not self.gamma >= 0:
            raise InputError(f"Expected gamma >= 0, got {self.gamma}.")

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        absolute = layer.weight.abs()
        unsigned = _is_unsigned(layer.x)
        spread = layer.forward(layer.x if unsigned else layer.x.abs(), absolute)
        crossed = torch.empty_like(spread)
        account = _Account(layer, self.epsilon)
        one_sided, one = True, torch.ones((), dtype=spread.dtype, device=spread.device)
        for (z, arrived, size, out), bias in Rows([layer.output, density.contiguous(), spread, crossed], layer.bias):
            # All in magnitudes: with side = sign(z), the part of z's own sign is side * own.
            side = torch.copysign(one, z)
            own = torch.addcmul(size, side, z if bias is None else z - bias).div_(2)
            own.masked_fill_(own <= _noise(size), 0)
            held = None
            if bias is not None:
                held = (side * bias).add_(bias.abs()).div_(2)
                own.add_(held)
            magnitude = z.abs()
            below = torch.add(magnitude, own, alpha=self.gamma).add_(self.epsilon)
            torch.div(magnitude.mul_(arrived), below, out=size)
            torch.mul(size, side, out=out)
            account.add(
                size, None if held is None or bias is None else held.mul_(side).mul_(self.gamma).add_(bias), side
            )
            one_sided = one_sided and unsigned and torch.equal(size, out)
        account.close(biased=layer.bias is not None)
        if unsigned and one_sided:  # every output that matters is positive: one map of w + gamma w+
            return layer.backward(spread, layer.weight + self.gamma * layer.weight.clamp(min=0))
        straight = layer.backward(spread, layer.weight).mul_(1 + self.gamma / 2)
        return by_sign(straight, layer.backward(crossed, absolute), layer.x, self.gamma / 2)
