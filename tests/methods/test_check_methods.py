"""The flight check's rows for methods: whether each will work, what it costs, what is to blame; none is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import Attribution, Call, Cost, Method, methods, register, unregister
from pellucid.targets import Target
from pellucid.testing import check_restores
from tests.trace.models import MODELS, dense, numbers

pytestmark = pytest.mark.core


@dataclass(frozen=True)
class Picky(Method):
    """Fits nothing."""

    name: ClassVar[str] = "picky"
    family: ClassVar[Any] = "gradient"
    cost: ClassVar[str] = "unknown"
    advice: ClassVar[str] = "Never."
    citation: ClassVar[str] = "@misc{none}"

    def attribute(self, call: Call, target: Target) -> Attribution:
        raise AssertionError("the check runs no method")

    def unfit(self, call: Call) -> str | None:
        return "layer '2' is no convolution"

    def passes(self, call: Call) -> Cost:
        return Cost(None, 3)


class Careless(Picky):
    name: ClassVar[str] = "careless"

    def unfit(self, call: Call) -> str | None:
        raise KeyError("oh\nno")


@pytest.fixture
def registered() -> Iterator[None]:
    for kind in (Picky, Careless):
        register(kind)
    yield
    for kind in (Picky, Careless):
        unregister(kind.name)


class Strange(nn.Module):
    class Curious(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return 2 * gradient

    def __init__(self) -> None:
        super().__init__()
        self.body = dense()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.Curious.apply(x))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_method_has_its_row(name: str) -> None:
    build, shape = MODELS[name]
    found = pl.check(build(), numbers(*shape), target=0)
    rows = {fit.method: fit for fit in found.methods}
    assert list(rows) == list(methods())
    for method in ("lrp", "gradient", "integrated-gradients"):
        assert rows[method].fits, rows[method]
    assert (rows["gradient"].forwards, rows["gradient"].gradients) == (0, 1)
    assert rows["gradient"].seconds is not None
    assert all(fit.family == methods()[fit.method].family for fit in found.methods)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [row["method"] for row in document["methods"]] == list(methods())
    assert set(document["methods"][0]) == {
        "method", "family", "fits", "reason", "forwards", "gradients", "seconds", "remark"
    }  # fmt: skip
    assert "integrated-gradients" in str(found)


def test_reasons_are_told_and_one_that_fails_is_no_harm(registered: None) -> None:
    found = pl.check(dense(), numbers(2, 6), target=0)
    picky, careless = (next(fit for fit in found.methods if fit.method == name) for name in ("picky", "careless"))
    assert (picky.fits, picky.reason) == (False, "layer '2' is no convolution")
    assert (picky.forwards, picky.gradients, picky.seconds) == (None, 3, None)
    assert careless.reason.startswith("KeyError: ")
    assert "\n" not in careless.reason
    line = next(line for line in str(found).splitlines() if line.startswith("picky"))
    assert line.split() == ["picky", "no", *"layer '2' is no convolution".split()]
    assert next(fit for fit in found.methods if fit.method == "gradient").fits


def test_what_has_no_rule_is_to_blame_for_walks_alone() -> None:
    model, x = nn.Sequential(nn.Linear(6, 6), Strange()).eval(), numbers(2, 6)
    found = check_restores(model, x, lambda: pl.check(model, x, target=0))
    rows = {fit.method: fit for fit in found.methods}
    assert not rows["lrp"].fits
    assert "Curious" in rows["lrp"].reason
    assert "in module '1'" in rows["lrp"].reason
    assert rows["gradient"].fits
    with pytest.raises(pl.UnknownOpError):
        pl.explain(model, x, target=0)


def test_the_composite_asked_for_is_judged() -> None:
    found = pl.check(dense(), numbers(2, 6), target=0, composite="epsilon")
    assert next(fit for fit in found.methods if fit.method == "lrp").fits
    assert found.composite == "epsilon"
