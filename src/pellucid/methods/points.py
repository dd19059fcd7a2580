"""Methods that are the same at an explained input and at the output of a layer: what they do at points."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from pellucid.engine.function import ModelFunction
from pellucid.engine.ledger import Ledger
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Point
from pellucid.methods.base import Attribution, Method, by_input
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["AtPoints", "PointMethod"]


@dataclass(frozen=True)
class AtPoints:
    """What a method found at some points.

    Args:
        values: in the shape of the value at each point.
        ledger: the audit, where the method promises one.
        details: further tensors by kind ("standard error") and point.
        notes: what a reader must know.
        settings: what was found on the way.
    """

    values: Mapping[Point, Tensor]
    ledger: Ledger | None = None
    details: Mapping[str, Mapping[Point, Tensor]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class PointMethod(Method):
    """A method that takes the model as a function of some points; inputs together first, then every layer alone."""

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
        inputs = function.inputs
        call.partial = None
        found = self.at(call, scalar, inputs)
        layers: dict[str, Tensor] = {}
        notes = list(found.notes)
        for name in call.layers:
            call.partial = None  # what a layer gave so far is no estimate of the whole
            there = self.at(call, scalar, layer_values(function, name))
            layers[name] = there.values[function.layer(name)]
            notes.extend(note for note in there.notes if note not in notes)
        return self.dressed(call, scalar, found, layers=layers, notes=notes)

    def dressed(
        self,
        call: Call,
        scalar: Scalar,
        found: AtPoints,
        *,
        layers: Mapping[str, Tensor] | None = None,
        notes: list[str] | None = None,
    ) -> Attribution:
        """An attribution of what was found at the inputs."""
        ids = call.prepared.ids
        details = {
            f"{kind} of {name}" if len(parts) > 1 else kind: value
            for kind, parts in ((kind, by_input(at, ids)) for kind, at in found.details.items())
            for name, value in parts.items()
        }
        return Attribution(
            relevance=by_input(found.values, ids),
            output=scalar.output,
            target=scalar.target,
            ledger=found.ledger,
            layers=layers or {},
            details=details,
            notes=(*call.notes(), *(found.notes if notes is None else notes)),
            settings=found.settings,
        )


def layer_values(function: ModelFunction, name: str) -> dict[Point, Tensor]:
    """The output of a module at the explained input, as a point with its value."""
    point = function.layer(name)
    return {point: function.run({}, read=[point]).values[point]}
