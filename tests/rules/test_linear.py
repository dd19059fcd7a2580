"""Every rule for linear maps equals its paper's dense formula; the ledger books what the bias takes in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import InputError
from pellucid.rules import AlphaBeta, Box, Epsilon, Flat, Gamma, Pass, WSquare, Zero, ZPlus
from tests.oracles import dense
from tests.oracles.linear_maps import MAPS, make
from tests.rules.helpers import explained, one_rule, weighted

PAIRS: dict[str, tuple[Any, dense.DenseRule]] = {
    "0": (Zero(), dense.zero),
    "epsilon": (Epsilon(1e-6), dense.epsilon(1e-6)),
    "epsilon-large": (Epsilon(0.3), dense.epsilon(0.3)),
    "gamma": (Gamma(0.25), dense.gamma(0.25)),
    "gamma-large": (Gamma(3.0), dense.gamma(3.0)),
    "alpha-beta-2-1": (AlphaBeta(2.0, 1.0), dense.alpha_beta(2.0, 1.0)),
    "alpha-beta-1.25-0.25": (AlphaBeta(1.25, 0.25), dense.alpha_beta(1.25, 0.25)),
    "z+": (ZPlus(), dense.z_plus()),
    "box": (Box(-4.0, 4.5), dense.box(-4.0, 4.5)),
    "w2": (WSquare(), dense.w_square),
    "flat": (Flat(), dense.flat),
}


@cache
def _dense(name: str) -> dense.Dense:
    module, x, _ = make(name)
    return dense.Dense.of(module, x)


@pytest.mark.parametrize("rule", PAIRS)
@pytest.mark.parametrize("name", MAPS)
def test_equals_dense_formula(name: str, rule: str) -> None:
    """z+ and alpha-beta have a shorter way where no input is negative."""
    ours, theirs = PAIRS[rule]
    for sign in ("both", "positive") if rule.startswith(("z+", "alpha")) else ("both",):
        module, x, density = make(name, sign=sign)
        expected, bias = dense.explain(theirs, module, x, density, dense=_dense(name))
        result = explained(module, x, density, ours)
        torch.testing.assert_close(result.relevance, expected, atol=1e-10, rtol=1e-10)
        assert result.ledger is not None
        assert result.ledger.amounts.get("bias", 0.0) == pytest.approx(bias, abs=1e-9)


@pytest.mark.parametrize("name", ["linear-square", "conv2d-square"])
def test_pass(name: str) -> None:
    module, x, density = make(name)
    expected, _ = dense.explain(dense.passed, module, x, density)
    result = explained(module, x, density, Pass())
    torch.testing.assert_close(result.relevance, expected, atol=1e-10, rtol=1e-10)


def test_box_bounds_per_channel() -> None:
    module, x, density = make("conv2d-padded")
    low = torch.tensor([-4.0, -5.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    high = torch.tensor([4.0, 6.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    expected, _ = dense.explain(dense.box(low[0], high[0]), module, x, density)
    result = explained(module, x, density, Box(low, high))
    torch.testing.assert_close(result.relevance, expected, atol=1e-10, rtol=1e-10)


def test_gamma_is_the_printed_one_where_both_apply() -> None:
    """Montavon 2019 prints gamma for a >= 0 under a ReLU: outputs below zero carry no relevance there."""
    module, x, density = make("conv2d-padded", sign="positive")
    with torch.no_grad():
        density = density * (module(x) > 0)
    expected, _ = dense.explain(dense.gamma_montavon(0.25), module, x, density)
    result = explained(module, x, density, Gamma(0.25))
    torch.testing.assert_close(result.relevance, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rule", PAIRS)
def test_sample_does_not_depend_on_its_batch(rule: str) -> None:
    ours, _ = PAIRS[rule]
    module, x, density = make("conv2d-padded")
    together = explained(module, x, density, ours).relevance
    for n in range(len(x)):
        alone = explained(module, x[n : n + 1], density[n : n + 1], ours).relevance
        torch.testing.assert_close(together[n : n + 1], alone, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("rule", PAIRS)
def test_zero_input_gives_finite_relevance(rule: str) -> None:
    ours, theirs = PAIRS[rule]
    module, x, density = make("conv2d-no-bias")
    x = torch.zeros_like(x)
    result = explained(module, x, density, ours)
    expected, _ = dense.explain(theirs, module, x, density)
    torch.testing.assert_close(result.relevance, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rule", ["z+", "alpha-beta-2-1", "gamma"])
def test_single_precision_with_few_connections(rule: str) -> None:
    """Nine signed contributions are all of one sign now and then: z+ or z- is 0 there, and must not become noise."""
    ours, theirs = PAIRS[rule]
    generator = torch.Generator().manual_seed(0)
    module = nn.Conv2d(8, 8, 3, groups=8, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(3 * torch.randn(module.weight.shape, generator=generator))
    x = torch.randn(1, 8, 16, 16, generator=generator).double()
    density = torch.randn(1, 8, 14, 14, generator=generator).double()
    expected, _ = dense.explain(theirs, module, x, density)
    result = pl.explain(module.float(), x.float(), target=weighted(density.float()), composite=one_rule(ours))
    error = (result.relevance.double() - expected).abs().max() / expected.abs().max()
    assert float(error) < 1e-3


def test_relative_epsilon() -> None:
    """Epsilon as a share of the standard deviation of z over each sample."""
    module, x, density = make("conv2d-padded")
    result = explained(module, x, density, Epsilon(0.25, relative=True))
    with torch.no_grad():
        z = module(x)
    for n in range(len(x)):
        size = 0.25 * float(z[n].std(correction=0))
        one = slice(n, n + 1)
        expected, _ = dense.explain(dense.epsilon(size), module, x[one], density[one])
        torch.testing.assert_close(result.relevance[one], expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    "make_rule",
    [
        lambda: Epsilon(0.0),
        lambda: Epsilon(-1.0),
        lambda: Gamma(-0.5),
        lambda: AlphaBeta(2.0, 2.0),
        lambda: AlphaBeta(0.5, -0.5),
        lambda: Box(1.0, -1.0),
    ],
    ids=["epsilon-0", "epsilon-negative", "gamma-negative", "not-conserving", "beta-negative", "low-above-high"],
)
def test_impossible_parameters(make_rule: Callable[[], Any]) -> None:
    with pytest.raises(InputError):
        make_rule()


def test_bounds_that_do_not_fit_the_input() -> None:
    module, x, density = make("conv2d-padded")
    with pytest.raises(InputError, match=r"7"):
        explained(module, x, density, Box(torch.zeros(7), torch.ones(7)))
