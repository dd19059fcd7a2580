"""Axioms of attribution (Sundararajan 2017, Lundberg 2017), checked on random nets for every method that promises them.

A method is added to an axiom with one line in ``HOLDS``; ``BREAKS`` has those that are known not to hold it, so that a
check which sees nothing is seen. Methods that compare with a baseline use zero, as by default, unless they say another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import (
    HSIC,
    LIME,
    LRP,
    RISE,
    Conductance,
    DeepLIFT,
    DeepSHAP,
    ExactShapley,
    ExcitationBackprop,
    ExpectedGradients,
    FeatureAblation,
    FullGrad,
    Gradient,
    GradientSHAP,
    GradientTimesInput,
    IntegratedGradients,
    InternalInfluence,
    KernelSHAP,
    Method,
    Occlusion,
    OwenValues,
    PermutationShapley,
    SmoothGrad,
    SmoothGradSquared,
    Sobol,
    VarGrad,
)
from tests.trace.models import Made

pytestmark = pytest.mark.core

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


def floor(method: Method, net: nn.Module, x: Tensor) -> Tensor:
    """(N,) the mean output for what the method compares with: numbers that stand for every feature."""
    given = getattr(method, "background", getattr(method, "baseline", "zero"))
    values = [0.0 if value == "zero" else value for value in (given if isinstance(given, list) else [given])]
    return torch.stack([net(torch.full_like(x, value))[:, 0] for value in values]).mean(0)


def completeness(method: Method, case: Case, tolerance: float) -> None:
    """Shares sum to the difference from the baseline."""
    net = case.net()
    difference = net(case.x)[:, 0] - floor(method, net, case.x)
    same(relevance(method, net, case.x).sum(1), difference, tolerance)


def conservation(method: Method, case: Case, tolerance: float) -> None:
    """Shares sum to the output."""
    net = case.net()
    same(relevance(method, net, case.x).sum(1), net(case.x)[:, 0], tolerance)


def conservation_without_biases(method: Method, case: Case, tolerance: float) -> None:
    """Shares sum to the output of a net that has nothing else to give them to: all its functions are 0 at 0."""
    case.activation = {nn.Softplus: nn.ReLU, nn.Sigmoid: nn.ELU}.get(case.activation, case.activation)
    net = case.net()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.bias.zero_()  # type: ignore[union-attr, operator]
    same(relevance(method, net, case.x).sum(1), net(case.x)[:, 0], tolerance)


def accounting(method: Method, case: Case, tolerance: float) -> None:
    """The ledger's output, inputs and baseline are the true ones, and what else it names is what such a net has."""
    net = case.net()
    found = pl.explain(net, case.x, target=0, method=method)
    assert found.ledger is not None
    booked = dict(found.ledger.amounts)
    assert found.ledger.total == pytest.approx(float(net(case.x)[:, 0].sum()), rel=1e-9)
    assert booked.pop("input") == pytest.approx(float(found.relevance.sum()), rel=1e-9, abs=1e-12)
    if "baseline" in booked:
        assert booked.pop("baseline") == pytest.approx(float(floor(method, net, case.x).sum()), rel=1e-9)
    assert set(booked) <= {"bias", "offset", "stabiliser", "lost at zero", "unaccounted"}
    assert found.ledger.closed(tolerance), str(found.ledger)


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


def rewritten(case: Case) -> tuple[nn.Module, nn.Module]:
    """Two linear maps in the place of one, units in another order and each twice at half its weight."""
    first, second, act = case.linear(FEATURES, 6), case.linear(6, 3), case.activation()
    through, back = case.numbers(6, 6), torch.randperm(6, generator=case._random)
    inverse = torch.linalg.inv(through)

    def written_out(_: nn.Module, x: Tensor) -> Tensor:
        z = (x @ first.weight.T @ through.T + first.bias @ through.T) @ inverse.T
        h = torch.cat([act(z[:, back]), act(z[:, back])], 1)
        return h @ (torch.cat([second.weight[:, back], second.weight[:, back]], 1) / 2).T + second.bias

    return nn.Sequential(first, act, second).eval(), Made(written_out, act=act).eval()


