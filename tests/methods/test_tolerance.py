"""Methods that sample refine until they meet a tolerance, or say that they did not."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import method_named, methods
from tests.methods.test_interrupted import wide
from tests.methods.watching import Watched
from tests.trace.models import numbers, seeded

BACKGROUND = numbers(64, 12, seed=9)
EASY: dict[str, tuple[float, dict[str, Any]]] = {
    "integrated-gradients": (0.001, {"steps": 2, "quadrature": "left"}),
    "smoothgrad": (0.05, {"samples": 4}),
    "smoothgrad-squared": (0.05, {"samples": 4}),
    "vargrad": (0.2, {"samples": 8}),
    "expected-gradients": (0.02, {"samples": 8, "background": BACKGROUND}),
    "gradient-shap": (0.02, {"samples": 8, "background": BACKGROUND}),
    "rise": (0.05, {"samples": 20}),
    "lime": (0.02, {"samples": 40}),
    "kernel-shap": (0.01, {"samples": 60}),
    "permutation-shapley": (0.01, {"samples": 60}),
    "owen-values": (0.005, {"samples": 60, "tree": list(range(12))}),
    "sobol": (0.1, {"samples": 60}),
    "hsic": (0.05, {"samples": 40}),
    "feature-permutation": (0.1, {"permutations": 4, "background": BACKGROUND}),
    "smooth-grad-cam++": (0.05, {"samples": 4, "noise": 0.5}),
}
TOLD = {"deep-shap": {"background": BACKGROUND}}
"""Methods that use all that they are given, and say only whether that is enough."""


class Count:
    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x: Tensor) -> None:
        self.rows += len(x)

    def __deepcopy__(self, _: object) -> Count:
        return self


def subject(name: str, see: Any) -> tuple[nn.Module, Tensor]:
    if name == "smooth-grad-cam++":
        return Watched(wide(), see), numbers(2, 3, 8, 8)
    net = seeded(lambda: nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3)))
    return Watched(net, see), numbers(3, 12)


def start(name: str) -> tuple[str, int]:
    setting = next(key for key in ("samples", "steps", "permutations") if key in EASY[name][1])
    return setting, EASY[name][1][setting]


def test_every_method_with_a_tolerance_is_here() -> None:
    taking = {name for name, kind in methods().items() if "tolerance" in {field.name for field in fields(kind)}}
    assert taking == {*EASY, *TOLD}
    assert {name for name in methods() if "samples" in {field.name for field in fields(methods()[name])}} <= taking


@pytest.mark.parametrize("name", EASY)
def test_it_is_met_on_an_easy_net(name: str) -> None:
    count = Count()
    model, x = subject(name, count)
    tolerance, settings = EASY[name]
    setting, _ = start(name)
    plain = method_named(name).with_settings(**settings)
    pl.explain(model, x, target=0, method=plain)  # what is found out once for a model is known from now on
    count.rows = 0
    loose = pl.explain(model, x, target=0, method=plain)
    before, count.rows = count.rows, 0
    method = plain.with_settings(tolerance=tolerance, **{f"most_{setting}": 100_000})
    met = pl.explain(model, x, target=0, method=method)
    assert count.rows > before  # it had to go on
    assert not any("tolerance" in warning for warning in met.warnings), met.warnings
    assert not torch.equal(met.relevance, loose.relevance)
    alone = pl.explain(model, x[1:2], target=0, method=method)
    assert torch.allclose(alone.relevance[0], met.relevance[1], rtol=1e-3, atol=1e-5)
    if "score errors" in met.details:
        assert float(met.details["score errors"].max()) < float(loose.details["score errors"].max())
    again = pl.explain(model, x, target=0, method=plain.with_settings(tolerance=1e6, **{f"most_{setting}": 100_000}))
    assert torch.equal(again.relevance, loose.relevance)  # where the first round is enough, nothing is added


@pytest.mark.parametrize("name", EASY)
def test_it_is_told_when_the_limit_comes_first(name: str) -> None:
    model, x = subject(name, Count())
    setting, first = start(name)
    method = method_named(name).with_settings(**EASY[name][1], tolerance=1e-9, **{f"most_{setting}": 2 * first})
    late = pl.explain(model, x, target=0, method=method)
    told = [warning for warning in late.warnings if "tolerance=1e-09" in warning]
    assert len(told) == 1
    assert f"{len(x)} of {len(x)} samples" in told[0]
    if name != "integrated-gradients":  # whose gap is in the ledger
        assert float(late.details["standard error"].abs().max()) > 0
    else:
        assert late.ledger is not None


@pytest.mark.parametrize("name", TOLD)
def test_what_cannot_be_refined_is_told(name: str) -> None:
    model, x = subject(name, Count())
    method = method_named(name).with_settings(**TOLD[name])
    plain = pl.explain(model, x, target=0, method=method)
    wide = pl.explain(model, x, target=0, method=method.with_settings(tolerance=10.0))
    narrow = pl.explain(model, x, target=0, method=method.with_settings(tolerance=1e-9))
    assert not wide.warnings
    assert "3 of 3 samples did not meet tolerance=1e-09 within 64 background samples" in narrow.warnings[0]
    assert torch.equal(plain.relevance, narrow.relevance)


def test_all_batch_mates_are_the_truth_whatever_the_tolerance() -> None:
    model, x = subject("feature-permutation", Count())
    some = method_named("feature-permutation").with_settings(permutations=1)
    found = pl.explain(model, x, target=0, method=some.with_settings(tolerance=1e-9))
    assert not found.warnings
    every = pl.explain(model, x, target=0, method=some.with_settings(permutations=2))
    assert torch.allclose(found.relevance, every.relevance)


@pytest.mark.parametrize("name", [*EASY, *TOLD])
def test_a_tolerance_that_makes_no_sense_is_refused(name: str) -> None:
    with pytest.raises(pl.InputError, match="Expected tolerance > 0"):
        method_named(name).with_settings(tolerance=0.0)
