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
from pellucid.rules.blocks import Rows, by_sign, keep_above
from pellucid.rules.linear import LinearRule, check_epsilon
from pellucid.rules.maps import LinearMap

__all__ = ["AlphaBeta", "AlphaBetaByDepth", "Gamma", "ZPlus"]


class _Account:
    """What bias and stabiliser took, summed over blocks and booked once."""

    def __init__(self, layer: LinearMap, epsilon: float) -> None:
        self._step = layer.step
        self._epsilon = epsilon
        self._biased = layer.bias is not None
        self._dtype = accumulation_dtype(layer.output.dtype)
        self._bias = torch.zeros((), dtype=self._dtype, device=layer.output.device)
        self._quotients = torch.zeros_like(self._bias)

    def add(self, s: Tensor, held: Tensor | None, *, stabilised: float = 1.0) -> None:
        """A block of quotients s: a bias ``held`` took ``sum s held``, the stabiliser ``stabilised epsilon sum s``."""
        if held is None:
            if stabilised:
                self._quotients += stabilised * s.sum(dtype=self._dtype)
            return
        sums = (s if s.dtype == self._dtype else s.to(self._dtype)).sum_to_size(tuple(held.shape))
        self._bias += (sums * held).sum()
        if stabilised:
            self._quotients += stabilised * sums.sum()

    def close(self) -> None:
        """Write both into the ledger."""
        if self._biased:
            self._step.book("bias", self._bias)
        self._step.book("stabiliser", self._quotients * self._epsilon)


def _noise(dtype: torch.dtype) -> float:
    """The rounding error of half the difference of two maps, as a share of half their sum."""
    return 32 * torch.finfo(dtype).eps


def _is_unsigned(x: Tensor) -> bool:
    return x.numel() > 0 and bool(x.amin() >= 0)