def factorised(case: Case) -> tuple[nn.Module, nn.Module]:
    """``exp(a + b) = exp(a) exp(b)``."""
    one, two, second = case.linear(FEATURES, 6), case.linear(FEATURES, 6), case.linear(6, 3)
    return (
        Made(lambda _, x: second(torch.exp(one(x) + two(x)))).eval(),
        Made(lambda _, x: second(torch.exp(one(x)) * torch.exp(two(x)))).eval(),
    )


def threshold_moved(_: Case) -> tuple[nn.Module, nn.Module]:
    """The pair of Sundararajan 2017, figure 7: a bias before one ReLU or before the next."""
    relu = torch.relu
    return (
        Made(lambda _, x: relu(relu(x[:, :1]) - 1 - relu(x[:, 1:2]))).eval(),
        Made(lambda _, x: relu(relu(x[:, :1] - 1) - relu(x[:, 1:2]))).eval(),
    )


def implementation(method: Method, case: Case, tolerance: float) -> None:
    """Two nets that compute the same function get the same, in whatever way they are written."""
    for pair, x in (
        (rewritten, case.x),
        (factorised, case.x),
        (threshold_moved, case.x.abs() + torch.tensor([2.5, 0.1, 0.0, 0.0, 0.0])),
    ):
        nets = pair(case)
        same(*(net(x) for net in nets), 1e-9)
        assert float(nets[0](x).detach().abs().max()) > 0
        same(*(relevance(method, net, x) for net in nets), tolerance)  # type: ignore[call-arg]


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
    for check in (
        completeness,
        conservation,
        conservation_without_biases,
        accounting,
        sensitivity,
        implementation,
        linearity,
        symmetry,
        dummy,
    )
}

SHAPLEY: list[Method] = [
    ExactShapley(),
    ExactShapley(baseline=0.7),
    PermutationShapley(),
    PermutationShapley(samples=16),
    KernelSHAP(),
    KernelSHAP(samples=20),
    OwenValues(tree=[[1, 3], [0, 2, 4]]),
    OwenValues(tree=[0, 1, 2, 3, 4], samples=16),
]
"""By enumeration (30 coalitions) and from samples."""

