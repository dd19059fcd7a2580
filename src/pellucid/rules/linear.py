"""Rules for linear maps with weights, in density form.

Notation: signal a, weight w, bias b, output z = sum a w + b, relevance R = z G of the output, quotient s = R over a
denominator. A rule returns the density at a, without dividing by a; rules that do not look at a return relevance
itself. Rules that treat positive and negative contributions apart are in ``signed``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.engine.numerics import accumulation_dtype, inner, reduce_to, sign, stabilise
from pellucid.engine.step import Fresh, Relevance, Step
from pellucid.errors import InputError
from pellucid.rules.blocks import Rows
from pellucid.rules.maps import LinearMap, linear_map
from pellucid.rules.spread import row_spread, sample_spread

__all__ = ["Box", "Epsilon", "Flat", "LinearRule", "Pass", "WSquare", "Zero", "check_epsilon"]


def check_epsilon(epsilon: float) -> None:
    """Refuse a stabiliser that stabilises nothing.

    Raises:
        InputError: ``epsilon`` is not positive.
    """
    if not epsilon > 0:
        raise InputError(
            "Expected a stabiliser epsilon > 0 (at an output of exactly zero nothing else keeps the quotient "
            "finite), got "
            f"{epsilon}. For no stabiliser use the rule Zero."
        )


class LinearRule(ABC):
    """A rule for linear maps; ``folds`` says whether a batch-norm that follows is merged into the map first."""

    folds = True

    def __call__(self, step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
        """Density (or relevance) at the signal; nothing for weights and bias."""
        density = densities[0]
        assert density is not None
        layer = linear_map(step)
        return layer.messages(density, lambda: self.propagate(layer, density))

    @abstractmethod
    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """What arrives at the signal, in a tensor of its own, when ``density`` arrives at the output."""


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
        relative: epsilon is instead a share of the standard deviation of z: over each "sample" (True says the same), or
            over each "row", which is what one position is mapped to: the features of a token, the channels of a pixel.

    Raises:
        InputError: epsilon is not positive, or ``relative`` something else.
    """

    epsilon: float = 1e-6
    relative: bool | Literal["sample", "row"] = False

    def __post_init__(self) -> None:
        """Refuse a stabiliser that stabilises nothing."""
        check_epsilon(self.epsilon)
        if self.relative not in (False, True, "sample", "row"):
            raise InputError(f"Expected Epsilon(relative=) as False, 'sample' or 'row', got {self.relative!r}.")

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        if self.relative:
            z = layer.whole_output
            epsilon = self.epsilon * (row_spread(layer, z) if self.relative == "row" else sample_spread(layer, z))
            size = z.abs()
            below = size + epsilon
            # A row of one number, or of equal ones, has no spread: where such a number is 0 there is nothing to share.
            s = torch.where(below == 0, 0, size.div_(below)).mul_(density)
            layer.step.book("stabiliser", inner(s, sign(z) * epsilon))
            layer.book_bias(s)
        else:
            density, z = density.contiguous(), layer.output
            s = layer.step.room(density, z)
            absorbed, held = _stabilise_into(s, z, density, self.epsilon, layer.bias)
            layer.step.book("stabiliser", absorbed)
            if layer.bias is not None:
                layer.step.book("bias", held)
        return layer.backward(s, layer.weight)


def _stabilise_into(
    s: Tensor, z: Tensor, density: Tensor, epsilon: float, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Write ``z G / stab(z)`` into ``s``, which may be G itself.

    Returns:
        What the stabiliser takes: ``sum z (G - s)`` with ``G - s = epsilon G / stab(|z|)``; and the bias: ``sum b s``.
    """
    absorbed, held = (torch.zeros((), dtype=accumulation_dtype(z.dtype), device=z.device) for _ in range(2))
    rows = Rows([z, density, s], bias)
    for (value, arrived, out), added in rows:
        lost = torch.abs(value, out=rows.scratch(value)).add_(epsilon)
        torch.div(arrived, lost, out=lost)
        absorbed += inner(lost, value)
        torch.sub(arrived, lost, alpha=epsilon, out=out)
        if added is not None:
            held += inner(reduce_to(out, added.shape), added)
    return absorbed * epsilon, held


@dataclass(frozen=True)
class Box(LinearRule):
    """zB for inputs between ``low`` and ``high``, as pixels are: shares ``a w - low w+ - high w-`` (Montavon 2017).

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
        check_epsilon(self.epsilon)
        if bool((torch.as_tensor(self.low) > torch.as_tensor(self.high)).any()):
            raise InputError(f"Expected Box(low, high) with low <= high, got low={self.low}, high={self.high}.")

    def propagate(self, layer: LinearMap, density: Tensor) -> Tensor | Relevance:
        """See the class."""
        x, weight, bias = layer.x, layer.weight, layer.bias
        low, high = (_bound(bound, x, layer) for bound in (self.low, self.high))
        above, below = weight.clamp(min=0), weight.clamp(max=0)
        least = layer.forward(low, above).add_(layer.forward(high, below))
        z = layer.output if bias is None else layer.output - bias
        z = z - least
        s = layer.output * density / stabilise(z, self.epsilon)
        layer.step.book("stabiliser", self.epsilon * inner(s, sign(z)))
        by_above, by_below = layer.backward_both(s, above, below)
        return Relevance((x - low) * by_above + (x - high) * by_below)


def _bound(bound: float | Tensor, x: Tensor, layer: LinearMap) -> Tensor:
    """A bound that broadcasts to the input, for one sample where all have the same.

    One number per channel is taken along dimension 1.
    """
    value = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    if value.ndim == 1 and x.ndim > 2 and value.shape[0] == x.shape[1]:
        value = value.view(1, -1, *[1] * (x.ndim - 2))
    try:
        value.expand_as(x)
        return value.expand(1 if value.ndim < x.ndim or value.shape[0] == 1 else len(x), *x.shape[1:])
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
    """w2: shares ``w_ij^2 / sum_i w_ij^2`` by squared weights, for unbounded inputs (Montavon 2017)."""

    def share(self, weight: Tensor) -> Tensor:
        """See the class."""
        return weight.square()


@dataclass(frozen=True)
class Flat(_ByWeight):
    """Flat: equal shares ``1 / sum_i 1`` over the receptive field (Lapuschkin 2019)."""

    def share(self, weight: Tensor) -> Tensor:
        """See the class."""
        return torch.ones_like(weight)


@dataclass(frozen=True)
class Pass(LinearRule):
    """Relevance goes through unchanged, ``R_i = R_j``, where the signal has the shape of the output."""

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
