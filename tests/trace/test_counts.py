"""What an explanation costs in passes: one forward for all targets, one walk a target, whatever the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.engine.walk import Walk
from tests.trace.models import MODELS, numbers

pytestmark = pytest.mark.core


class Counting(nn.Module):
    """A model that counts its forwards, also those of its copies."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.counts = model, Counts()

    def forward(self, x: Tensor) -> Tensor:
        self.counts.forwards += 1
        self.counts.rows += len(x)
        return self.model(x)


class Counts:
    def __init__(self) -> None:
        self.forwards = self.rows = self.walks = 0

    def __deepcopy__(self, _: object) -> Counts:
        return self


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a model and its input, and counts forwards and walks from then on."""

    def make(name: str) -> tuple[Counting, Tensor]:
        build, shape = MODELS[name]
        model = Counting(build()).eval()
        original = Walk.run

        def run(self: Walk, *args: Any, **settings: Any) -> Any:
            model.counts.walks += 1
            return original(self, *args, **settings)

        monkeypatch.setattr(Walk, "run", run)
        return model, numbers(4, *shape[1:])

    return make


@pytest.mark.parametrize("composite", ["auto", "epsilon", "gradient", "attn-lrp"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_batch_is_one_forward_and_one_walk(counted: Any, name: str, composite: str) -> None:
    model, x = counted(name)
    for size in (1, 4):
        before = vars(model.counts).copy()
        pl.explain(model, x[:size], target=[0, 1, 2, 0][:size], composite=composite)
        used = {key: value - before[key] for key, value in vars(model.counts).items()}
        assert used == {"forwards": 1, "rows": size, "walks": 1}


@pytest.mark.parametrize("composite", ["auto", "epsilon", "gradient"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_targets_share_one_forward_and_walk_once_each(counted: Any, name: str, composite: str) -> None:
    model, x = counted(name)
    results = pl.explain(model, x, targets=[0, "1~rest", 2], composite=composite)
    assert vars(model.counts) == {"forwards": 1, "rows": 4, "walks": 3}
    for one, target in zip(results, [0, "1~rest", 2], strict=True):
        alone = pl.explain(model, x, target=target, composite=composite)
        torch.testing.assert_close(one.relevance, alone.relevance, rtol=1e-5, atol=1e-7)


def test_layers_are_read_on_the_same_walk(counted: Any) -> None:
    model, x = counted("convolutional")
    pl.explain(model, x, target=0, layer=["model.0", "model.3"])
    assert vars(model.counts) == {"forwards": 1, "rows": 4, "walks": 1}


def test_a_small_memory_walks_part_by_part(counted: Any) -> None:
    model, x = counted("convolutional")
    pl.explain(model, x, target=0, memory="5KB")
    assert model.counts.walks == 4
    assert model.counts.rows >= 4