def _number(value: float, like: Tensor) -> Tensor:
    return torch.full((), value, dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class AlphaBeta(LinearRule):
    """LRP-alpha-beta: positive and negative contributions apart, with beta = alpha - 1 (Bach 2015, eq. 60):
    ``R_i = sum_j (alpha z+_ij / z+_j - beta z-_ij / z-_j) R_j``.
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
        density = density.contiguous()
        return self._unsigned(layer, density) if _is_unsigned(layer.x) else self._signed(layer, density)

    def _unsigned(self, layer: LinearMap, density: Tensor) -> Tensor:
        """For a >= 0: no part is a difference, and each takes its own way back."""
        above, below = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        plus = layer.forward(layer.x, above, self._floor(layer, 1))
        account = _Account(layer, self.epsilon)
        minus = layer.forward(layer.x, below, -self._floor(layer, -1)) if self.beta else None
        rows = Rows([layer.output, density, plus, *([] if minus is None else [minus])], layer.bias)
        for (z, arrived, positive, *rest), bias in rows:
            relevance = torch.mul(z, arrived, out=rows.scratch(z))
            for negative in rest:
                torch.div(relevance, negative, out=negative).mul_(self.beta)
                account.add(negative, None if bias is None else -bias.clamp(max=0))
            torch.div(relevance, positive, out=positive)
            if self.alpha != 1:
                positive.mul_(self.alpha)
            account.add(positive, None if bias is None else bias.clamp(min=0))
        account.close()
        result = layer.backward(plus, above)
        return result if minus is None else result.sub_(layer.backward(minus, below))

    def _floor(self, layer: LinearMap, side: int) -> Tensor:
        """What every part of one sign holds without any signal: ``epsilon + |b+|`` or ``epsilon + |b-|``."""
        if layer.bias is None:
            return _number(self.epsilon, layer.output)
        return (layer.bias * side).clamp(min=0) + self.epsilon

    def _signed(self, layer: LinearMap, density: Tensor) -> Tensor:
        """For any signal: with half = |w| |a| / 2, the parts are ``(z - b) / 2 +- half``, plus their share of the bias.

        Each is computed as a sum with the bias taken out, so that it can be told whether it is more than rounding.
        """
        half = layer.forward(layer.x.abs(), layer.weight.abs().div_(2), None if layer.bias is None else -layer.bias / 2)
        account = _Account(layer, self.epsilon)
        crossed = half if self.beta == 0 else layer.step.room(density, half)
        rows = Rows([layer.output, density, half, crossed], layer.bias)
        for (z, arrived, base, out), bias in rows:
            part, test, plus, relevance = (rows.scratch(base, k) for k in range(4))
            torch.mul(z, arrived, out=relevance)
            if self.beta == 0:
                self._quotient(account, base, z, relevance, bias, 1, (part, test, base))
                continue
            self._quotient(account, base, z, relevance, bias, 1, (part, test, plus))
            if bias is not None:
                base.add_(bias)
            self._quotient(account, base, z, relevance, bias, -1, (part, test, base))
            torch.sub(plus, base, out=out)
            base.add_(plus)
        account.close()
        weight = layer.weight / 2
        return by_sign(layer.backward(half, weight), layer.backward(crossed, weight.abs()), layer.x)

    def _quotient(
        self,
        account: _Account,
        base: Tensor,
        z: Tensor,
        relevance: Tensor,
        bias: Tensor | None,
        side: int,
        into: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        """``share R / (part + |b+-| + epsilon)`` for the contributions of one sign, in magnitudes, 0 where it has none.

        Args:
            account: what bias and stabiliser take is written there.
            base: half the sum of all magnitudes, less (side 1) or plus (side -1) half the bias.
            z: output. relevance: that of the output. bias: the bias in it.
            side: 1 for the positive part, -1 for the negative one.
            into: room for the part and for a test; takes the quotients, and may be ``base``.
        """
        part, test, quotient = into
        torch.add(base, z, alpha=side / 2, out=part)
        torch.sub(part, base, alpha=_noise(z.dtype), out=test)
        keep_above(part, test)
        held = None if bias is None else bias.clamp(min=0) if side > 0 else bias.clamp(max=0)
        part.add_(self.epsilon if held is None else held.abs() + self.epsilon)
        torch.div(relevance, part, out=quotient)
        share = self.alpha if side > 0 else self.beta
        if share != 1:
            quotient.mul_(share)
        account.add(quotient, held, stabilised=side)
        keep_above(quotient, test)


@dataclass(frozen=True)
class AlphaBetaByDepth(LinearRule):
    """Alpha-beta with ``beta = (growth^(1/L) - 1) / 2`` for L convolutions, so that depth does not blow it up.

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
    """LRP-gamma in its signed form: contributions of the output's own sign count (1 + gamma) times,
    ``R_i = sum_j (z_ij + gamma z'_ij) / (z_j + gamma z'_j) R_j`` with z' those of z_j's sign (Montavon 2019).

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
        """Below stands ``|z| + gamma part``, and half the sum of all magnitudes with ``|z|`` is the part of z's sign.

        In magnitudes, so that nothing has to be chosen by sign but the side on which a contribution counts.
        """
        unsigned = _is_unsigned(layer.x)
        half, bias = self.gamma / 2, layer.bias
        floor = _number(self.epsilon, layer.output) if bias is None else bias.abs() * half + self.epsilon
        absolute = layer.weight.abs().mul_(half)
        below = layer.forward(layer.x if unsigned else layer.x.abs(), absolute, floor)
        density = density.contiguous()
        crossed = layer.step.room(density, below)
        account = _Account(layer, self.epsilon)
        one_sided = True
        rows = Rows([layer.output, density, below, crossed], bias)
        for (z, arrived, s, out), held in rows:
            magnitude = torch.abs(z, out=rows.scratch(z))
            torch.div(arrived, s.add_(magnitude, alpha=1 + half), out=out)
            torch.mul(magnitude, out, out=s)
            out.mul_(z)
            account.add(s, None if held is None else held * (1 + half), stabilised=0)
            account.add(out, None if held is None else held.abs() * half)
            one_sided = one_sided and unsigned and torch.equal(s, out)
        account.close()
        if unsigned and one_sided:  # every output that matters is positive: one map of w + gamma w+
            return layer.backward(below, layer.weight + self.gamma * layer.weight.clamp(min=0))
        straight, other = layer.backward(below, layer.weight * (1 + half)), layer.backward(crossed, absolute)
        return straight.add_(other) if unsigned else by_sign(straight, other, layer.x)
