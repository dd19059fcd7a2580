"""Every way in which an explanation can end leaves model, input, random numbers and settings as they were."""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import COMPOSITES
from pellucid.errors import InputError, TargetError
from pellucid.testing import check_restores
from tests.trace.models import MODELS, Made, convolutional, dense, numbers

pytestmark = pytest.mark.core

NAMES = sorted(COMPOSITES)
IMAGE_ONLY = ("box", "deep-taylor")


def fits(model: str, composite: str) -> bool:
    return model == "convolutional" or not any(word in composite for word in IMAGE_ONLY)


CASES = [(model, composite) for model in MODELS for composite in NAMES if fits(model, composite)]


@pytest.mark.parametrize(("name", "composite"), CASES)
def test_a_fine_call(name: str, composite: str) -> None:
    build, shape = MODELS[name]
    model, x = build(), numbers(*shape)
    x.requires_grad_()
    x.sum().backward()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    result = check_restores(model, x, lambda: pl.explain(model, x, target=0, composite=composite))
    assert not result.relevance.requires_grad
    assert bool(torch.isfinite(result.relevance).all())


@pytest.mark.parametrize("composite", NAMES)
def test_a_bad_target(composite: str) -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    with pytest.raises(TargetError):
        check_restores(model, x, lambda: pl.explain(model, x, target=99, composite=composite))


def test_a_target_that_raises() -> None:
    model, x = dense(), numbers(4, 6)
    with pytest.raises(IndexError):
        check_restores(model, x, lambda: pl.explain(model, x, target=lambda y: y[:, 99]))


@pytest.mark.parametrize("composite", NAMES)
def test_a_model_that_raises(composite: str) -> None:
    def fail(self: Any, x: Tensor) -> Tensor:
        self.count.add_(1)
        torch.rand(1)
        random.random()
        self.last = self.layer(x)
        raise ValueError("boom")

    model, x = Made(fail, layer=nn.Linear(6, 3)).eval(), numbers(4, 6)
    model.register_buffer("count", torch.zeros(()))
    with pytest.raises(InputError, match=r"The model Made raised ValueError on this input: boom"):
        check_restores(model, x, lambda: pl.explain(model, x, target=0, composite=composite))


def test_check_leaves_no_trace() -> None:
    for build, shape in MODELS.values():
        model, x = build(), numbers(*shape)
        check_restores(model, x, lambda model=model, x=x: pl.check(model, x, target=0))


def test_several_targets_layers_units_and_parts() -> None:
    model, x = convolutional(), numbers(4, 3, 8, 8)
    check_restores(model, x, lambda: pl.explain(model, x, targets=[0, 1], layer="2", keep={"0": [1]}))
    check_restores(model, x, lambda: pl.explain(model, x, target=0, memory="64KB"))
    check_restores(model, x, lambda: pl.explain(model, x, target=0, dtype="float64"))


@pytest.mark.parametrize("setting", ["no_grad", "inference_mode", "enable_grad", "autocast", "float64", "anomaly"])
def test_the_callers_settings_stay(setting: str) -> None:
    model, x = dense(), numbers(4, 6)
    expected = pl.explain(model, x, target=0).relevance
    if setting == "float64":
        torch.set_default_dtype(torch.float64)
        try:
            result = check_restores(model, x, lambda: pl.explain(model, x, target=0))
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        contexts = {
            "no_grad": torch.no_grad(),
            "inference_mode": torch.inference_mode(),
            "enable_grad": torch.enable_grad(),
            "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
            "anomaly": torch.autograd.set_detect_anomaly(False),
        }
        with contexts[setting]:
            result = check_restores(model, x, lambda: pl.explain(model, x, target=0))
    tolerance = 0.1 if setting == "autocast" else 1e-6
    torch.testing.assert_close(result.relevance, expected, rtol=tolerance, atol=tolerance)


def test_inputs_and_weights_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model, x = dense(), numbers(4, 6)
    result = check_restores(model, x, lambda: pl.explain(model, x, target=0))
    assert torch.equal(result.relevance, pl.explain(dense(), numbers(4, 6), target=0).relevance)


def test_a_model_that_writes_into_what_it_is_given() -> None:
    def write(self: Any, words: Tensor, mask: Tensor, x: Tensor) -> Tensor:
        words[words == 3] = 0
        mask[:, 0] = 0
        x.mul_(2)
        return self.head(self.table(words).mean(1) * mask + x)

    model = Made(write, table=nn.Embedding(10, 6), head=nn.Linear(6, 3)).eval()
    words = torch.randint(0, 10, (4, 5), generator=torch.Generator().manual_seed(0))
    x = {"words": words, "mask": torch.ones(4, 6), "x": numbers(4, 6)}
    result = check_restores(model, x, lambda: pl.explain(model, x, target=0))
    assert result.ledger is not None
    assert result.ledger.closed(1e-5)
    assert bool((result.relevance["words"].abs().sum(1) > 0).all())


def test_random_numbers_of_torch_numpy_and_python() -> None:
    def draw(self: Any, x: Tensor) -> Tensor:
        return self.layer(x) * float(np.random.rand() + random.random()) + torch.rand(3)

    model, x = Made(draw, layer=nn.Linear(6, 3)).eval(), numbers(4, 6)
    first = check_restores(model, x, lambda: pl.explain(model, x, target=0))
    torch.rand(5), np.random.rand(), random.random()
    again = pl.explain(model, x, target=0)
    other = pl.explain(model, x, target=0, seed=1)
    assert torch.equal(first.relevance, again.relevance)
    assert not torch.equal(first.relevance, other.relevance)
    assert first.warnings == ("The model's forward draws random numbers; they start from seed=0.",)


def test_no_graph_is_kept_and_models_can_go() -> None:
    def keep(self: Any, x: Tensor) -> Tensor:
        self.last = self.layer(x)
        return self.last

    def with_graph() -> int:
        gc.collect()
        return sum(type(o) is Tensor and o.grad_fn is not None for o in gc.get_objects())

    model, x = Made(keep, layer=nn.Linear(6, 3)).eval(), numbers(4, 6)
    before = with_graph()
    result = pl.explain(model, x, target=0, layer="layer")
    assert with_graph() == before
    assert not hasattr(model, "last")
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert result.output.grad_fn is None
