"""A background: several samples that an input is compared with, as methods of the Shapley value take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Kind, Point, Values
from pellucid.errors import InputError
from pellucid.methods.baselines import baselines_at

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Background", "background_at"]


@dataclass(frozen=True, slots=True)
class Background:
    """Samples at points.

    Args:
        call: runs the model.
        values: (size, 1, ...) the same for every explained sample, or (size, N, ...) one for each.
    """

    call: Call
    values: Mapping[Point, Tensor]

    @property
    def size(self) -> int:
        """How many samples it has."""
        return len(next(iter(self.values.values())))

    @property
    def shared(self) -> bool:
        """Whether it is the same for every explained sample, and the model is given nothing else of theirs."""
        alone = set(self.call.prepared.values) == {point.name for point in self.values}
        return alone and all(value.shape[1] == 1 for value in self.values.values())

    def at(self, numbers: Tensor, rows: Tensor) -> dict[Point, Tensor]:
        """(n, ...) the samples with these ``numbers`` (n,), for the explained samples ``rows`` (n,)."""
        return {point: value[numbers, 0 if value.shape[1] == 1 else rows] for point, value in self.values.items()}

    def scalars(self, scalar: Scalar, numbers: Tensor) -> Tensor:
        """(n, N), float64: what every explained sample's scalar is at the samples with these ``numbers`` (n,)."""
        function, batch = self.call.function, self.call.batch
        if not self.shared:
            parts = function.scalars(len(numbers), lambda steps, rows: self.at(numbers[steps], rows), scalar)
            return torch.cat([part.scalars for part in parts]).reshape(len(numbers), batch).double()
        layers = [function.layer(name) for name in scalar.layers]
        found = []
        for part in torch.split(numbers, function.most):
            first = torch.zeros_like(part)
            done = function.run(self.at(part, first), first, read=layers)
            found.append(torch.stack([scalar.of(done, first + i) for i in range(batch)], 1))
        return torch.cat(found).double()

    def seen_at(self, points: Mapping[Point, Tensor]) -> Background:
        """What the outputs of layers are for this background of the inputs."""
        function = self.call.function
        read = list(points)
        every = torch.arange(self.size, device=next(iter(points.values())).device)
        if self.shared:
            runs = [
                function.run(self.at(part, part * 0), part * 0, read=read) for part in torch.split(every, function.most)
            ]
            return Background(self.call, {p: torch.cat([run.values[p] for run in runs])[:, None] for p in read})
        rows = torch.arange(self.call.batch, device=every.device)
        seen = [function.read(read, self.at(number.expand(len(rows)), rows)) for number in every]
        return Background(self.call, {p: torch.stack([values[p] for values in seen]) for p in read})


def background_at(call: Call, points: Mapping[Point, Tensor], spec: Any) -> Background:
    """The background that ``spec`` means, at ``points``; at a layer it is what the layer gives for the inputs'.

    Args:
        call: what is explained.
        points: explained inputs, or the output of a layer.
        spec: samples (size, ...) of the explained input, of several inputs a dict of them by name: floating values, or
            of token ids other ids. Or baselines (see ``pellucid.methods.Baseline``): one, or a list of several.

    Raises:
        InputError: it does not fit the input.
    """
    inputs = call.function.inputs
    if isinstance(spec, Tensor) and len({point.name for point in inputs}) == 1:
        spec = {next(iter(inputs)).name: spec}
    if isinstance(spec, Tensor):
        names = sorted({point.name for point in inputs})
        raise InputError(f"background= is one tensor, but several inputs are explained: give a dict with {names}.")
    if isinstance(spec, Mapping) and spec and all(isinstance(part, Tensor) for part in spec.values()):
        background = Background(call, {point: value[:, None] for point, value in _samples(call, inputs, spec).items()})
    else:
        many = baselines_at(call, inputs, spec)
        background = Background(call, {point: torch.stack([values[point] for values in many]) for point in inputs})
    return background.seen_at(points) if any(point.kind is Kind.LAYER for point in points) else background


def _samples(call: Call, inputs: Values, spec: Mapping[Any, Tensor]) -> dict[Point, Tensor]:
    given = {str(name): samples for name, samples in spec.items()}
    names = {point.name for point in inputs}
    if set(given) != names:
        raise InputError(f"background= has samples of {sorted(given)}, but the explained inputs are {sorted(names)}.")
    if len({len(samples) if samples.ndim else 0 for samples in given.values()}) > 1:
        sizes = {name: tuple(samples.shape) for name, samples in given.items()}
        raise InputError(f"background= must have equally many samples of every input, got the shapes {sizes}.")
    for name, samples in given.items():
        value = call.prepared.values[name]
        if samples.shape[1:] != value.shape[1:] or not samples.ndim or not len(samples):
            raise InputError(
                f"The background of the input {name!r} must be samples like it, of shape (samples, "
                f"{', '.join(map(str, value.shape[1:]))}), got shape {tuple(samples.shape)}."
            )
        if samples.is_floating_point() != value.is_floating_point():
            raise InputError(
                f"The background of the input {name!r} has dtype {samples.dtype}, but the input has {value.dtype}."
            )
        if not bool(torch.isfinite(samples).all()):
            raise InputError(f"The background of the input {name!r} holds values that are NaN or infinite.")
    ids = call.prepared.ids
    vectors: dict[Point, Tensor] = {}
    if ids:
        moved = {name: given[name].detach().to(dtype=own.dtype, device=own.device) for name, own in ids.items()}
        parts = zip(*(torch.split(part, call.function.most) for part in moved.values()), strict=True)
        found = [call.function.looked_up(dict(zip(moved, part, strict=True))) for part in parts]
        vectors = {point: torch.cat([part[point] for part in found]) for point in found[0]}
    return {
        point: vectors[point] if point.kind is Kind.LOOK_UP else given[point.name].detach().to(value)
        for point, value in inputs.items()
    }
