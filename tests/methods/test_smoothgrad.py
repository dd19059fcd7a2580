"""SmoothGrad and its kin: against Captum on the same noise, against their formulas, and how sure they are."""

from __future__ import annotations

from typing import Any

import captum.attr as captum
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import SmoothGrad, SmoothGradSquared, VarGrad
from tests.methods.watching import Given, Stop, Watched
from tests.trace.models import MODELS, convolutional, dense, numbers, seeded

TARGETS = [0, 1, 2, 1]
KINDS: dict[str, Any] = {"smoothgrad": SmoothGrad, "smoothgrad_sq": SmoothGradSquared, "vargrad": VarGrad}


def wavy() -> nn.Module:
    """A net whose gradient changes everywhere."""
    return seeded(lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))).double()


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("multiply", [False, True])
def test_captum_gives_the_same_for_the_same_noise(
    name: str, kind: str, multiply: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, shape = MODELS[name]
    x, targets = numbers(*shape).double(), TARGETS[: shape[0]]
    given = Given()
    method = KINDS[kind](samples=7, noise=0.3, multiply_by_input=multiply)
    ours = pl.explain(Watched(build().double(), given), x, target=targets, method=method)
    noise = iter((given.rows().reshape(7, *x.shape) - x).unbind())

    monkeypatch.setattr(torch, "normal", lambda *_, **__: next(noise))
    tunnel = captum.NoiseTunnel(captum.Saliency(build().double()))
    theirs = tunnel.attribute(
        x, nt_type=kind, nt_samples=7, nt_samples_batch_size=1, stdevs=1.0, target=targets, abs=False
    )
    power = 1 if kind == "smoothgrad" else 2
    theirs = theirs * (7 / 6 if kind == "vargrad" else 1)  # Captum's variance is that of the draws, not the unbiased
    assert torch.allclose(ours.relevance, theirs * x**power if multiply else theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("relative", "expected"), [(True, [0.5, 2.0]), (False, [0.25, 0.25])])
def test_the_noise_is_relative_to_the_range_of_each_sample(relative: bool, expected: list[float]) -> None:
    x = torch.zeros(2, 3, 20, 20, dtype=torch.float64)
    x[0, 0, 0, 0], x[1, 0, 0, 0], x[1, 2, 1, 1] = 2, 7, -1
    given = Given()
    model = Watched(nn.Sequential(nn.Flatten(), nn.Linear(1200, 2)).double().eval(), given)
    pl.explain(model, x, target=0, method=SmoothGrad(samples=64, noise=0.25, relative=relative))
    noise = given.rows().reshape(64, *x.shape) - x
    assert noise.std((0, 2, 3, 4)).tolist() == pytest.approx(expected, rel=0.02)
    assert noise.mean((0, 2, 3, 4)).abs().max() < 0.02
    size = torch.tensor(expected, dtype=torch.float64).view(1, 2, 1, 1, 1)
    assert torch.allclose((noise / size)[:, 0], (noise / size)[:, 1])  # the same draws for every sample


def test_a_constant_sample_gets_no_noise_and_says_so() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    x[1] = 0.5
    result = pl.explain(model, x, target=0, method=SmoothGrad(samples=3))
    assert "All values of a sample are equal at the input 'x'" in result.warnings[0]
    assert torch.allclose(result.relevance[1], pl.explain(model, x, target=0, method="gradient").relevance[1])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_standard_error_is_that_of_other_seeds(kind: str) -> None:
    model, x = wavy(), numbers(1, 6).double()
    method = KINDS[kind](samples=40, noise=0.2)
    runs = [pl.explain(model, x, target=1, method=method, seed=seed) for seed in range(60)]
    found = torch.stack([run.relevance[0] for run in runs])
    told = torch.stack([run.details["standard error"][0] for run in runs])
    ratio = told.square().mean(0).sqrt() / found.std(0)
    assert 0.75 < float(ratio.mean()) < 1.25
    exact = pl.explain(model, x, target=1, method=KINDS[kind](samples=60_000, noise=0.2)).relevance[0]
    assert bool(((found.mean(0) - exact).abs() < 4 * told.square().mean(0).sqrt() / 60**0.5).all())


def test_a_tolerance_is_met_by_more_samples_or_missed_aloud() -> None:
    model, x = wavy(), numbers(3, 6).double()
    method = SmoothGrad(samples=4, noise=0.3, tolerance=0.03, most_samples=4096)
    result = pl.explain(model, x, target=0, method=method)
    error = result.details["standard error"]
    assert bool((error.norm(dim=1) <= 0.03 * result.relevance.norm(dim=1)).all())
    assert isinstance(result.settings["samples taken"], int)
    assert 4 < result.settings["samples taken"] <= 4096
    assert not result.warnings
    for i in range(3):
        alone = pl.explain(model, x[i : i + 1], target=0, method=method)
        assert torch.allclose(result.relevance[i : i + 1], alone.relevance, atol=1e-12)
        assert torch.allclose(error[i : i + 1], alone.details["standard error"], atol=1e-12)
    late = pl.explain(model, x, target=0, method=SmoothGrad(samples=4, noise=0.3, tolerance=1e-4, most_samples=8))
    assert "3 of 3 samples did not meet tolerance=0.0001 within 8 samples" in late.warnings[0]


def test_more_samples_continue_the_draws() -> None:
    model, x = wavy(), numbers(2, 6).double()
    refined = pl.explain(model, x, target=0, method=SmoothGrad(samples=4, tolerance=1e-6, most_samples=16))
    at_once = pl.explain(model, x, target=0, method=SmoothGrad(samples=16))
    assert torch.allclose(refined.relevance, at_once.relevance, atol=1e-12)
    assert torch.allclose(refined.details["standard error"], at_once.details["standard error"], atol=1e-12)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_at_a_layer_it_is_the_gradient_there_under_noise_at_the_input(kind: str) -> None:
    model, x = convolutional().double(), numbers(2, 3, 8, 8).double()
    given = Given()
    watched = Watched(model, given)
    result = pl.explain(watched, x, target=1, layer="model.2", method=KINDS[kind](samples=5, noise=0.3))
    gradients = []
    for row in given.rows():
        there = model[:3](row[None]).detach().requires_grad_()  # type: ignore[index]
        gradients.append(torch.autograd.grad(model[3:](there)[0, 1], there)[0])  # type: ignore[index]
    by_draw = torch.cat(gradients).unflatten(0, (5, 2))
    expected = {
        "smoothgrad": by_draw.mean(0), "smoothgrad_sq": by_draw.square().mean(0), "vargrad": by_draw.var(0)
    }[kind]  # fmt: skip
    assert torch.allclose(result.layers["model.2"], expected, atol=1e-12)
    assert sum(map(len, given.passes[-1:])) == 10  # inputs and layer come out of one pass


def test_token_ids_get_the_gradient_summed_over_features() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(10, 6), nn.Linear(6, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.tanh(self.table(ids)).sum(1))

    model = seeded(Words).double()
    ids = torch.tensor([[1, 2, 3, 4]])
    plain = pl.explain(model, ids, target=0, method="gradient").relevance
    squared = pl.explain(model, ids, target=0, method=SmoothGradSquared(samples=3, noise=0.0))
    assert torch.allclose(squared.relevance, plain**2)
    assert torch.allclose(squared.details["standard error"], torch.zeros_like(plain), atol=1e-12)


def test_ctrl_c_gives_the_mean_of_the_draws_so_far() -> None:
    x = numbers(2, 6).double()
    memory = 3000  # a few rows at once
    whole = pl.explain(Watched(wavy(), Stop(10_000)), x, target=0, method=SmoothGrad(samples=64), memory=memory)
    with pytest.raises(pl.Interrupted) as caught:
        pl.explain(Watched(wavy(), Stop(5)), x, target=0, method=SmoothGrad(samples=64), memory=memory)
    partial = caught.value.partial
    assert partial.settings["partial"] is True
    assert "estimate so far" in partial.warnings[0]
    error = partial.details["standard error"]
    assert bool((error > whole.details["standard error"]).all())
    assert bool(((partial.relevance - whole.relevance).abs() < 5 * error).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "Expected samples as a whole number of 1 or more for smoothgrad, got 0"),
        ({"samples": 2.5}, "got 2.5"),
        ({"noise": -0.1}, "Expected noise as a number of 0 or more, got -0.1"),
        ({"noise": float("inf")}, "Expected noise as a number of 0 or more, got inf"),
        ({"tolerance": 0}, "Expected tolerance > 0, or None for a fixed number of samples, got 0"),
        ({"tolerance": 0.1, "most_samples": 10}, r"Expected most_samples >= samples \(50\)"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SmoothGrad(**settings)


def test_a_variance_needs_two_samples() -> None:
    with pytest.raises(InputError, match="2 or more for vargrad"):
        VarGrad(samples=1)
    assert "standard error" not in pl.explain(dense(), numbers(2, 6), target=0, method=VarGrad(samples=3)).details
