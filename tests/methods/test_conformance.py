"""Every registered method holds what every method must hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError, TargetError
from pellucid.methods import Method, method_named, methods
from pellucid.methods.attention import ATTENTION_METHODS
from pellucid.testing import check_method, check_restores
from tests.methods.light import FITTING, LIGHT, MORE, lightened
from tests.trace.models import MODELS, Made, numbers, seeded

NAMES = sorted(methods())
CASES = [(method, model) for method in NAMES for model in FITTING.get(method, sorted(MODELS))]


def made(model: str) -> tuple[nn.Module, Tensor]:
    build, shape = {**MODELS, **MORE}[model]
    return build(), numbers(*shape).clamp(-1, 1)


def test_every_light_setting_is_of_a_method() -> None:
    assert set(LIGHT) <= set(NAMES)
    assert set(FITTING) <= set(NAMES)


@pytest.mark.parametrize(("name", "model"), CASES)
def test_is_well_behaved(name: str, model: str) -> None:
    """Shapes, dtype, device, batch = singles, the same twice, and no trace left, also when interrupted."""
    module, x = made(model)
    method = lightened(name)
    check_method(lambda m, v: pl.explain(m, v, target=0, method=method), module, x, tolerance=2e-3)


@pytest.mark.parametrize(("name", "model"), CASES)
def test_settings_fit_in_json_and_the_file_keeps_all(name: str, model: str, tmp_path: Any) -> None:
    module, x = made(model)
    result = pl.explain(module, x, target=[0, 1, 2, 0][: len(x)], method=lightened(name))
    assert result.method == name
    assert len(result.target) == len(x)
    json.dumps(dict(result.settings), allow_nan=False)
    assert "@" in result.citation
    result.save(tmp_path / "a.pellucid")
    back = pl.load(tmp_path / "a.pellucid")
    assert torch.equal(back.relevance, result.relevance)
    assert set(back.details) == set(result.details)


@pytest.mark.parametrize(("name", "model"), CASES)
def test_double_precision_and_one_target_per_sample(name: str, model: str) -> None:
    module, x = made(model)
    targets = [0, 1, 2, 1][: len(x)]
    result = pl.explain(module.double(), x.double(), target=targets, method=lightened(name))
    assert result.relevance.dtype == torch.float64
    for i, target in enumerate(targets):
        alone = pl.explain(module, x[i : i + 1].double(), target=target, method=lightened(name))
        assert torch.allclose(result.relevance[i], alone.relevance[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_memory_gives_the_same(name: str) -> None:
    module, x = made(FITTING.get(name, ["convolutional"])[0])
    method = lightened(name)
    whole = pl.explain(module, x, target=1, method=method)
    parts = pl.explain(module, x, target=1, method=method, memory=200_000)
    scale = float(whole.relevance.abs().max())
    assert torch.allclose(parts.relevance, whole.relevance, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_errors_leave_no_trace(name: str) -> None:
    module, x = made(FITTING.get(name, ["convolutional"])[0])
    method = lightened(name)
    with pytest.raises(TargetError):
        check_restores(module, x, lambda: pl.explain(module, x, target=99, method=method))
    with pytest.raises(InputError, match="no module"):
        check_restores(module, x, lambda: pl.explain(module, x, target=0, method=method, layer="none"))
    with pytest.raises(InputError):
        check_restores(module, x, lambda: pl.explain(module, x[:, :1], target=0, method=method))


@pytest.mark.parametrize("name", NAMES)
def test_several_targets_are_as_one_at_a_time(name: str) -> None:
    module, x = made(FITTING.get(name, ["convolutional"])[0])
    method = lightened(name)
    both = pl.explain(module, x, targets=[0, 1], method=method)
    for target, one in enumerate(both):
        alone = pl.explain(module, x, target=target, method=method)
        assert torch.allclose(one.relevance, alone.relevance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_again(name: str) -> None:
    module, x = made(FITTING.get(name, ["convolutional"])[0])
    method = lightened(name)
    first, second = (pl.explain(module, x, target=0, method=method, seed=7) for _ in range(2))
    assert torch.equal(first.relevance, second.relevance)


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name: str) -> None:
    method = methods()[name]
    for text in (method.cost, method.needs, method.advice):
        assert isinstance(text, str)
        assert len(text) > 5
    assert (method.__doc__ or "").strip()
    made = method_named(name)
    assert str(made) == name
    assert "@" in made.citation


REFUSE_TOKENS = {"cam", *(method.name for method in ATTENTION_METHODS)}
TOKENS = [name for name in NAMES if name not in REFUSE_TOKENS]


@pytest.mark.parametrize("name", TOKENS)
def test_token_ids_and_several_inputs(name: str) -> None:
    def forward(self: Any, words: Tensor, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(words).mean(1) + x))

    model = seeded(lambda: Made(forward, table=nn.Embedding(10, 6), head=nn.Linear(6, 3)))
    words = torch.randint(0, 10, (3, 5), generator=torch.Generator().manual_seed(0))
    method = lightened(name)
    x = {"words": words, "x": numbers(3, 6)}
    check_method(lambda m, v: pl.explain(m, v, target=0, method=method), model, x, tolerance=2e-3)


def test_every_method_is_found_by_name_and_the_error_offers_near_ones() -> None:
    for name in NAMES:
        assert isinstance(method_named(name.replace("-", "_")), Method)
    with pytest.raises(InputError, match="Did you mean 'integrated-gradients'"):
        method_named("integrated-gradient")
    with pytest.raises(InputError, match="Expected a method's name or a Method, got 3"):
        method_named(3)  # type: ignore[arg-type]
