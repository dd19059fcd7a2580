"""Rules for linear maps with weights, in density form.

Notation: signal a, weight w, bias b, output z = sum a w + b, relevance R = z G of the output, quotient s = R /
denominator.
``z+`` and ``z-`` are the positive and negative parts of z, contribution by contribution; with |.| elementwise they are
``(z0 +- |w| |a|) / 2 + b+-`` for any sign of a, where z0 is z without the bias, so that two maps suffice. A rule
returns
the density at a, without dividing by a; rules that do not look at a return relevance itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.engine.numerics import inner, sign, stabilise
from pellucid.engine.step import Relevance, Step
from pellucid.errors import InputError
from pellucid.rules.maps import LinearMap, linear_map

__all__ = [
    "AlphaBeta",
    "AlphaBetaByDepth",
    "Box",
    "Epsilon",
    "Flat",
    "Gamma",
    "LinearRule",
    "Pass",
    "WSquare",
    "ZPlus",
    "Zero",
]


def _check_epsilon(epsilon: float) -> None:
    if not epsilon > 0:
        raise InputError(
            "Expected a stabiliser epsilon > 0 (at an output of exactly zero nothing else keeps the quotient "
            "finite), got "
            f"{epsilon}. For no stabiliser use the rule Zero."
        )


class LinearRule(ABC):
    """A rule for linear maps; ``folds`` says whether a batch-norm that follows is merged into the map first."""

    folds = True

    def __call__(self, step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
        """Density (or relevance) at the signal; nothing for weights and bias."""
        density = densities[0]
        assert density is not None
        layer = linear_map(step)
        return layer.messages(density, self.propagate(layer, density))

    @abstractmethod
    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """What arrives at the signal when ``density`` arrives at the output."""


@dataclass(frozen=True)
class Zero(LinearRule):
    """LRP-0: shares proportional to the contributions, ``R_i = sum_j a_i w_ij / z_j R_j`` (Bach 2015, eq. 56)."""

    folds = False

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        layer.book_bias(density)
        return layer.backward(density, layer.weight)


@dataclass(frozen=True)
class Epsilon(LinearRule):
    """LRP-epsilon: as LRP-0 with ``z + epsilon sign(z)`` below (Bach 2015, eq. 58).

    Args:
        epsilon: absolute, in units of z; larger values absorb weak and contradictory relevance.
        relative: epsilon is instead a share of the standard deviation of z over each sample.
    """

    epsilon: float = 1e-6
    relative: bool = False

    def __post_init__(self) -> None:
        """Refuse a stabiliser that stabilises nothing."""
        _check_epsilon(self.epsilon)

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        z = layer.output
        epsilon: float | Tensor = self.epsilon
        if self.relative:
            epsilon = self.epsilon * z.std(list(range(1, z.ndim)), keepdim=True, correction=0)
        # z / (|z| + epsilon), used twice: its magnitude scales the density, and with the density it sums to what the
        # stabiliser takes, epsilon sum s sign(z). In place, as these passes over memory are what the rule costs.
        signed = torch.div(z, z.abs().add_(epsilon))
        if isinstance(epsilon, Tensor):
            layer.step.book("stabiliser", inner(signed * epsilon, density))
        else:
            layer.step.book("stabiliser", inner(signed, density) * epsilon)
        s = signed.abs_().mul_(density)
        layer.book_bias(s)
        return layer.backward(s, layer.weight)


@dataclass(frozen=True)
class _Parts:
    """The output by sign of the contributions."""

    z: Tensor
    positive: Tensor
    """z+, with the bias where it is positive."""
    negative: Tensor
    """z-, with the bias where it is negative."""
    lacks_positive: Tensor
    """Where no contribution is positive, up to rounding."""
    lacks_negative: Tensor
    absolute: Tensor
    """|w|."""


def _parts(layer: LinearMap) -> _Parts:
    """Split the output in its positive and negative part, with one extra map.

    A part below the rounding error of the two maps that it is the difference of counts as none: dividing by it would
    turn rounding into relevance.
    """
    z = layer.output
    absolute = layer.weight.abs()
    spread = layer.forward(layer.x.abs(), absolute)
    bias = layer.bias
    bare = z if bias is None else z - bias
    positive, negative = (bare + spread).div_(2), (bare - spread).div_(2)
    noise = spread.mul_(16 * torch.finfo(spread.dtype).eps)
    lacks_positive, lacks_negative = positive <= noise, negative >= -noise
    positive.masked_fill_(lacks_positive, 0)
    negative.masked_fill_(lacks_negative, 0)
    if bias is not None:
        positive.add_(bias.clamp(min=0))
        negative.add_(bias.clamp(max=0))
    return _Parts(z, positive, negative, lacks_positive, lacks_negative, absolute)


def _bias_parts(layer: LinearMap) -> tuple[Tensor, Tensor] | None:
    return None if layer.bias is None else (layer.bias.clamp(min=0), layer.bias.clamp(max=0))


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
        _check_epsilon(self.epsilon)
        if self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-9:
            raise InputError(
                f"Expected alpha - beta = 1 with beta >= 0 (else relevance is not conserved), got alpha={self.alpha}, "
                f"beta={self.beta}. For example AlphaBeta(2, 1) or AlphaBeta(1, 0)."
            )

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        if bool((layer.x >= 0).all()):
            return self._unsigned(layer, density)
        parts = _parts(layer)
        plus, minus = self._quotients(layer, parts.z * density, parts.positive, parts.negative)
        plus.masked_fill_(parts.lacks_positive, 0)
        minus.masked_fill_(parts.lacks_negative, 0)
        return _two_maps(layer, parts.absolute, plus - minus, plus.add_(minus))

    def _quotients(
        self, layer: LinearMap, relevance: Tensor, positive: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``alpha R / z+`` and ``beta R / z-``, stabilised, with what bias and stabiliser took booked."""
        plus = (self.alpha * relevance).div_(positive.add_(self.epsilon))
        minus = relevance.mul_(self.beta).div_(negative.sub_(self.epsilon))
        biases = _bias_parts(layer)
        if biases is not None:
            layer.book_bias(plus, biases[0])
            layer.book_bias(minus, -biases[1])
        layer.step.book("stabiliser", self.epsilon * (plus.sum() + minus.sum()))
        return plus, minus

    def _unsigned(self, layer: LinearMap, density: Tensor) -> Tensor:
        """The same for a >= 0, where the sign of a contribution is the weight's: no part is a difference."""
        above, below = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        biases = _bias_parts(layer)
        positive = layer.forward(layer.x, above)
        if biases is not None:
            positive = positive.add_(biases[0])
        relevance = layer.output * density
        if self.beta == 0:
            s = relevance.div_(positive.add_(self.epsilon))
            if biases is not None:
                layer.book_bias(s, biases[0])
            layer.step.book("stabiliser", self.epsilon * s.sum())
            return layer.backward(s, above)
        negative = layer.forward(layer.x, below)
        if biases is not None:
            negative = negative.add_(biases[1])
        plus, minus = self._quotients(layer, relevance, positive, negative)
        return layer.backward(plus, above).sub_(layer.backward(minus, below))


