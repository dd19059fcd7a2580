"""Products of live signals share half each; gates take nothing; softmax is a gate or its first-order expansion."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import Composite
from pellucid.rules import Gate, Half, SignalTakesAll, Taylor, Zero
from pellucid.selection import select
from tests.oracles.attention import scaled_gradient
from tests.rules.helpers import explained, weighted

pytestmark = pytest.mark.core

F64 = torch.float64


class Two(nn.Module):
    """`join` of two linear branches of x (N, 6), each (N, 4), then a read-out."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.join = join
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(6, 4, bias=False), nn.Linear(6, 4, bias=False)
        self.head = nn.Linear(4, 3, bias=False)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.join(self.left(x), self.right(x)))


def _case(
    join: Callable[[Tensor, Tensor], Tensor], surrogate: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Relevance of `Two(join)`, and x times the gradient of `surrogate`, which has join's value."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, dtype=F64, generator=generator)
    density = torch.randn(2, 3, dtype=F64, generator=generator)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((Two(surrogate)(leaf) * density).sum(), leaf)
    torch.testing.assert_close(Two(surrogate)(x), Two(join)(x))
    return explained(Two(join), x, density).relevance, x * gradient


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return (a.reshape(-1, 2, 2) @ b.reshape(-1, 2, 2)).flatten(1)


SE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "half": (lambda a, b: a * b, lambda a, b: scaled_gradient(a * b, 0.5)),
    "matmul-half": (_matmul, lambda a, b: scaled_gradient(_matmul(a, b), 0.5)),
    "einsum-half": (
        lambda a, b: torch.einsum("nij,njk->nik", a.reshape(-1, 2, 2), b.reshape(-1, 2, 2)).flatten(1),
        lambda a, b: scaled_gradient(_matmul(a, b), 0.5),
    ),
    "with-a-constant": (lambda a, b: a * b.detach(), lambda a, b: a * b.detach()),
    "sigmoid-gate": (lambda a, b: a * torch.sigmoid(b), lambda a, b: a * torch.sigmoid(b).detach()),
    "sigmoid-gate-first": (lambda a, b: torch.sigmoid(a) * b, lambda a, b: torch.sigmoid(a).detach() * b),
    "glu": (lambda a, b: F.glu(torch.cat([a, b], -1)), lambda a, b: a * torch.sigmoid(b).detach()),
    "hardsigmoid-gate": (lambda a, b: a * F.hardsigmoid(b), lambda a, b: a * F.hardsigmoid(b).detach()),
    "exponential-gate": (lambda a, b: a * torch.exp(b), lambda a, b: a * torch.exp(b).detach()),
    "division": (lambda a, b: a / (1 + b.square()), lambda a, b: a / (1 + b.square()).detach()),
    "gate-through-layers": (
        lambda a, b: a * torch.sigmoid(F.relu(b).mean(-1, keepdim=True) * 2 - 1),
        lambda a, b: a * torch.sigmoid(F.relu(b).mean(-1, keepdim=True) * 2 - 1).detach(),
    ),
    "convex-combination": (
        lambda a, b: torch.sigmoid(a) * b + (1 - torch.sigmoid(a)) * a,
        lambda a, b: torch.sigmoid(a).detach() * b + (1 - torch.sigmoid(a)).detach() * a,
    ),
}


@pytest.mark.parametrize("name", SE)
def test_products_and_gates(name: str) -> None:
    relevance, expected = _case(*SE[name])
    torch.testing.assert_close(relevance, expected, atol=1e-12, rtol=1e-10)


class Attend(nn.Module):
    """softmax(a) @ x-values, one head, written out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scores, self.values = nn.Linear(4, 5), nn.Linear(4, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.scores(x), -1) @ self.values(x)


def _attend(x: Tensor, *, taylor: bool) -> Tensor:
    net = Attend()
    weights = torch.softmax(net.scores(x), -1)
    if not taylor:
        return weights.detach() @ net.values(x)
    return scaled_gradient(weights @ net.values(x), 0.5)


@pytest.mark.parametrize("taylor", [True, False])
def test_softmax(taylor: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 4, dtype=F64, generator=generator)
    density = torch.randn(2, 5, 3, dtype=F64, generator=generator)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((_attend(leaf, taylor=taylor) * density).sum(), leaf)
    composite = Composite([(select(op="softmax"), Taylor() if taylor else Gate()), (select(), Zero())])
    result = pl.explain(Attend(), x, target=weighted(density), composite=composite)
    torch.testing.assert_close(result.relevance, x * gradient, atol=1e-12, rtol=1e-10)
    assert result.ledger is not None
    assert result.ledger.closed(1e-10), str(result.ledger)


def test_rules_for_products_can_be_chosen() -> None:
    """The plain product of two signals: half each, or all to the first factor that is no gate."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, dtype=F64, generator=generator)
    density = torch.ones(2, 3, dtype=F64)
    net = Two(lambda a, b: F.silu(a) * b)
    half = pl.explain(net, x, target=weighted(density), composite=Composite([(select(op="product"), Half())]))
    whole = pl.explain(
        net, x, target=weighted(density), composite=Composite([(select(op="product"), SignalTakesAll())])
    )
    for result in (half, whole):
        assert result.ledger is not None
        assert result.ledger.closed(1e-10), str(result.ledger)
    assert not torch.allclose(half.relevance, whole.relevance)
