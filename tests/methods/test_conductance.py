"""Conductance and internal influence against Captum and against their formulas, derivatives written out."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError, TargetError
from pellucid.methods import Conductance, IntegratedGradients, InternalInfluence
from tests.methods.watching import Given, Stop, Watched
from tests.trace.models import MODELS, Made, numbers, seeded

LAYERS = {"dense": "1", "convolutional": "1", "transformer": "0.linear1"}


def given(name: str) -> tuple[nn.Module, Tensor, list[int], Tensor]:
    """Model, input, a target for each sample, and a baseline at which norms are well conditioned."""
    build, shape = MODELS[name]
    x = numbers(*shape).double()
    return build().double(), x, [0, 1, 2, 1][: len(x)], numbers(*shape, seed=5).double()


def along(head: Any, tail: Any, x: Tensor, base: Tensor, target: int, steps: int) -> tuple[Tensor, Tensor]:
    """Conductance and influence at ``head(x)`` as their papers write them: means over t by the midpoint rule."""
    conductance = influence = 0.0
    for k in range(steps):
        here = base + (k + 0.5) / steps * (x - base)
        z, speed = torch.autograd.functional.jvp(head, here, x - base)
        leaf = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(tail(leaf)[:, target].sum(), leaf)
        conductance = conductance + slope * speed.detach() / steps
        influence = influence + slope / steps
    return torch.as_tensor(conductance), torch.as_tensor(influence)


def test_both_are_what_their_papers_write() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)))
    model, x, base = model.double(), 2 * numbers(3, 6).double(), numbers(3, 6, seed=5).double()
    for layer, cut in (("1", 2), ("2", 3), ("3", 4)):
        conductance, influence = along(model[:cut], model[cut:], x, base, 1, 400)  # type: ignore[index]
        ours = pl.explain(model, x, target=1, method=Conductance(steps=400, baseline=base), layer=layer)
        assert torch.allclose(ours.layers[layer], conductance, atol=2e-5)
        assert ours.ledger is not None
        assert ours.ledger.closed(1e-4)
        method = InternalInfluence(steps=40, baseline=base)
        assert torch.allclose(
            pl.explain(model, x, target=1, method=method, layer=layer).layers[layer], influence, atol=1e-5
        )


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_internal_influence_is_captums(name: str) -> None:
    model, x, targets, base = given(name)
    layer = LAYERS[name]
    peer = captum.InternalInfluence(model, dict(model.named_modules())[layer])
    theirs = peer.attribute(x, base, target=targets, n_steps=15)
    ours = pl.explain(model, x, target=targets, method=InternalInfluence(steps=15, baseline=base), layer=layer)
    assert torch.allclose(ours.layers[layer], theirs, atol=1e-7)  # Captum's nodes are made in single precision


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_captums_conductance_tends_to_ours_more_slowly(name: str) -> None:
    """Captum takes the gradient at the left end of every step; the trapezoidal rule is of second order."""
    model, x, targets, base = given(name)
    layer = LAYERS[name]
    peer = captum.LayerConductance(model, dict(model.named_modules())[layer])

    def theirs(steps: int) -> Tensor:
        found = peer.attribute(x, base, target=targets, n_steps=steps, internal_batch_size=200, method="riemann_left")
        return found.detach()  # type: ignore[union-attr]

    def ours(steps: int) -> Tensor:
        method = Conductance(steps=steps + 1, baseline=base)
        return pl.explain(model, x, target=targets, method=method, layer=layer).layers[layer]

    truth = ours(3200)
    gaps = [float((theirs(steps) - truth).norm() / truth.norm()) for steps in (50, 1600)]
    assert gaps[1] < 0.1 * gaps[0]
    assert gaps[1] < 2e-3
    assert float((ours(50) - truth).norm() / truth.norm()) < gaps[0]


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_over_a_layer_that_all_paths_cross_it_sums_to_the_difference(name: str) -> None:
    model, x, targets, base = given(name)
    layer = {"dense": "1", "convolutional": "1", "transformer": "0.norm1"}[name]
    found = pl.explain(model, x, target=targets, method=Conductance(steps=300, baseline=base), layer=layer)
    difference = (model(x) - model(base)).gather(1, torch.tensor(targets)[:, None])[:, 0].detach()
    assert torch.allclose(found.layers[layer].flatten(1).sum(1), difference, atol=3e-3 * float(difference.abs().max()))


def test_at_the_input_they_are_integrated_gradients_with_and_without_the_way() -> None:
    model, x, targets, base = given("convolutional")
    whole = IntegratedGradients(steps=12, quadrature="trapezoid", baseline=[base, 0.3])
    expected = pl.explain(model, x, target=targets, method=whole)
    conductance = pl.explain(model, x, target=targets, method=Conductance(steps=12, baseline=[base, 0.3]))
    assert torch.allclose(conductance.relevance, expected.relevance, atol=1e-13)
    assert conductance.ledger is not None
    assert expected.ledger is not None
    assert conductance.ledger.amounts == pytest.approx(expected.ledger.amounts, rel=1e-9, abs=1e-12)
    influence = InternalInfluence(steps=12, quadrature="trapezoid", baseline=base)
    single = IntegratedGradients(steps=12, quadrature="trapezoid", baseline=base)
    product = pl.explain(model, x, target=targets, method=influence).relevance * (x - base)
    assert torch.allclose(product, pl.explain(model, x, target=targets, method=single).relevance, atol=1e-13)


@pytest.mark.parametrize("method", [Conductance(steps=40), InternalInfluence(steps=40)])
def test_passes_of_a_few_rows_give_the_same(method: Any) -> None:
    model, x, targets, _ = given("convolutional")
    whole = pl.explain(model, x, target=targets, method=method, layer=["0", "2"])
    saw = Given()
    parts = pl.explain(
        Watched(model, saw), x, target=targets, method=method, layer=["model.0", "model.2"], memory=60_000
    )
    assert max(map(len, saw.passes[3:])) < 8
    assert torch.allclose(parts.relevance, whole.relevance, atol=1e-13)
    for name in ("0", "2"):
        assert torch.allclose(parts.layers[f"model.{name}"], whole.layers[name], atol=1e-13)


def test_layers_cost_no_further_passes() -> None:
    model, x, targets, _ = given("convolutional")
    counts = []
    for layer in (None, ["model.0", "model.1", "model.2"]):
        saw = Given()
        pl.explain(Watched(model, saw), x, target=targets, method=Conductance(steps=9), layer=layer)
        counts.append(len(saw.passes))
    assert counts[0] == counts[1]


def test_units_of_a_reused_module_are_refused() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.head(self.act(self.body(self.act(x))))

    model = seeded(lambda: Made(forward, act=nn.Tanh(), body=nn.Linear(6, 6), head=nn.Linear(6, 3)))
    with pytest.raises(InputError, match="layer 'act' runs several times in one forward"):
        pl.explain(model, numbers(2, 6), target=0, method="conductance", layer="act")


def test_ctrl_c_gives_the_influence_so_far() -> None:
    x = numbers(3, 6).double()
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))).double()
    exact = pl.explain(model, x, target=0, method=InternalInfluence(steps=256), layer="1")
    with pytest.raises(pl.Interrupted) as caught:
        pl.explain(
            Watched(model, Stop(9)), x, target=0, method=InternalInfluence(steps=256), layer="model.1", memory=3000
        )
    partial = caught.value.partial
    assert float((partial.relevance - exact.relevance).norm() / exact.relevance.norm()) < 0.1
    there = exact.layers["1"]
    assert float((partial.layers["model.1"] - there).norm() / there.norm()) < 0.1


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="2 or more for the rule 'trapezoid', got 1"):
        Conductance(steps=1)
    with pytest.raises(InputError, match="No quadrature rule is called 'even'"):
        InternalInfluence(quadrature="even")  # type: ignore[arg-type]


def through(model: Any, layer: int, unit: Any, x: Tensor, base: Tensor, target: int, steps: int) -> Tensor:
    """Equation 2 for one unit: the mean over t of dy/dz_j dz_j/dx_i, times the way of the input."""
    head, tail = model[: layer + 1], model[layer + 1 :]
    ends = torch.full((steps,), 1 / (steps - 1)).double()
    ends[[0, -1]] /= 2
    total = torch.zeros_like(x)
    for k, weight in enumerate(ends.tolist()):
        here = (base + k / (steps - 1) * (x - base)).requires_grad_()
        z = head(here)
        (slope,) = torch.autograd.grad(tail(z)[:, target].sum(), z, retain_graph=True)
        (part,) = torch.autograd.grad((z * slope)[:, unit].sum(), here)
        total = total + weight * part
    return total * (x - base)


@pytest.mark.parametrize(
    ("name", "layer", "neuron", "selector"),
    [("dense", "1", "1:4", 4), ("convolutional", "2", "2:3@2,3", (3, 2, 3)), ("transformer", "1", "1:7", 7)],
)
def test_conductance_through_a_neuron_is_captums(name: str, layer: str, neuron: str, selector: Any) -> None:
    model, x, targets, base = given(name)
    peer = captum.NeuronConductance(model, dict(model.named_modules())[layer])
    theirs = peer.attribute(x, selector, base, target=targets, n_steps=17, method="riemann_trapezoid")
    ours = pl.explain(model, x, target=targets, method=Conductance(steps=17, baseline=base, neuron=neuron))
    # Captum's trapezoidal weights sum to 16/17, and are made in single precision.
    assert torch.allclose(ours.relevance, theirs * 17 / 16, rtol=0, atol=1e-7 * float(theirs.abs().max()))  # type: ignore[operator,union-attr]
    assert bool(ours.relevance.any())


def test_conductance_through_a_channel_is_what_its_paper_writes() -> None:
    model, x, _, base = given("convolutional")
    ours = pl.explain(model, x, target=1, method=Conductance(steps=9, baseline=base, neuron="1:2"))
    assert torch.allclose(ours.relevance, through(model, 1, 2, x, base, 1, 9), atol=1e-12)
    assert ours.ledger is None
    assert ours.settings["neuron"] == "1:2"


def test_over_all_neurons_of_a_layer_it_is_integrated_gradients() -> None:
    model, x, targets, base = given("dense")
    parts = [
        pl.explain(model, x, target=targets, method=Conductance(steps=9, baseline=[base, 0.1], neuron=f"0:{k}"))
        for k in range(8)
    ]
    method = IntegratedGradients(steps=9, quadrature="trapezoid", baseline=[base, 0.1])
    whole = pl.explain(model, x, target=targets, method=method).relevance
    assert torch.allclose(torch.stack([part.relevance for part in parts]).sum(0), whole, atol=1e-12)
    small = Conductance(steps=9, baseline=[base, 0.1], neuron="0:3")
    assert torch.allclose(
        pl.explain(model, x, target=targets, method=small, memory=3000).relevance, parts[3].relevance, atol=1e-14
    )


def test_a_way_around_the_neuron_does_not_count() -> None:
    """What a residual connection carries past the unit is no conductance through it."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.head(x + self.body(x))

    model: Any = seeded(lambda: Made(forward, body=nn.Linear(6, 6), head=nn.Linear(6, 3))).double()
    x = numbers(2, 6).double()
    ours = pl.explain(model, x, target=1, method=Conductance(steps=3, neuron="body:4")).relevance
    assert torch.allclose(ours, model.head.weight[1, 4] * model.body.weight[4] * x, atol=1e-12)


def test_neurons_that_there_are_not_are_refused() -> None:
    model, x, targets, _ = given("dense")
    with pytest.raises(InputError, match="Expected neuron as 'layer:unit', such as 'layer4:12', got '3'"):
        Conductance(neuron="3")
    with pytest.raises(TargetError, match="needs the layer 'none'"):
        pl.explain(model, x, target=0, method=Conductance(neuron="none:3"))
    with pytest.raises(TargetError, match="Unit 9 is out of range"):
        pl.explain(model, x, target=0, method=Conductance(neuron="1:9"))
    with pytest.raises(InputError, match="neuron= gives the conductance of inputs alone: leave layer= out"):
        pl.explain(model, x, target=targets, method=Conductance(neuron="1:3"), layer="0")
