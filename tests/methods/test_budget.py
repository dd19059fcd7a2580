"""A budget in bytes bounds how many rows a model is given at once, whatever the method and however long its work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.methods import method_named, methods
from tests.methods.light import FITTING, LIGHT, MORE
from tests.methods.test_interrupted import memory_for
from tests.methods.watching import Watched
from tests.trace.models import MODELS, Made, numbers, seeded


class Rows:
    """The largest number of rows that a model was given."""

    def __init__(self) -> None:
        self.most = 0

    def __call__(self, x: Tensor) -> None:
        self.most = max(self.most, len(x))

    def taken(self) -> int:
        most, self.most = self.most, 0
        return most

    def __deepcopy__(self, _: object) -> Rows:
        return self


@pytest.mark.parametrize("name", sorted(methods()))
def test_no_pass_has_more_rows_than_fit(name: str) -> None:
    rows = Rows()
    build, shape = {**MODELS, **MORE}[FITTING.get(name, ["convolutional"])[0]]
    model, x = Watched(build(), rows), numbers(4, *shape[1:]).clamp(-1, 1)
    few = {"samples": 40} if LIGHT.get(name, {}).get("samples", 0) > 40 else {}
    settings = LIGHT.get(name, {}) | few | ({"background": None} if name == "feature-permutation" else {})
    method = method_named(name).with_settings(**settings)
    whole = pl.explain(model, x, target=1, method=method)
    assert rows.taken() >= 4
    fresh = Watched(build(), rows)  # of which nothing is known yet
    parts = pl.explain(fresh, x, target=1, method=method, memory=memory_for(model, x, 2.5))
    assert 1 <= rows.taken() <= 2
    scale = float(whole.relevance.abs().max())
    assert torch.allclose(parts.relevance, whole.relevance, rtol=1e-4, atol=1e-5 * scale)
    assert torch.allclose(parts.output, whole.output, rtol=1e-5)
    if whole.ledger is not None:
        assert parts.ledger is not None
        assert abs(parts.ledger.total - whole.ledger.total) < 1e-4


@pytest.mark.parametrize("name", ["gradient", "gradient-x-input", "integrated-gradients", "smoothgrad", "occlusion"])
def test_layers_targets_and_contrasts_are_as_without_a_budget(name: str) -> None:
    rows = Rows()
    model, x = Watched(MODELS["convolutional"][0](), rows), numbers(5, 3, 8, 8)
    method = method_named(name).with_settings(**({"window": 4} if name == "occlusion" else LIGHT.get(name, {})))
    memory = memory_for(model, x, 2.5)
    targets: list[Any] = [None, "0~rest", [0, 1, "2~0", "top", 1], lambda output: output.softmax(1)[:, 1]]
    for target in targets:
        whole = pl.explain(model, x, target=target, method=method, layer="model.1")
        rows.taken()
        parts = pl.explain(model, x, target=target, method=method, layer="model.1", memory=memory)
        assert rows.taken() <= 2
        assert parts.target == whole.target
        for one, other in ((parts.relevance, whole.relevance), (parts.layers["model.1"], whole.layers["model.1"])):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_token_ids_are_looked_up_in_parts() -> None:
    rows = Rows()

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(x)).mean(1))

    model = Watched(seeded(lambda: Made(forward, table=nn.Embedding(10, 6), head=nn.Linear(6, 3))), rows)
    x = torch.randint(0, 10, (6, 5), generator=torch.Generator().manual_seed(0))
    memory = memory_for(model, x, 2.5)
    for name in ("gradient", "integrated-gradients", "feature-ablation"):
        method = method_named(name).with_settings(**LIGHT.get(name, {}))
        whole = pl.explain(model, x, target=1, method=method)
        rows.taken()
        parts = pl.explain(model, x, target=1, method=method, memory=memory)
        assert rows.taken() <= 2
        assert torch.allclose(parts.relevance, whole.relevance, rtol=1e-4, atol=1e-6)


def test_a_layer_without_a_dimension_of_samples_is_refused_in_parts() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return x @ self.make(self.start.weight).T

    model = seeded(lambda: Made(forward, start=nn.Linear(6, 3), make=nn.Tanh()))
    x = numbers(6, 6)
    pl.explain(model, x, target=0, method="gradient-x-input", layer="make")
    with pytest.raises(pl.InputError, match="cannot be read in parts"):
        pl.explain(model, x, target=0, method="gradient-x-input", layer="make", memory=memory_for(model, x, 2.5))


MANY: dict[str, tuple[str, dict[str, Any]]] = {
    "integrated-gradients": ("steps", {}),
    "smoothgrad": ("samples", {}),
    "expected-gradients": ("samples", {"background": ["zero", "mean"]}),
    "gradient-shap": ("samples", {"background": ["zero", "mean"], "noise": 0.1}),
    "rise": ("samples", {}),
    "kernel-shap": ("samples", {"features": "patches:2"}),
    "lime": ("samples", {"features": "patches:2"}),
    "occlusion": ("window", {"stride": 1}),
}


@pytest.mark.parametrize("name", MANY)
def test_a_thousand_take_no_more_at_once_than_fifty(name: str) -> None:
    rows = Rows()
    shape = (1, 3, 36, 36) if name == "occlusion" else (1, 3, 8, 8)
    model = Watched(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), rows)
    x = numbers(*shape)
    setting, more = MANY[name]
    memory = memory_for(model, x, 20.5)
    taken = []
    for count in (30, 5) if name == "occlusion" else (50, 1000):  # windows of 30 have 49 places, of 5 have 1,024
        pl.explain(
            model, x, target=0, method=method_named(name).with_settings(**{setting: count}, **more), memory=memory
        )
        taken.append(rows.taken())
    assert taken[1] <= taken[0] <= 20