@dataclass(frozen=True)
class AlphaBetaByDepth(LinearRule):
    """Alpha-beta whose beta shrinks with the number of convolutions walked, so that depth does not blow it up.

    A layer can multiply the sum of |relevance| by alpha + beta = 1 + 2 beta; with
    ``beta = (growth ** (1 / L) - 1) / 2`` for L convolutions the whole net stays below ``growth``. Found on tasks
    with a known
    answer (docs: why, "The default rules"): a fixed beta is too strong for deep nets and too weak for shallow ones.
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


def _two_maps(layer: LinearMap, absolute: Tensor, straight: Tensor, crossed: Tensor) -> Tensor:
    """``1/2 [w^T straight + sign(a) |w|^T crossed]``."""
    return (layer.backward(straight, layer.weight) + torch.sign(layer.x) * layer.backward(crossed, absolute)).div_(2)


@dataclass(frozen=True)
class Gamma(LinearRule):
    """LRP-gamma in its signed form: contributions of the output's own sign count (1 + gamma) times.

    Montavon 2019 (eq. 13) for positive signals and outputs; Andeol 2021 for any sign: ``z + gamma z+`` below where
    z >= 0, ``z + gamma z-`` where z < 0.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse a stabiliser that stabilises nothing."""
        _check_epsilon(self.epsilon)
        if not self.gamma >= 0:
            raise InputError(f"Expected gamma >= 0, got {self.gamma}.")

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        parts = _parts(layer)
        z, absolute = parts.z, parts.absolute
        upper = z >= 0
        base = z + self.gamma * torch.where(upper, parts.positive, parts.negative)
        s = z * density / torch.where(upper, base + self.epsilon, base - self.epsilon)
        side = torch.where(upper, 1.0, -1.0).to(s.dtype)
        if layer.bias is not None:
            above, below = torch.where(upper, s, 0), torch.where(upper, 0, s)
            layer.book_bias(above, layer.bias + self.gamma * layer.bias.clamp(min=0))
            layer.book_bias(below, layer.bias + self.gamma * layer.bias.clamp(max=0))
        layer.step.book("stabiliser", self.epsilon * inner(s, side))
        straight = layer.backward(s * (1 + self.gamma / 2), layer.weight)
        crossed = torch.sign(layer.x) * layer.backward(s * side, absolute)
        return straight.add_(crossed, alpha=self.gamma / 2)


@dataclass(frozen=True)
class Box(LinearRule):
    """zB for inputs between ``low`` and ``high``, as pixels are (Montavon 2017): ``a w - low w+ - high w-``.

    The bias is left out, as in the source.

    Args:
        low: lowest possible input, a number or a tensor that broadcasts to the input, in the input's own units.
        high: highest possible input, likewise.
        epsilon: stabiliser of the denominator.
    """

    low: float | Tensor = -1.0
    high: float | Tensor = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse a stabiliser that stabilises nothing."""
        _check_epsilon(self.epsilon)
        if bool((torch.as_tensor(self.low) > torch.as_tensor(self.high)).any()):
            raise InputError(f"Expected Box(low, high) with low <= high, got low={self.low}, high={self.high}.")

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        x, weight = layer.x, layer.weight
        low, high = (_bound(bound, x, layer) for bound in (self.low, self.high))
        above, below = weight.clamp(min=0), weight.clamp(max=0)
        z = layer.forward(x, weight) - layer.forward(low, above) - layer.forward(high, below)
        s = layer.output * density / stabilise(z, self.epsilon)
        layer.step.book("stabiliser", self.epsilon * inner(s, sign(z)))
        return Relevance(
            x * layer.backward(s, weight) - low * layer.backward(s, above) - high * layer.backward(s, below)
        )


