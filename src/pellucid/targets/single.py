"""Targets that are no class: the lone output, a unit of a layer, a function of the output."""

# ruff: noqa: ARG002 - every target has the same methods, and not every one needs all their arguments.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import TargetError
from pellucid.targets.base import LinearTarget, Target
from pellucid.targets.classes import Place, describe_place, place, write_places
from pellucid.targets.layout import Grid, flat_position, unit_dimension
from pellucid.targets.names import near_layers


@dataclass(frozen=True)
class Output(LinearTarget):
    """The output itself, for models that return one number per sample: (N,) or (N, 1); ``output`` in the grammar."""

    def weights(self, logits: Tensor) -> Tensor:
        """Ones.

        Raises:
            TargetError: the output has more than one number per sample.
        """
        grid = Grid.of(logits, None)
        if grid.classes * math.prod(grid.positions) != 1:
            raise TargetError(
                f"The target 'output' means the only number of each sample, but the output has shape {grid.shape}. "
                "Name a class, such as 3 or '3~rest', or give a callable."
            )
        return grid.restore(torch.ones_like(grid.blank()))

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """``output``."""
        return "output"

    def __str__(self) -> str:
        return "output"


@dataclass(frozen=True)
class Unit(Target):
    """A unit of a layer, averaged over all positions or at one; ``layer4.1.conv2:12``, ``blocks.3:7@-1``.

    Args:
        layer: name of the module, as in ``model.named_modules()``.
        unit: its channel, neuron or feature.
        at: a position such as ``-1`` or ``(3, 5)``; the mean over positions if None.
        dim: dimension of the units, where it is not the one that ``pellucid.targets.layout`` expects: dimension 1 of
            (N, C) and of (N, C, H, W), the last one of (N, L, D).
    """

    layer: str
    unit: int
    at: Place | None = field(default=None, kw_only=True)
    dim: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.layer.strip() or self.unit < 0:
            raise TargetError(
                f"A unit is written 'layer:unit' with the name of a module and an index of 0 or more; got {self}."
            )
        object.__setattr__(self, "at", place(self.at))
        if isinstance(self.at, str):
            raise TargetError(
                f"The target {self} asks for '@{self.at}', which only a class has. A unit has a position, such as "
                f"'@-1' or '@3,5', or is averaged over all positions without one."
            )

    @property
    def takes_raw(self) -> bool:
        """True: the output does not matter."""
        return True

    def layers(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer,)

    def scalar(self, output: Any, activations: Mapping[str, Tensor]) -> Tensor:
        """The unit's activation per sample: (batch,).

        Raises:
            TargetError: the layer was not recorded, or the unit or position is out of range.
        """
        if self.layer not in activations:
            near = ", ".join(near_layers(self.layer, activations)) or "none"
            raise TargetError(
                f"The target {self} needs the activation of the layer {self.layer!r}, and none was recorded: the "
                "module did not run in this forward, or is not part of the model. Recorded layers with similar names: "
                f"{near}."
            )
        value = activations[self.layer]
        what = f"the activation of {self.layer!r}"
        if value.ndim < 2:
            value = value.reshape(-1, 1)
        dim = unit_dimension(value.shape, self.dim, what=what)
        if self.unit >= value.shape[dim]:
            raise TargetError(
                f"Unit {self.unit} is out of range: {what} has shape {tuple(value.shape)} with {value.shape[dim]} "
                f"units, 0 to {value.shape[dim] - 1}, in dimension {dim}. If the units are in another one, "
                "add '@dim1' or so."
            )
        chosen = value.select(dim, self.unit)
        if self.at is None:
            return chosen.mean(dim=tuple(range(1, chosen.ndim))) if chosen.ndim > 1 else chosen
        assert isinstance(self.at, tuple), "a unit has no region"
        if chosen.ndim == 1:
            raise TargetError(
                f"The target {self} names a position, but {what} of shape {tuple(value.shape)} has none. Leave out "
                f"'{write_places(self.at, None)}'."
            )
        flat = flat_position(self.at, chosen.shape[1:], what=what)
        return chosen.flatten(1)[:, flat]

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """Such as ``layer4.1.conv2:12 @ position -1``."""
        return f"{self.layer}:{self.unit}{describe_place(self.at)}"

    def __str__(self) -> str:
        quote = chr(34)
        plain = all(part.isidentifier() or part.isdigit() for part in self.layer.split("."))
        layer = self.layer if plain else f"{quote}{self.layer.replace(quote, 2 * quote)}{quote}"
        return f"{layer}:{self.unit}{write_places(self.at, self.dim)}"


@dataclass(frozen=True, eq=False)
class Function(Target):
    """A function of the output that returns one number per sample; equal only to one with the same function.

    Args:
        function: takes the logits (batch, classes), whatever their shape, or with ``raw`` what the model returned;
            gives a tensor (batch,), or a tensor with one value for a batch of one.
        raw: whether it takes what the model returned.
        name: label in printouts, by default the function's own name.
    """

    function: Callable[[Any], Tensor]
    raw: bool = field(default=False, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    @property
    def takes_raw(self) -> bool:
        """Whether the function takes what the model returned."""
        return self.raw

    def scalar(self, output: Any, activations: Mapping[str, Tensor]) -> Tensor:
        """What the function returns: (batch,).

        Raises:
            TargetError: it returned something else than one finite floating number per sample.
        """
        value: object = self.function(output)
        batch = None if self.raw or not isinstance(output, Tensor) else (output.shape[0] if output.ndim else 1)
        wanted = f"({'batch' if batch is None else batch},)"
        if not isinstance(value, Tensor):
            raise TargetError(
                f"The target function {self} must return a tensor of shape {wanted}, one number per sample; it "
                f"returned {type(value).__name__}. Keep to torch operations, without .item() or NumPy."
            )
        if not value.is_floating_point():
            raise TargetError(
                f"The target function {self} must return floating-point numbers; it returned {value.dtype}, which has "
                "no gradient. Return a score, not an index or a comparison."
            )
        if value.ndim > 1 or (batch is not None and value.numel() != batch):
            raise TargetError(
                f"The target function {self} must return a tensor of shape {wanted}, one number per sample; it "
                f"returned shape {tuple(value.shape)}. Pick or sum over the other dimensions, but not over the "
                "batch, for example lambda y: y[:, 3]."
            )
        if not bool(torch.isfinite(value.detach()).all()):
            raise TargetError(
                f"The target function {self} returned NaN or infinite values: "
                f"{value.detach().reshape(-1).tolist()[:8]}. Check what it does with masked or zero scores."
            )
        return value.reshape(-1)

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """The name of the function."""
        return str(self)

    def __str__(self) -> str:
        return self.name or str(getattr(self.function, "__name__", type(self.function).__name__))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Function):
            return NotImplemented
        return (self.function is other.function) and (self.raw, self.name) == (other.raw, other.name)

    def __hash__(self) -> int:
        return hash((id(self.function), self.raw, self.name))


def raw(function: Callable[[Any], Tensor], *, name: str | None = None) -> Function:
    """A target from a function of whatever the model returned, where that is no single tensor.

    ``raw(lambda output: output["pooler_output"].sum(1))`` explains the summed pooled output of an encoder.
    """
    return Function(function, raw=True, name=name)
