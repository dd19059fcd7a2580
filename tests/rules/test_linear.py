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

pytestmark = pytest.mark.core

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


RELATIVE = ["linear", "linear-3d", "linear-3d-no-bias", "matmul-3d", "addmm", "conv1d", "conv2d-padded",
            "conv2d-grouped", "conv2d-one-channel", "conv3d", "conv-transpose2d"]  # fmt: skip


@pytest.mark.parametrize("per", ["sample", "row"])
@pytest.mark.parametrize("name", RELATIVE)
def test_relative_epsilon(name: str, per: Any) -> None:
    """Epsilon as a share of the standard deviation of z over each sample, or over the features of each position."""
    module, x, density = make(name)
    result = explained(module, x, density, Epsilon(0.25, relative=per))
    with torch.no_grad():
        z = module(x)
    features = 1 if name.startswith("conv") else z.ndim - 1
    dims = (features,) if per == "row" else tuple(range(1, z.ndim))
    size = 0.25 * z.std(dims, keepdim=True, correction=0).expand_as(z)
    for n in range(len(x)):
        one, rule = slice(n, n + 1), dense.epsilon(size[n].flatten())
        expected, _ = dense.explain(rule, module, x[one], density[one], dense=_dense(name))
        torch.testing.assert_close(result.relevance[one], expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("per", ["sample", "row"])
def test_relative_epsilon_before_a_relu(per: Any) -> None:
    """The spread is that of z, not of what the ReLU lets through, and True is another word for "sample"."""
    module, x, density = make("conv2d-padded")
    net = nn.Sequential(module, nn.ReLU())
    result = explained(net, x, density, Epsilon(0.25, relative=per))
    with torch.no_grad():
        passed = density * (module(x) > 0)
    expected = explained(module, x, passed, Epsilon(0.25, relative=per))
    torch.testing.assert_close(result.relevance, expected.relevance, atol=1e-10, rtol=1e-10)
    if per == "sample":
        again = explained(net, x, density, Epsilon(0.25, relative=True))
        assert torch.equal(again.relevance, result.relevance)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.inner(x)[0][:, -1]
        return last


class Folded(nn.Module):
    """A dense layer on rows of which no view tells the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.cat(list(x.unbind(1)))).view(x.shape[1], len(x), 3).sum(0)


def test_relative_epsilon_tells_samples_apart() -> None:
    """Recurrent nets have samples second; where nothing tells, it says so instead of mixing them."""
    torch.manual_seed(0)
    net = Recurrent().double().eval()
    x = torch.randn(3, 6, 4).double()
    rule = one_rule(Epsilon(0.25, relative="sample"))

    def of(sequences: torch.Tensor) -> torch.Tensor:
        return pl.explain(net, sequences, target=2, composite=rule).relevance

    together = of(x)
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], of(x[n : n + 1]), atol=1e-12, rtol=1e-12)
    folded = Folded().double().eval()
    with pytest.raises(InputError, match=r"cannot tell which rows .* belong to which of the 3 samples"):
        pl.explain(folded, x, target=1, composite=rule)
    by_row = pl.explain(folded, x, target=1, composite=one_rule(Epsilon(0.25, relative="row")))
    assert by_row.ledger is not None
    assert by_row.ledger.closed(1e-9)


@pytest.mark.parametrize(
    "make_rule",
    [
        lambda: Epsilon(0.0),
        lambda: Epsilon(-1.0),
        lambda: Epsilon(0.1, relative="column"),  # type: ignore[arg-type]
        lambda: Gamma(-0.5),
        lambda: AlphaBeta(2.0, 2.0),
        lambda: AlphaBeta(0.5, -0.5),
        lambda: Box(1.0, -1.0),
    ],
    ids=[
        "epsilon-0",
        "epsilon-negative",
        "epsilon-column",
        "gamma-negative",
        "not-conserving",
        "beta-negative",
        "low-above-high",
    ],
)
def test_impossible_parameters(make_rule: Callable[[], Any]) -> None:
    with pytest.raises(InputError):
        make_rule()


def test_bounds_that_do_not_fit_the_input() -> None:
    module, x, density = make("conv2d-padded")
    with pytest.raises(InputError, match=r"7"):
        explained(module, x, density, Box(torch.zeros(7), torch.ones(7)))
