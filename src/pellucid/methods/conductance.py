"""Conductance (Dhamdhere 2018): how much of integrated gradients flows through the units of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.passes import Chunk, Scalar
from pellucid.engine.point import Point, Values
from pellucid.errors import InputError
from pellucid.methods.base import Cost, Family
from pellucid.methods.baselines import baselines_at
from pellucid.methods.completeness import completeness_ledger, scalar_at
from pellucid.methods.path import Lines
from pellucid.methods.points import AtPoints, JointMethod, shaped
from pellucid.methods.quadrature import quadrature
from pellucid.targets import Target, Unit, parse_target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Conductance"]

_CITATION = """@article{dhamdhere2018,
  author = {Dhamdhere, Kedar and Sundararajan, Mukund and Yan, Qiqi},
  title = {How Important Is a Neuron?},
  journal = {arXiv:1805.12233}, year = {2018}
}"""


@dataclass(frozen=True)
class Conductance(JointMethod):
    """Conductance of units z of a layer: ``integral_0^1 dy/dz dz/dt dt`` along the path of inputs (Dhamdhere 2018).

    It is the part of integrated gradients that flows through each unit (eq. 3, summed over the inputs by the chain
    rule), so that over a layer which all paths cross it sums to ``f(x) - f(baseline)``. The layers are those that
    ``layer=`` names; their results are in ``layers``. The input is the first layer: its conductance, which is the
    relevance and what the ledger adds up, is integrated gradients.

    The integral over ``z(t)`` is taken by the trapezoidal rule between steps that are even in t, with z as it is there,
    so that no derivative of z is needed. All layers come out of the same passes.

    With ``neuron`` the relevance is the inputs' conductance through that unit z_j towards the explained scalar,
    ``(x_i - b_i) integral_0^1 dy/dz_j dz_j/dx_i dt`` (eq. 2); over all units of a layer which all paths cross these sum
    to integrated gradients. (What moves the unit itself is another question: make it the target.)

    Args:
        steps: evaluations along the path, both ends among them.
        baseline: see ``pellucid.methods.Baseline``; a list averages over several.
        neuron: a unit as a target writes it, ``layer:unit``, with all of its positions, or at one, ``layer:unit@3,5``.

    Raises:
        InputError: a setting is out of range, the baseline does not fit the input, or a layer is asked for beside a
            neuron. TargetError: there is no such unit.
    """

    steps: int = 50
    baseline: Any = "zero"
    neuron: str | None = None

    name: ClassVar[str] = "conductance"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "steps x (forward + gradient)"
    needs: ClassVar[str] = "any model; layer= names where"
    advice: ClassVar[str] = "Which units of a layer carry the output's difference from a baseline, as signed shares."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        quadrature("trapezoid", self.steps)
        if self.neuron is not None and not isinstance(parse_target(self.neuron), Unit):
            raise InputError(f"Expected neuron as 'layer:unit', such as 'layer4:12', got {self.neuron!r}.")

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """The steps, once per baseline, and a forward per baseline besides that of the input.

        Through a neuron there are two gradients of every forward.
        """
        several = len(self.baseline) if isinstance(self.baseline, (list, tuple)) else 1
        if self.neuron is not None:
            return Cost(1, 2 * self.steps * several)
        return Cost(1 + several, self.steps * several)

    def through(
        self, call: Call, scalar: Scalar, inputs: Mapping[Point, Tensor], layers: Mapping[Point, Tensor]
    ) -> AtPoints:
        """See the class."""
        baselines = baselines_at(call, inputs, self.baseline)
        if self.neuron is not None:
            if layers:
                raise InputError("neuron= gives the conductance of inputs alone: leave layer= out, or neuron=.")
            return self._through_neuron(call, scalar, inputs, baselines)
        call.progress.expect_more((self.steps + 1) * call.batch * len(baselines))
        floor = torch.stack([scalar_at(call, scalar, baseline).double() for baseline in baselines]).mean(0)
        points = {**inputs, **layers}
        sums = {point: _Between(value) for point, value in points.items()}
        for baseline in baselines:
            self._walk(call, scalar, inputs, baseline, sums, list(layers))
        values = {point: (sums[point].total / len(baselines)).to(value.dtype) for point, value in points.items()}
        ledger = completeness_ledger(scalar.output, floor, {point: values[point] for point in inputs})
        return AtPoints(values, ledger)

    def _walk(
        self,
        call: Call,
        scalar: Scalar,
        inputs: Mapping[Point, Tensor],
        baseline: Values,
        sums: Mapping[Point, _Between],
        layers: list[Point],
    ) -> None:
        """Add what one path gives."""
        lines = Lines(inputs, [baseline])
        nodes, _ = (part.to(scalar.output.device) for part in quadrature("trapezoid", self.steps))

        def make(steps: Tensor, rows: Tensor) -> Values:
            here.clear()
            here.update(lines.at(nodes[steps], torch.zeros_like(rows), rows))
            return here

        here: dict[Point, Tensor] = {}
        for chunk in call.function.gradients(self.steps, make, scalar, list(inputs), beside=layers):
            for point, gradient in chunk.gradients.items():
                sums[point].add(chunk, {**here, **chunk.values}[point], gradient)

    def _through_neuron(
        self, call: Call, scalar: Scalar, inputs: Mapping[Point, Tensor], baselines: Sequence[Values]
    ) -> AtPoints:
        """Every step's ``dy/dz`` at the neuron, carried on to the inputs, times their way."""
        unit = parse_target(self.neuron)
        unit.check_layers(call.shadow.modules)
        (layer,) = map(call.function.layer, unit.layers())
        read = [layer, *map(call.function.layer, scalar.layers)]
        lines, several = Lines(inputs, baselines), len(baselines)
        call.progress.expect_more(self.steps * call.batch * several)
        nodes, weights = (part.to(scalar.output.device) for part in quadrature("trapezoid", self.steps))
        totals = {p: torch.zeros_like(value, dtype=accumulation_dtype(value.dtype)) for p, value in inputs.items()}
        for chunk in call.function.chunks(self.steps * several):
            steps, which = chunk.steps // several, chunk.steps % several
            values = lines.at(nodes[steps], which, chunk.rows)
            done = call.function.run(values, chunk.rows, read=[*inputs, *read], leaves=list(inputs), differentiate=True)
            with torch.enable_grad():
                scalars = scalar.of(done, chunk.rows)
                _, slopes = call.function.differentiate(scalars, done, [layer], again=True)
                flow = slopes[layer] * _member(unit, layer.name, done.values[layer])
                carried = (done.values[layer] * flow).flatten(1).sum(1)
            _, gradients = call.function.differentiate(carried, done, list(inputs))
            for point, gradient in gradients.items():
                way = lines.way(point, which, chunk.rows)
                chunk.add(totals[point], way * gradient * shaped(weights[steps].to(way.dtype), way))
        return AtPoints({point: (total / several).to(inputs[point].dtype) for point, total in totals.items()})


