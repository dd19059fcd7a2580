"""Threads that explain with the same model at the same time get what each would get alone."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.testing import check_restores
from tests.trace.models import Made, convolutional, dense, numbers, recurrent, seeded

pytestmark = pytest.mark.core

THREADS, ROUNDS = 3, 25


def stateful() -> nn.Module:
    """Writes buffers and attributes in its forward, and reads them again."""

    def forward(self: Any, x: Tensor) -> Tensor:
        self.calls += 1
        self.kept = self.first(x)
        self.mean.copy_(x.detach().mean())
        return self.second(self.kept.relu()) * (1 + self.mean) * self.calls

    def build() -> nn.Module:
        model = Made(forward, first=nn.Linear(6, 8), second=nn.Linear(8, 3))
        model.register_buffer("mean", torch.zeros(()))
        model.calls = 0
        return model

    return seeded(build)


def hooked() -> nn.Module:
    """weight_norm of old computes an attribute in a hook before each forward."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return seeded(lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3)))


def compiled() -> nn.Module:
    def compile_nothing(*_: object) -> Callable[..., Any]:
        raise AssertionError("something was compiled")

    return torch.compile(dense(), backend=compile_nothing)


CASES = [
    (dense, (2, 6)),
    (convolutional, (2, 3, 8, 8)),
    (recurrent, (2, 5, 6)),
    (stateful, (2, 6)),
    (hooked, (2, 6)),
    (compiled, (2, 6)),
]


@pytest.mark.parametrize(("build", "shape"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_threads_do_not_disturb_each_other(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = build()
    inputs = [numbers(*shape, seed=seed) for seed in range(THREADS)]
    expected = [pl.explain(model, x, target=0).relevance for x in inputs]
    failures: list[str] = []
    barrier = threading.Barrier(THREADS)

    def work(i: int) -> None:
        try:
            barrier.wait()
            for _ in range(ROUNDS):
                result = pl.explain(model, inputs[i], target=0)
                if not torch.allclose(result.relevance, expected[i], rtol=1e-5, atol=1e-6):
                    failures.append(f"thread {i} got another answer")
        except Exception as error:
            failures.append(f"thread {i}: {type(error).__name__}: {error}")

    def all_together() -> None:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    check_restores(model, inputs[0], all_together)
    assert failures == []
