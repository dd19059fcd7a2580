"""Axioms of attribution (Sundararajan 2017, Lundberg 2017), checked on random nets for every method that promises them.

A method is added to an axiom with one line in ``HOLDS``; ``BREAKS`` has one for each axiom that does not hold it, so
that a check which sees nothing is seen. Methods that compare with a baseline use zero, as by default.
"""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import (
    Conductance,
    ExcitationBackprop,
    ExpectedGradients,
    FullGrad,
    Gradient,
    GradientSHAP,
    GradientTimesInput,
    IntegratedGradients,
    InternalInfluence,
    Method,
    SmoothGrad,
    SmoothGradSquared,
    VarGrad,
)
from tests.trace.models import Made

FEATURES = 5
SMOOTH: list[type[nn.Module]] = [nn.Tanh, nn.Softplus, nn.GELU, nn.Sigmoid]


def relevance(method: Method, net: nn.Module, x: Tensor, target: object = 0) -> Tensor:
    found: Tensor = pl.explain(net, x, target=target, method=method).relevance
    return found


def same(one: Tensor, other: Tensor, tolerance: float) -> None:
    """Equal up to a share of the largest value."""
    scale = max(float(one.abs().max()), float(other.abs().max()), 1e-12)
    gap = float((one - other).abs().max())
    assert gap <= tolerance * scale, f"off by {gap:.3g} of {scale:.3g}"


class Case:
    """A random net, two random samples, and random numbers for whatever else an axiom needs."""

    def __init__(self, seed: int, activation: type[nn.Module]) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self.activation = activation
        self.x = self.numbers(2, FEATURES) + 0.5

    def numbers(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random, dtype=torch.float64)

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        layer = nn.Linear(inputs, outputs).double().requires_grad_(False)
        layer.weight.copy_(self.numbers(outputs, inputs) / inputs**0.5)
        layer.bias.copy_(self.numbers(outputs) / 2)
        return layer

    def net(self) -> nn.Sequential:
        return nn.Sequential(self.linear(FEATURES, 7), self.activation(), self.linear(7, 3)).eval()


def completeness(method: Method, case: Case, tolerance: float) -> None:
    """Shares sum to the difference from the baseline."""
    net = case.net()
    difference = net(case.x)[:, 0] - net(torch.zeros_like(case.x))[:, 0]
    same(relevance(method, net, case.x).sum(1), difference, tolerance)


def conservation(method: Method, case: Case, tolerance: float) -> None:
    """Shares sum to the output."""
    net = case.net()
    same(relevance(method, net, case.x).sum(1), net(case.x)[:, 0], tolerance)


def sensitivity(method: Method, case: Case, tolerance: float) -> None:
    """A lone feature that differs from the baseline and changes the output gets something, also where f is flat."""
    k = int(case.numbers(1).abs() * 100) % FEATURES
    sign = 1.0 if float(case.numbers(1)) > 0 else -1.0
    net = Made(lambda _, x: 1 - torch.relu(1 - sign * x[:, [k]])).eval()
    x = torch.zeros(2, FEATURES, dtype=torch.float64)
    x[:, k] = sign * torch.tensor([2.0, 7.0])
    found = relevance(method, net, x, None)
    assert bool((found[:, k].abs() > tolerance).all())
    assert not bool(found[:, [i for i in range(FEATURES) if i != k]].any())


def implementation(method: Method, case: Case, tolerance: float) -> None:
    """Two nets that compute the same function get the same."""
    first, second, act = case.linear(FEATURES, 6), case.linear(6, 3), case.activation()
    through, back = case.numbers(6, 6), torch.randperm(6, generator=case._random)
    inverse = torch.linalg.inv(through)

    def written_out(_: nn.Module, x: Tensor) -> Tensor:
        """Two linear maps in the place of one, units in another order and each twice at half its weight."""
        z = (x @ first.weight.T @ through.T + first.bias @ through.T) @ inverse.T
        h = torch.cat([act(z[:, back]), act(z[:, back])], 1)
        return h @ (torch.cat([second.weight[:, back], second.weight[:, back]], 1) / 2).T + second.bias

    nets = (nn.Sequential(first, act, second).eval(), Made(written_out, act=act).eval())
    same(nets[0](case.x), nets[1](case.x), 1e-9)
    same(*(relevance(method, net, case.x) for net in nets), tolerance)  # type: ignore[call-arg]


def linearity(method: Method, case: Case, tolerance: float) -> None:
    """What a weighted sum of outputs gets is the weighted sum of what they get."""
    net = case.net()
    whole = relevance(method, net, case.x, "2*0 - 0.5*1")
    parts = 2 * relevance(method, net, case.x, 0) - 0.5 * relevance(method, net, case.x, 1)
    same(whole, parts, tolerance)


def symmetry(method: Method, case: Case, tolerance: float) -> None:
    """Features that can be exchanged, of equal value, get the same."""
    net = case.net()
    with torch.no_grad():
        net[0].weight[:, 3] = net[0].weight[:, 1]  # type: ignore[union-attr, index]
    x = case.x.clone()
    x[:, 3] = x[:, 1]
    found = relevance(method, net, x)
    same(found[:, 1], found[:, 3], tolerance)
    assert bool((found[:, 1].abs() > 0).all())