HOLDS: dict[str, list[tuple[Method, float]]] = {
    "completeness": [
        (IntegratedGradients(), 1e-6),
        (IntegratedGradients(steps=400, quadrature="midpoint"), 1e-3),
        (IntegratedGradients(steps=2, tolerance=1e-3), 1e-3),
        (ExpectedGradients(samples=200), 0.02),
        (ExpectedGradients(samples=40, tolerance=0.01, most_samples=20_000), 0.01),
        (GradientSHAP(samples=200), 0.02),
        (Conductance(steps=300), 1e-3),
        (DeepLIFT(), 1e-9),
        (DeepLIFT(baseline=0.7), 1e-9),
        (DeepSHAP(background=["zero", 0.7, -2.0]), 1e-9),
        *((method, 1e-9) for method in SHAPLEY),
    ],
    "conservation": [
        (FullGrad(form="signed"), 1e-9),
    ],
    "conservation_without_biases": [
        (LRP(), 1e-3),  # the stabiliser takes a millionth of what arrives at a unit of value 1
        (LRP("epsilon"), 1e-3),
        (LRP("attn-lrp"), 1e-9),
        (LRP("cp-lrp"), 1e-9),
    ],
    "accounting": [
        (IntegratedGradients(), 1e-6),
        (DeepLIFT(), 1e-9),
        (DeepSHAP(background=["zero", 0.7, -2.0]), 1e-9),
        *((method, 1e-9) for method in SHAPLEY),
        *((LRP(name), 1e-9) for name in ("auto", "epsilon", "attn-lrp", "cp-lrp", "deep-taylor", "excitation-bp")),
    ],
    "sensitivity": [
        (IntegratedGradients(), 0.05),
        (ExpectedGradients(), 0.05),
        (GradientSHAP(), 0.05),
        (Conductance(), 0.05),
        (DeepLIFT(), 0.05),
        (DeepSHAP(), 0.05),
        (Occlusion(), 0.05),
        (FeatureAblation(), 0.05),
        (ExactShapley(), 0.05),
        (PermutationShapley(samples=16), 0.05),
        (KernelSHAP(samples=20), 0.05),
        (OwenValues(), 0.05),
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
        (Occlusion(), 1e-9),
        (FeatureAblation(), 1e-9),
        *((method, 1e-9) for method in SHAPLEY),
        (OwenValues(), 1e-9),
        (LIME(samples=40), 1e-9),
        (RISE(samples=40), 1e-9),
        (Sobol(samples=40), 1e-9),
        (HSIC(samples=40), 1e-9),
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
        (DeepLIFT(), 1e-9),
        (DeepSHAP(background=["zero", 0.7, -2.0]), 1e-9),
        (LRP(), 1e-6),
        (LRP("attn-lrp"), 1e-9),
        (LRP("excitation-bp"), 1e-6),
        (Occlusion(), 1e-9),
        (FeatureAblation(), 1e-9),
        *((method, 1e-9) for method in SHAPLEY),
        (OwenValues(), 1e-9),
        (LIME(samples=40), 1e-9),
        (RISE(samples=40), 1e-9),
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
        (DeepLIFT(), 1e-9),
        (DeepSHAP(background=["zero", 0.7, -2.0]), 1e-9),
        (LRP(), 1e-9),
        (LRP("excitation-bp"), 1e-9),
        (Occlusion(), 1e-9),
        (FeatureAblation(), 1e-9),
        (ExactShapley(), 1e-9),
        (ExactShapley(baseline=0.7), 1e-9),
        (PermutationShapley(), 1e-9),
        (KernelSHAP(), 1e-9),
        (OwenValues(tree=[[1, 3], [0, 2, 4]]), 1e-9),
        (OwenValues(tree=[0, 1, 2, 3, 4]), 1e-9),
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
        (DeepLIFT(), 0),
        (DeepSHAP(background=["zero", 0.7, -2.0]), 0),
        (LRP(), 0),
        (LRP("excitation-bp"), 0),
        (Occlusion(), 1e-12),
        (FeatureAblation(), 1e-12),
        *((method, 1e-12) for method in SHAPLEY if method != KernelSHAP(samples=20)),
        (OwenValues(), 1e-12),
    ],
}
"""Axiom -> methods that hold it, each with the tolerance."""

BREAKS: dict[str, list[Method]] = {
    "completeness": [GradientTimesInput(), Occlusion(), FeatureAblation(), LIME(samples=40), LRP()],
    "conservation": [IntegratedGradients(), LRP(), DeepLIFT(), ExactShapley()],
    "conservation_without_biases": [GradientTimesInput(), Occlusion()],
    "accounting": [GradientTimesInput(), IntegratedGradients(steps=2, quadrature="left")],
    "sensitivity": [Gradient(), LRP(), LRP("excitation-bp")],
    "implementation": [DeepLIFT(), DeepSHAP(), LRP(), LRP("attn-lrp"), ExcitationBackprop()],
    "linearity": [SmoothGradSquared(samples=8), Sobol(samples=40), HSIC(samples=40)],
    "symmetry": [
        GradientSHAP(samples=8, noise=1.0),
        PermutationShapley(samples=16),
        KernelSHAP(samples=20),
        OwenValues(tree=[1, [3, 0, 2, 4]]),
        LIME(samples=40),
    ],
    "dummy": [FullGrad(form="signed"), KernelSHAP(samples=20), LIME(samples=40), RISE(samples=40)],
}
"""Axiom -> methods that are known not to hold it."""

CASES = [(axiom, method, tolerance) for axiom, methods in HOLDS.items() for method, tolerance in methods]


@pytest.mark.parametrize(
    ("axiom", "method", "tolerance"), CASES, ids=[f"{axiom}-{method!r}" for axiom, method, _ in CASES]
)
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), activation=st.sampled_from(SMOOTH))
def test_the_axiom_holds(axiom: str, method: Method, tolerance: float, seed: int, activation: type[nn.Module]) -> None:
    AXIOMS[axiom](method, Case(seed, activation), tolerance)


def test_every_axiom_is_broken_by_some_method() -> None:
    assert set(BREAKS) == set(HOLDS) == set(AXIOMS)


