"""Methods that are the same at an explained input and at the output of a layer: what they do at points."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from pellucid.engine.function import ModelFunction
from pellucid.engine.ledger import Ledger
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Kind, Point
from pellucid.errors import PellucidError, reason
from pellucid.methods.base import Attribution, Method, by_input
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["AtPoints", "JointMethod", "PointMethod", "by_token", "layer_values", "shaped"]


@dataclass(frozen=True)
class AtPoints:
    """What a method found at some points.

    Args:
        values: in the shape of the value at each point.
        ledger: the audit, where the method promises one.
        details: further tensors by kind ("standard error") and point.
        notes: what a reader must know.
        settings: what was found on the way.
        tables: further tensors (N, ...) that belong to all points together ("feature scores").
    """

    values: Mapping[Point, Tensor]
    ledger: Ledger | None = None
    details: Mapping[str, Mapping[Point, Tensor]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    tables: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class PointMethod(Method):
    """A method that takes the model as a function of some points; inputs together first, then every layer alone."""

    differentiates: ClassVar[bool] = True
    """Whether it takes gradients at the points."""

    @abstractmethod
    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """Attribute the scalar to the values at ``points``, together.

        Args:
            call: what is explained; its ``function`` runs the model.
            scalar: what is explained, fixed at the explained input.
            points: the values there at the explained input, each (N, ...).
        """

    def attribute(self, call: Call, target: Target) -> Attribution:
        """See :meth:`at`."""
        function = call.function
        target.check_layers(function.shadow.modules)
        scalar = function.start(target)
        call.partial = None
        found = self.at(call, scalar, function.inputs)
        layers: dict[str, Tensor] = {}
        notes = list(found.notes)
        tables = dict(found.tables)
        found = replace(found, tables=tables)
        call.partial = lambda: self.dressed(call, scalar, found, layers=dict(layers), notes=notes)
        for name in dict.fromkeys(call.layers):
            there = self.at(call, scalar, layer_values(function, name))
            layers[name] = there.values[function.layer(name)]
            tables.update({f"{kind} at {name}": table for kind, table in there.tables.items()})
            tables.update(_at_layers(there.details))
            notes.extend(note for note in there.notes if note not in notes)
        return self.dressed(call, scalar, found, layers=layers, notes=notes)

    def unfit(self, call: Call) -> str | None:
        """A point that cannot be read, or one that no gradient reaches."""
        small = call.small
        function = small.function
        try:
            beside = self.beside(small)
            function.read(beside)
            ways = [small.way(function.points)]
            ways += [small.way([point]) for point in map(function.layer, small.layers) if point not in beside]
        except PellucidError as error:
            return reason(error)
        return next((way.blame for way in ways if way.blame), None) if self.differentiates else None

    def beside(self, call: Call) -> list[Point]:  # noqa: ARG002
        """Layers that are read in the passes of the inputs."""
        return []

    def offer(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], estimate: Callable[[], AtPoints]
    ) -> None:
        """Let Ctrl-C give ``estimate()``, what was found so far, where the work is on the explained inputs.

        What a layer got so far is no estimate of the whole: there the inputs, which come first, are given as found.
        """
        if all(point.kind is not Kind.LAYER for point in points):
            call.partial = lambda: self.dressed(call, scalar, estimate())

    def dressed(
        self,
        call: Call,
        scalar: Scalar,
        found: AtPoints,
        *,
        layers: Mapping[str, Tensor] | None = None,
        notes: list[str] | None = None,
    ) -> Attribution:
        """An attribution of what was found at the inputs, and at layers where there are some among the points."""
        ids = call.prepared.ids
        details = {
            f"{kind} of {name}" if len(parts) > 1 else kind: value
            for kind, parts in ((kind, by_input(_at_inputs(at), ids)) for kind, at in found.details.items())
            for name, value in parts.items()
        }
        at_layers = {point.name: value for point, value in found.values.items() if point.kind is Kind.LAYER}
        details |= _at_layers(found.details)
        return Attribution(
            relevance=by_input(_at_inputs(found.values), ids),
            output=scalar.output,
            target=scalar.target,
            ledger=found.ledger,
            layers={**at_layers, **(layers or {})},
            details={**details, **found.tables},
            notes=(*call.notes(), *(found.notes if notes is None else notes)),
            settings=found.settings,
        )


@dataclass(frozen=True)
class JointMethod(PointMethod):
    """A point method that changes the inputs alone: layers are read in the same passes, at no further cost."""

    @abstractmethod
    def through(
        self, call: Call, scalar: Scalar, inputs: Mapping[Point, Tensor], layers: Mapping[Point, Tensor]
    ) -> AtPoints:
        """Attribute the scalar to the inputs together, and on the way to every layer.

        Args:
            call: what is explained; its ``function`` runs the model.
            scalar: what is explained, fixed at the explained input.
            inputs: the values there at the explained input, each (N, ...).
            layers: those at the outputs of layers.
        """

    def beside(self, call: Call) -> list[Point]:
        """All layers."""
        return [call.function.layer(name) for name in dict.fromkeys(call.layers)]

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """:meth:`through`, the points taken as inputs."""
        return self.through(call, scalar, points, {})

    def attribute(self, call: Call, target: Target) -> Attribution:
        """Inputs and layers in the same passes."""
        function = call.function
        target.check_layers(function.shadow.modules)
        layers = self.beside(call)
        scalar, values = function.begin(target, layers)
        call.partial = None
        found = self.through(call, scalar, function.inputs, {point: values[point] for point in layers})
        return self.dressed(call, scalar, found)


def _at_inputs(values: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
    return {point: value for point, value in values.items() if point.kind is not Kind.LAYER}


def _at_layers(details: Mapping[str, Mapping[Point, Tensor]]) -> dict[str, Tensor]:
    """ "standard error at conv1", in the shape of the layer's output."""
    layers = ((kind, at) for kind, parts in details.items() for at in parts.items() if at[0].kind is Kind.LAYER)
    return {f"{kind} at {point.name}": value for kind, (point, value) in layers}


def shaped(factors: Tensor, like: Tensor) -> Tensor:
    """(n,) so that it broadcasts along the other dimensions of ``like`` (n, ...)."""
    return factors.view(-1, *[1] * (like.ndim - 1))


def by_token(point: Point, share: Tensor) -> Tensor:
    """Of token ids one value per token, the sum over the features of its vector; else ``share`` (n, ...) itself."""
    return share.sum(-1) if point.kind is Kind.LOOK_UP else share


def layer_values(function: ModelFunction, name: str) -> dict[Point, Tensor]:
    """The output of a module at the explained input, as a point with its value."""
    return function.read([function.layer(name)])
