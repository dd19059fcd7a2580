"""DeepLIFT and DeepSHAP: against Captum where it works, and closed books where it refuses or is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr as captum
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError, ModelError
from pellucid.methods import DeepLIFT, DeepSHAP
from tests.trace.models import Made, numbers, seeded

LIMIT = 1e-9

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor", r"ignore:\s*Setting forward")


def share_of(model: nn.Module, x: Any, baseline: Any, target: int = 1) -> Tensor:
    """What the relevance must sum to, per sample."""
    with torch.no_grad():
        return model(x)[:, target] - model(baseline)[:, target]


def closes(model: nn.Module, x: Tensor, baseline: Tensor, limit: float = LIMIT) -> Tensor:
    found = pl.explain(model, x, target=1, method=DeepLIFT(baseline=baseline))
    expected = share_of(model, x, baseline.expand_as(x))
    summed = found.relevance.flatten(1).sum(1)
    assert torch.allclose(summed, expected, rtol=limit, atol=limit)
    assert found.ledger is not None
    assert found.ledger.closed(max(limit, 1e-9))
    return found.relevance


def dense(activation: Callable[[], nn.Module]) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3)))


def convolutional() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 5, 2), nn.ELU(), nn.Flatten(), nn.Linear(20, 3)
        )
    )


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.LeakyReLU, nn.Softplus])
def test_rescale_equals_captum(activation: Any) -> None:
    model, x = dense(activation).double(), numbers(3, 6).double()
    baseline = numbers(3, 6, seed=4).double()
    theirs = captum.DeepLift(model).attribute(x, baseline, target=1)
    ours = pl.explain(model, x, target=1, method=DeepLIFT(baseline=baseline)).relevance
    assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-9)


def test_convolutions_and_pooling_equal_captum() -> None:
    model, x = convolutional().double(), numbers(2, 3, 8, 8).double()
    theirs = captum.DeepLift(model).attribute(x, target=1)
    assert torch.allclose(pl.explain(model, x, target=1, method="deeplift").relevance, theirs, rtol=1e-8, atol=1e-9)


def test_one_unit_is_the_papers_formula() -> None:
    """``C = (x - x0) w (relu(z) - relu(z0)) / (z - z0)`` (Shrikumar 2017, eq. 11)."""
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0, -1.0]]))
        model[0].bias.copy_(torch.tensor([-0.5]))
        model[2].weight.copy_(torch.tensor([[1.0], [3.0]]))
    x, x0 = torch.tensor([[1.0, 0.25]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    z, z0 = 2 - 0.25 - 0.5, -2 - 0.5 - 0.5
    slope = (max(z, 0) - max(z0, 0)) / (z - z0)
    expected = (x - x0) * torch.tensor([2.0, -1.0]) * slope * 3
    found = pl.explain(model, x, target=1, method=DeepLIFT(baseline=x0)).relevance
    assert torch.allclose(found, expected, atol=1e-12)


def test_where_input_and_baseline_are_the_same_it_is_nothing_and_near_it_the_gradient() -> None:
    model, x = dense(nn.Tanh).double(), numbers(2, 6).double()
    assert torch.equal(pl.explain(model, x, target=1, method=DeepLIFT(baseline=x)).relevance, torch.zeros_like(x))
    step = 1e-7
    near = pl.explain(model, x, target=1, method=DeepLIFT(baseline=x - step)).relevance / step
    gradient = pl.explain(model, x, target=1, method="gradient").relevance
    assert torch.allclose(near, gradient, rtol=1e-4, atol=1e-6)


def reused(self: Any, x: Tensor) -> Tensor:
    for _ in range(3):
        x = x + self.act(self.mix(x))
    return self.head(x)


def functional(self: Any, x: Tensor) -> Tensor:
    h = F.gelu(self.a(x))
    h = h * torch.sigmoid(self.b(x)) + F.relu(h)
    return self.head(h / (1 + h.abs().sum(1, keepdim=True)))


def branching(self: Any, x: Tensor) -> Tensor:
    h = torch.cat([torch.tanh(self.a(x)), torch.maximum(self.b(x), x)], 1)
    return self.head(F.layer_norm(h, (12,)).softmax(1) * h)


MADE = {
    "reused modules and residual adds": (reused, {"mix": (6, 6), "head": (6, 3)}),
    "functions, gates and quotients": (functional, {"a": (6, 6), "b": (6, 6), "head": (6, 3)}),
    "branches, maxima, norms, softmax": (branching, {"a": (6, 6), "b": (6, 6), "head": (12, 3)}),
}


def made(case: str) -> nn.Module:
    forward, parts = MADE[case]
    return seeded(
        lambda: Made(forward, act=nn.ReLU(), **{name: nn.Linear(*size) for name, size in parts.items()})
    ).double()


@pytest.mark.parametrize("case", sorted(MADE))
def test_shares_sum_to_the_difference_on_any_architecture(case: str) -> None:
    closes(made(case), numbers(3, 6).double(), numbers(1, 6, seed=9).double())


def test_captum_refuses_a_module_that_runs_again() -> None:
    model, x = made("reused modules and residual adds"), numbers(2, 6).double()
    with pytest.raises(RuntimeError, match="more than once"):
        captum.DeepLift(model).attribute(x, target=1)
    closes(model, x, torch.zeros(1, 6).double())


def test_captum_misses_functions_silently() -> None:
    """It hooks modules only, so that a functional ReLU gets its gradient instead of the slope of the secant."""
    model, x = made("functions, gates and quotients"), numbers(2, 6).double()
    theirs = captum.DeepLift(model).attribute(x, target=1).detach()
    assert float((theirs.sum(1) - share_of(model, x, x * 0)).abs().max()) > 1e-3
    closes(model, x, torch.zeros(1, 6).double())


@pytest.mark.parametrize("kind", ["max-pool", "lstm", "transformer", "batch norm in place"])
def test_layers_of_every_kind_close_the_books(kind: str) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 5, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.lstm(x)[0][:, -1])
            return out

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.block(x).mean(1))
            return out

    builds: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "max-pool": (
            lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)),
            (2, 2, 8, 8),
        ),
        "lstm": (Recurrent, (2, 5, 4)),
        "transformer": (Attending, (2, 6, 8)),
        "batch norm in place": (
            lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
            (2, 6),
        ),
    }
    build, shape = builds[kind]
    model, x = seeded(build).double().eval(), numbers(*shape).double()
    closes(model, x, numbers(1, *shape[1:], seed=5).double(), 1e-7)


def test_several_baselines_and_backgrounds_are_means() -> None:
    model, x = dense(nn.ReLU).double(), numbers(2, 6).double()
    others = numbers(4, 6, seed=6).double()
    parts = [pl.explain(model, x, target=1, method=DeepLIFT(baseline=b[None])).relevance for b in others]
    mean = torch.stack(parts).mean(0)
    several = pl.explain(model, x, target=1, method=DeepLIFT(baseline=[b[None] for b in others])).relevance
    background = pl.explain(model, x, target=1, method=DeepSHAP(background=others))
    assert torch.allclose(several, mean, atol=1e-12)
    assert torch.allclose(background.relevance, mean, atol=1e-12)
    expected = torch.stack(parts).std(0) / 2
    assert torch.allclose(background.details["standard error"], expected, atol=1e-9)


def test_deep_shap_equals_captum() -> None:
    model, x = dense(nn.ReLU).double(), numbers(2, 6).double()
    others = numbers(5, 6, seed=6).double()
    theirs = captum.DeepLiftShap(model).attribute(x, others, target=2)
    ours = pl.explain(model, x, target=2, method=DeepSHAP(background=others)).relevance
    assert torch.allclose(ours, theirs, atol=1e-9)


def test_a_layer_shares_the_same_difference() -> None:
    model, x = dense(nn.Tanh).double(), numbers(2, 6).double()
    found = pl.explain(model, x, target=1, method="deeplift", layer=["1", "3"])
    theirs = captum.LayerDeepLift(model, model.get_submodule("1")).attribute(x, target=1)
    assert torch.allclose(found.layers["1"], theirs, atol=1e-9)
    for name in ("1", "3"):
        assert torch.allclose(found.layers[name].sum(1), share_of(model, x, x * 0), atol=1e-9)


def test_another_way_through_the_model_is_refused() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.a(x)) if float(x.detach().sum()) > 0 else self.b(x)

    with pytest.raises((ModelError, InputError), match=r"baseline|background"):
        pl.explain(seeded(Forked), torch.ones(1, 4), target=0, method=DeepLIFT(baseline=-1.0))
