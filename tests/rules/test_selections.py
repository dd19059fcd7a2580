"""Selections by the type of a module and by position give their rule to just the layers that they name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import Composite
from pellucid.engine.ops import Op
from pellucid.rules import Epsilon, Flat, Gamma, LinearRule
from pellucid.selection import Selection, select
from tests.rules.helpers import one_rule

pytestmark = pytest.mark.core


class Net(nn.Module):
    """Two branches that meet in a sum: both first layers are first, both heads are last."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6))
        self.head, self.shortcut = nn.Linear(6, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.left(x))) + torch.relu(self.right(x))
        x = x.mean((2, 3))
        return self.head(torch.relu(self.body(x))) + self.shortcut(x)


def case() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Net().eval().double(), torch.randn(2, 3, 6, 6, dtype=torch.float64)


class Spy(LinearRule):
    """Epsilon that notes where it was used."""

    def __init__(self) -> None:
        self.modules: list[str] = []

    def propagate(self, layer: Any, density: Tensor) -> Any:
        self.modules.append(layer.module)
        return Epsilon().propagate(layer, density)


LAYERS = {"left", "right", "body.0", "body.2", "head", "shortcut"}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (select(type="Conv2d"), {"left", "right"}),
        (select(type="Conv*"), {"left", "right"}),
        (select(type="Linear"), {"body.0", "body.2", "head", "shortcut"}),
        (select(type="Lin*", name="body.*"), {"body.0", "body.2"}),
        (select(type="linear"), set()),
        (select(last=True), {"head", "shortcut"}),
        (select("layer", last=True), {"head", "shortcut"}),
        (select("convolution", last=True), set()),
        (select(last=False), LAYERS - {"head", "shortcut"}),
        (select(first=True), {"left", "right"}),
        (select("linear", first=True), set()),
        (select("linear"), {"body.0", "body.2", "head", "shortcut"}),
        (select("convolution"), {"left", "right"}),
        (select("layer"), LAYERS),
        (select(first=False, last=False), {"body.0", "body.2"}),
        (select(type="Linear", last=True, name="short*"), {"shortcut"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),  # the same in every process
)
def test_the_rule_is_used_just_where_selected(selection: Selection, expected: set[str]) -> None:
    model, x = case()
    spy = Spy()
    result = pl.explain(model, x, target=0, composite=Composite([(selection, spy)]) + one_rule(Epsilon()))
    assert sorted(spy.modules) == sorted(expected)
    assert result.ledger.closed(1e-9)


def test_a_type_may_be_of_any_operation() -> None:
    model, x = case()
    seen = []

    def relu(step: Any, densities: Any) -> Any:
        seen.append(step.op)
        return step.keep_live(step.native(densities))

    pl.explain(model, x, target=0, composite=Composite([(select(type="ReLU"), relu)]))
    assert seen == [Op.RELU]  # of four, the only one that a module runs


def test_the_last_layer_may_have_a_rule_of_its_own() -> None:
    """By hand: flat shares of the last layer, which pass the ReLU as they are, then gamma."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).eval().double()
    x = torch.randn(3, 5, dtype=torch.float64)
    result = pl.explain(model, x, target=1, composite=Composite([(select(last=True), Flat()), (select(), Gamma())]))
    arrived = (model(x)[:, 1:] / 4).expand(-1, 4).detach()
    body = pl.explain(model[0], x, target=lambda y: (arrived / y.detach() * y).sum(1), composite=one_rule(Gamma()))
    torch.testing.assert_close(result.relevance, body.relevance, rtol=1e-9, atol=1e-12)


def test_they_print_what_they_select() -> None:
    assert str(select(type="Conv2d", last=True)) == "last any operation in Conv2d"
    assert str(select("linear", last=False)) == "linear that is not last"