@pytest.mark.parametrize(
    ("axiom", "method"),
    [(axiom, method) for axiom, methods in BREAKS.items() for method in methods],
    ids=[f"{axiom}-{method!r}" for axiom, methods in BREAKS.items() for method in methods],
)
def test_a_method_that_breaks_the_axiom_is_found_out(axiom: str, method: Method) -> None:
    tolerance = max(tolerance for _, tolerance in HOLDS[axiom])
    failures = 0
    for seed in range(4):
        try:
            AXIOMS[axiom](method, Case(seed, nn.Tanh), tolerance)
        except AssertionError:
            failures += 1
    assert failures >= 3


def of_two(model: nn.Module, x: Tensor, method: Method) -> list[float]:
    found: list[float] = relevance(method, model, x)[0].tolist()
    return found


def test_deeplift_tells_two_writings_of_one_function_apart_as_its_critics_print() -> None:
    """Sundararajan 2017, figure 7: (1.5, -0.5) and (2, -1); a path or all orders see the function."""
    first, second = threshold_moved(Case(0, nn.Tanh))
    x = torch.tensor([[3.0, 1.0]]).double()
    assert of_two(first, x, DeepLIFT()) == pytest.approx([1.5, -0.5], abs=1e-12)
    assert of_two(second, x, DeepLIFT()) == pytest.approx([2.0, -1.0], abs=1e-12)
    for net in (first, second):
        assert of_two(net, x, IntegratedGradients(steps=3000, quadrature="midpoint")) == pytest.approx(
            [1.5, -0.5], abs=1e-3
        )
        assert of_two(net, x, ExactShapley()) == pytest.approx([1.5, -0.5], abs=1e-12)


def test_lrp_tells_two_writings_of_one_function_apart() -> None:
    """``exp(a + b)``: shares ``a`` and ``b`` of ``(e^s - 1) / s`` with s = a + b; as a product, half and half."""
    sum_of, product_of = (
        Made(lambda _, x: torch.exp(x[:, :1] + x[:, 1:])).eval(),
        Made(lambda _, x: torch.exp(x[:, :1]) * torch.exp(x[:, 1:])).eval(),
    )
    x, (a, b) = torch.tensor([[1.0, 2.0]]).double(), (1.0, 2.0)
    slope = (math.exp(a + b) - 1) / (a + b)
    assert of_two(sum_of, x, LRP("attn-lrp")) == pytest.approx([a * slope, b * slope])
    half = math.exp(a + b) / 2
    shares = [half * (math.exp(a) - 1) / math.exp(a), half * (math.exp(b) - 1) / math.exp(b)]
    assert of_two(product_of, x, LRP("attn-lrp")) == pytest.approx(shares)


@pytest.mark.parametrize("method", [Occlusion(), FeatureAblation()])
def test_taking_away_one_at_a_time_counts_what_two_do_together_twice_or_never(method: Method) -> None:
    """Of a product both get all of it; of a maximum of equals neither gets any. Shapley values split both evenly."""
    product = Made(lambda _, x: x[:, :1] * x[:, 1:]).eval()
    x = torch.tensor([[2.0, 3.0]]).double()
    assert of_two(product, x, method) == [6.0, 6.0]
    assert of_two(product, x, ExactShapley()) == [3.0, 3.0]
    maximum = Made(lambda _, x: x.amax(1, keepdim=True)).eval()
    x = torch.tensor([[3.0, 3.0]]).double()
    assert of_two(maximum, x, method) == [0.0, 0.0]
    assert of_two(maximum, x, ExactShapley()) == [1.5, 1.5]


def test_lrp_gives_nothing_to_what_only_a_constant_carries() -> None:
    """``1 - relu(1 - x)`` at x = 2 (Sundararajan 2017, section 2.1): no signal arrives through the ReLU that is off."""
    net = Made(lambda _, x: 1 - torch.relu(1 - x)).eval()
    x = torch.full((1, 1), 2.0, dtype=torch.float64)
    found = pl.explain(net, x, target=0, method="lrp")
    assert found.relevance.tolist() == [[0.0]]
    assert found.ledger is not None
    assert found.ledger.amounts["constant"] == 1.0
    assert relevance(DeepLIFT(), net, x).tolist() == [[1.0]]
