"""What the tests of rules share: a scalar that gives the output a known density, and composites of one rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import Composite
from pellucid.rules import Zero
from pellucid.selection import select


def weighted(density: Tensor) -> Callable[[Tensor], Tensor]:
    """The scalar `sum(y * density)` per sample: the density at the output y is `density`."""
    return lambda y: (y * density).flatten(1).sum(1)


def one_rule(rule: Any) -> Composite:
    """`rule` at every layer that takes one."""
    return Composite([(select(), rule)])


def explained(model: nn.Module, x: Tensor, density: Tensor, rule: Any = None) -> pl.Explanation:
    """Explain `sum(model(x) * density)` with `rule` (LRP-0 unless said) on every layer; the ledger must close."""
    result = pl.explain(model, x, target=weighted(density), composite=one_rule(Zero() if rule is None else rule))
    assert result.ledger is not None
    tolerance = 1e-9 if x.dtype == torch.float64 else 1e-4
    assert result.ledger.closed(tolerance), str(result.ledger)
    return result


class Headed(nn.Module):
    """`body`, then a fixed linear read-out over the last dimension: nothing is an output gate by accident."""

    def __init__(self, body: Callable[[Tensor], Tensor], width: int, *, outputs: int = 3, seed: int = 5) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, outputs, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(outputs, width, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
