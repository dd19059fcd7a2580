"""The copy that is run follows the user's model: whatever is changed between two explanations counts."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from tests.trace.models import Made, convolutional, dense, explained, numbers, seeded

pytestmark = pytest.mark.core


def scaled() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        factor = self.number * self.tensor * self.items[0] * self.table["a"] * self.settings.factor * self.given
        return self.layer(x) * factor

    def build() -> nn.Module:
        model = Made(forward, layer=nn.Linear(6, 3))
        model.register_buffer("given", torch.tensor(1.5))
        model.number, model.tensor, model.items = 2.0, torch.tensor(2.0), [2.0]
        model.table, model.settings = {"a": 2.0}, SimpleNamespace(factor=2.0)
        return model

    return seeded(build)


def replaced_data(model: Any) -> None:
    model.layer.weight.data = torch.ones(3, 6)


def written(model: Any) -> None:
    with torch.no_grad():
        model.layer.weight.mul_(2)


def loaded(model: Any) -> None:
    model.load_state_dict({name: tensor + 1 for name, tensor in model.state_dict().items()})


def set_item(model: Any) -> None:
    model.items[0] = 3.0


def set_key(model: Any) -> None:
    model.table["a"] = 3.0


def set_setting(model: Any) -> None:
    model.settings.factor = 3.0


def set_number(model: Any) -> None:
    model.number = 3.0


def write_attribute(model: Any) -> None:
    model.tensor.fill_(3.0)


def write_buffer(model: Any) -> None:
    model.given.fill_(3.0)


def replace_buffer(model: Any) -> None:
    model.given = torch.tensor(3.0)


def replace_part(model: Any) -> None:
    model.layer = nn.Linear(6, 3, bias=False)


def add_hook(model: Any) -> None:
    model.layer.register_forward_hook(lambda module, args, output: output * 3)


CHANGES: list[Callable[[Any], None]] = [
    replaced_data, written, loaded, set_item, set_key, set_setting, set_number, write_attribute, write_buffer,
    replace_buffer, replace_part, add_hook,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("dtype", [None, "float64"])
def test_a_change_of_the_model_counts(change: Callable[[Any], None], dtype: str | None) -> None:
    model, x = scaled(), numbers(4, 6)
    before = explained(model, x, dtype=dtype)
    change(model)
    after = explained(model, x, dtype=dtype)
    with torch.no_grad():
        expected = model(x)[:, 0]
    torch.testing.assert_close(after.output.float(), expected)
    assert not torch.allclose(before.output, after.output)


def test_conversion_in_place() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    explained(model, x)
    model.double()
    assert explained(model, x.double(), tolerance=1e-9).output.dtype == torch.float64
    model.float().to(memory_format=torch.channels_last)
    explained(model, x.contiguous(memory_format=torch.channels_last))


def test_what_a_forward_leaves_does_not_count() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        self.count = self.count + 1
        self.written.add_(1)
        return self.layer(x) * self.calls * self.count * self.written

    model, x = Made(forward, layer=nn.Linear(6, 3)).eval(), numbers(4, 6)
    model.calls = 0
    model.register_buffer("count", torch.zeros(()))
    model.register_buffer("written", torch.zeros(()))
    first = explained(model, x)
    assert torch.equal(explained(model, x).relevance, first.relevance)
    torch.testing.assert_close(first.output, model(x)[:, 0].detach())
    second = explained(model, x)
    assert torch.allclose(second.output, 8 * first.output)


def test_training_between_explanations() -> None:
    model, x = dense(), numbers(4, 6)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        model.train()
        optimiser.zero_grad()
        model(x).square().sum().backward()
        optimiser.step()
        model.eval()
        with torch.no_grad():
            expected = model(x)[:, 0]
        torch.testing.assert_close(explained(model, x).output, expected)


def test_frozen_and_unfrozen_are_the_same() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    free = pl.explain(model, x, target=0, composite="epsilon-plus").relevance
    model.requires_grad_(False)
    assert torch.equal(explained(model, x, composite="epsilon-plus").relevance, free)