def _bound(bound: float | Tensor, x: Tensor, layer: LinearMap) -> Tensor:
    """A bound in the shape of the input; one number per channel is taken along dimension 1."""
    value = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    if value.ndim == 1 and x.ndim > 2 and value.shape[0] == x.shape[1]:
        value = value.view(1, -1, *[1] * (x.ndim - 2))
    try:
        return value.expand_as(x)
    except RuntimeError as error:
        raise InputError(
            f"The rule Box has a bound of shape {tuple(value.shape)}, but the input of {layer.step.describe()} has "
            "shape "
            f"{tuple(x.shape)}. Give a number, one number per channel, or a tensor that broadcasts to the input."
        ) from error


class _ByWeight(LinearRule):
    """Shares by the weights alone."""

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """Shares ``v_ij / sum_i v_ij`` with v from the weight; the input's value does not count, nor the bias."""
        share = self.share(layer.weight)
        z = layer.forward(torch.ones_like(layer.x), share)
        relevance = layer.output * density
        empty = z == 0
        layer.step.book("lost at zero", torch.where(empty, relevance, 0).sum())
        s = torch.where(empty, 0, relevance / torch.where(empty, 1, z))
        return Relevance(layer.backward(s, share))

    @abstractmethod
    def share(self, weight: Tensor) -> Tensor:
        """v from w."""


@dataclass(frozen=True)
class WSquare(_ByWeight):
    """w2: shares by squared weights, for unbounded inputs (Montavon 2017)."""

    def share(self, weight: Tensor) -> Tensor:
        """See the class."""
        return weight.square()


@dataclass(frozen=True)
class Flat(_ByWeight):
    """Flat: equal shares over the receptive field (Lapuschkin 2019)."""

    def share(self, weight: Tensor) -> Tensor:
        """See the class."""
        return torch.ones_like(weight)


@dataclass(frozen=True)
class Pass(LinearRule):
    """Relevance goes through unchanged, where the signal has the shape of the output."""

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        relevance = layer.output * density
        if relevance.shape != layer.x.shape:
            raise InputError(
                f"The rule Pass needs a layer whose input has the shape of its output, but {layer.step.describe()} "
                "maps "
                f"{tuple(layer.x.shape)} to {tuple(relevance.shape)}. Give it another rule."
            )
        return Relevance(relevance)