def _member(unit: Target, name: str, value: Tensor) -> Tensor:
    """(1, ...) 1 at the places of a unit in the layer's output, else 0."""
    probe = torch.zeros_like(value[:1]).requires_grad_()
    (found,) = torch.autograd.grad(unit.scalar(None, {name: probe}).sum(), probe)
    return (found != 0).to(value.dtype)


class _Between:
    """``sum_k (g_k + g_k+1) / 2 (z_k+1 - z_k)`` of every sample, from steps that come in order."""

    def __init__(self, value: Tensor) -> None:
        self.total = torch.zeros_like(value, dtype=accumulation_dtype(value.dtype))
        self._value, self._gradient = torch.empty_like(self.total), torch.empty_like(self.total)

    def add(self, chunk: Chunk, values: Tensor, gradients: Tensor) -> None:
        """Some steps more, or the first ones of a path: z and g of every row, each (n, ...)."""
        z, samples = chunk.split(values.to(self.total.dtype))
        g, _ = chunk.split(gradients.to(self.total.dtype))
        if int(chunk.steps[0]) > 0:
            z, g = torch.cat([self._value[samples][None], z]), torch.cat([self._gradient[samples][None], g])
        self.total[samples] += ((g[1:] + g[:-1]) * (z[1:] - z[:-1])).sum(0) / 2
        self._value[samples], self._gradient[samples] = z[-1], g[-1]
