"""check_method passes well-behaved methods and names what another one breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import COMPOSITES
from pellucid.testing import check_method
from tests.trace.models import MODELS, Made, dense, numbers, seeded

pytestmark = pytest.mark.core


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("composite", sorted(COMPOSITES))
def test_every_composite_is_well_behaved(name: str, composite: str) -> None:
    build, shape = MODELS[name]
    x = numbers(*shape).clamp(-1, 1)
    check_method(lambda model, x: pl.explain(model, x, target=0, composite=composite), build(), x, tolerance=2e-3)


def test_token_ids_and_several_inputs() -> None:
    def forward(self: Any, words: Tensor, x: Tensor) -> Tensor:
        return self.head(self.table(words).mean(1) + x)

    model = seeded(lambda: Made(forward, table=nn.Embedding(10, 6), head=nn.Linear(6, 3)))
    words = torch.randint(0, 10, (3, 5), generator=torch.Generator().manual_seed(0))
    check_method(lambda model, x: pl.explain(model, x, target=0), model, {"words": words, "x": numbers(3, 6)})
    check_method(lambda model, x: pl.explain(model, x, target=0), model, (words, numbers(3, 6)))


def test_the_default_target_and_double_precision() -> None:
    check_method(pl.explain, dense().double(), numbers(4, 6).double(), tolerance=1e-9)


def changed(change: Callable[[pl.Explanation, nn.Module, Tensor], Any]) -> Callable[[nn.Module, Any], Any]:
    return lambda model, x: change(pl.explain(model, x, target=0), model, x)


def drop_column(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    return replace(result, relevance=result.relevance[:, 1:], input=None)


def convert(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    return replace(result, relevance=result.relevance.double())


def scale_by_batch(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    return replace(result, relevance=result.relevance / result.relevance.abs().max())


def add_noise(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    add_noise.calls = getattr(add_noise, "calls", 0) + 1
    return replace(result, relevance=result.relevance + add_noise.calls)


def lose_a_number(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    relevance = result.relevance.clone()
    relevance[0, 0] = float("nan")
    return replace(result, relevance=relevance)


def wrap(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    return replace(result, relevance={"x": result.relevance}, input=None)


def plain(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    return result.relevance


def fill_gradients(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    model(x).sum().backward()
    return result


def one_sample(result: pl.Explanation, model: nn.Module, x: Tensor) -> Any:
    return replace(result, output=result.output[:1], target=result.target[:1], ledger=None)


FAULTS = [
    (drop_column, r"The relevance of input 'x' has shape \(4, 5\), the input \(4, 6\)"),
    (convert, r"The relevance of input 'x' is torch.float64, the input torch.float32"),
    (scale_by_batch, r"The relevance of input 'x' of sample \d depends on its batch mates: off by"),
    (add_noise, r"is not the same when called twice"),
    (lose_a_number, r"is not finite everywhere"),
    (wrap, r"Relevance is structured as \w+, the input as Tensor"),
    (plain, r"Expected an Explanation, got Tensor"),
    (fill_gradients, r"changed what it should have left as it was: gradient of parameter '0.weight'"),
    (one_sample, r"Expected one output and one label for each of 4 samples"),
]


@pytest.mark.parametrize(("change", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_faults_are_named(change: Any, fault: str) -> None:
    method = changed(change)
    with pytest.raises(AssertionError, match=fault):
        check_method(method, dense(), numbers(4, 6))


def test_a_method_that_is_interrupted_and_does_not_clean_up() -> None:
    def careless(model: nn.Module, x: Tensor) -> pl.Explanation:
        was = model.training
        model.train()
        model(x)
        model.train(was)
        return pl.explain(model, x, target=0)

    model = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(AssertionError, match=r"raised KeyboardInterrupt and changed .* training flag of the model"):
        check_method(careless, model, numbers(4, 6))


def test_one_sample_is_too_few() -> None:
    with pytest.raises(AssertionError, match="two samples or more"):
        check_method(pl.explain, dense(), numbers(1, 6))