def dummy(method: Method, case: Case, tolerance: float) -> None:
    """A feature on which the output does not depend gets nothing."""
    net = case.net()
    with torch.no_grad():
        net[0].weight[:, 2] = 0  # type: ignore[union-attr, index]
    found = relevance(method, net, case.x)
    assert float(found[:, 2].abs().max()) <= tolerance * float(found.abs().max())
    assert float(found.abs().max()) > 0


AXIOMS: dict[str, Callable[[Method, Case, float], None]] = {
    check.__name__: check
    for check in (completeness, conservation, sensitivity, implementation, linearity, symmetry, dummy)
}

HOLDS: dict[str, list[tuple[Method, float]]] = {
    "completeness": [
        (IntegratedGradients(), 1e-6),
        (IntegratedGradients(steps=400, quadrature="midpoint"), 1e-3),
        (IntegratedGradients(steps=2, tolerance=1e-3), 1e-3),
        (ExpectedGradients(samples=200), 0.02),
        (ExpectedGradients(samples=40, tolerance=0.01, most_samples=20_000), 0.01),
        (GradientSHAP(samples=200), 0.02),
        (Conductance(steps=300), 1e-3),
    ],
    "conservation": [
        (FullGrad(form="signed"), 1e-9),
    ],
    "sensitivity": [
        (IntegratedGradients(), 0.05),
        (ExpectedGradients(), 0.05),
        (GradientSHAP(), 0.05),
        (Conductance(), 0.05),
    ],
    "implementation": [
        (Gradient(), 1e-9),
        (GradientTimesInput(), 1e-9),
        (SmoothGrad(samples=8), 1e-9),
        (SmoothGradSquared(samples=8), 1e-9),
        (VarGrad(samples=8), 1e-6),
        (IntegratedGradients(steps=12), 1e-9),
        (ExpectedGradients(samples=12), 1e-9),
        (GradientSHAP(samples=12, noise=0.1), 1e-9),
        (Conductance(steps=12), 1e-9),
        (InternalInfluence(steps=12), 1e-9),
        (FullGrad(form="signed"), 1e-9),
    ],
    "linearity": [
        (Gradient(), 1e-9),
        (GradientTimesInput(), 1e-9),
        (SmoothGrad(samples=8), 1e-9),
        (IntegratedGradients(steps=12), 1e-9),
        (ExpectedGradients(samples=12), 1e-9),
        (GradientSHAP(samples=12, noise=0.1), 1e-9),
        (Conductance(steps=12), 1e-9),
        (InternalInfluence(steps=12), 1e-9),
        (FullGrad(form="signed"), 1e-9),
    ],
    "symmetry": [
        (Gradient(), 1e-9),
        (GradientTimesInput(), 1e-9),
        (SmoothGrad(samples=8, multiply_by_input=True), 1e-9),
        (SmoothGradSquared(samples=8), 1e-9),
        (VarGrad(samples=8), 1e-6),
        (IntegratedGradients(steps=12), 1e-9),
        (ExpectedGradients(samples=12), 1e-9),
        (GradientSHAP(samples=12), 1e-9),
        (Conductance(steps=12), 1e-9),
        (InternalInfluence(steps=12), 1e-9),
        (FullGrad(form="signed"), 1e-9),
    ],
    "dummy": [
        (Gradient(), 0),
        (GradientTimesInput(), 0),
        (SmoothGrad(samples=8), 0),
        (SmoothGradSquared(samples=8), 0),
        (VarGrad(samples=8), 0),
        (IntegratedGradients(steps=12), 0),
        (ExpectedGradients(samples=12), 0),
        (GradientSHAP(samples=12, noise=0.1), 0),
        (Conductance(steps=12), 0),
        (InternalInfluence(steps=12), 0),
    ],
}
"""Axiom -> methods that hold it, each with the tolerance."""

BREAKS: dict[str, Method] = {
    "completeness": GradientTimesInput(),
    "conservation": IntegratedGradients(),
    "sensitivity": Gradient(),
    "implementation": ExcitationBackprop(),
    "linearity": SmoothGradSquared(samples=8),
    "symmetry": GradientSHAP(samples=8, noise=1.0),
    "dummy": FullGrad(form="signed"),
}
"""Axiom -> a method that is known not to hold it."""

CASES = [(axiom, method, tolerance) for axiom, methods in HOLDS.items() for method, tolerance in methods]


@pytest.mark.parametrize(
    ("axiom", "method", "tolerance"), CASES, ids=[f"{axiom}-{method!r}" for axiom, method, _ in CASES]
)
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), activation=st.sampled_from(SMOOTH))
def test_the_axiom_holds(axiom: str, method: Method, tolerance: float, seed: int, activation: type[nn.Module]) -> None:
    AXIOMS[axiom](method, Case(seed, activation), tolerance)


@pytest.mark.parametrize("axiom", sorted(AXIOMS))
def test_a_method_that_breaks_the_axiom_is_found_out(axiom: str) -> None:
    tolerance = max(tolerance for _, tolerance in HOLDS[axiom])
    failures = 0
    for seed in range(4):
        try:
            AXIOMS[axiom](BREAKS[axiom], Case(seed, nn.Tanh), tolerance)
        except AssertionError:
            failures += 1
    assert failures >= 3
