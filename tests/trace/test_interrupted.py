"""Ctrl-C at any node, module or operation, and a model that raises, leave everything as it was, for every method."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import pellucid as pl
from pellucid.engine.walk import Walk
from pellucid.errors import InputError, TargetError
from pellucid.methods import methods
from pellucid.testing import check_restores
from tests.methods.light import FITTING, MORE, lightened
from tests.trace.models import MODELS, numbers
from tests.trace.test_nothing_is_left import CASES

METHODS = sorted(methods())
EVERYWHERE = [(model, name) for model in ("dense", "convolutional") for name in ("auto", "epsilon", "gradient")]
EVERYWHERE += [("transformer", "attn-lrp"), ("convolutional", "epsilon-gamma-box")]
"""Where the quick tests stop at every node; elsewhere at some."""


def spread(total: int, most: int | None) -> list[int]:
    """All of ``range(total)``, or at most ``most`` of it, first and last among them."""
    if most is None or total <= most:
        return list(range(total))
    return sorted({round(k * (total - 1) / (most - 1)) for k in range(most)})


# -- nodes of the walk -------------------------------------------------------------------------------------------


def visits(call: Callable[[], Any]) -> int:
    """How many nodes the walks of a call visit."""
    counted: list[int] = []
    original = Walk._visit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walk, "_visit", lambda *args: (counted.append(1), original(*args)))
        call()
    return len(counted)


def interrupted_at_nodes(model: nn.Module, x: Tensor, call: Callable[[], Any], most: int | None) -> int:
    """Stop ``call`` at its nodes, one at a time; how many there are."""
    total, original = visits(call), Walk._visit
    for stop in spread(total, most):
        seen: list[int] = []

        def visit(*args: Any, stop: int = stop, seen: list[int] = seen) -> None:
            if len(seen) == stop:
                raise KeyboardInterrupt
            seen.append(1)
            original(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Walk, "_visit", visit)
            with pytest.raises(KeyboardInterrupt):
                check_restores(model, x, call)
    return total


def at_nodes(name: str, composite: str, most: int | None) -> None:
    build, shape = MODELS[name]
    model, x = build(), numbers(*shape)
    before = pl.explain(model, x, target=0, composite=composite)
    assert interrupted_at_nodes(model, x, lambda: pl.explain(model, x, target=0, composite=composite), most) > 4
    assert torch.equal(pl.explain(model, x, target=0, composite=composite).relevance, before.relevance)


@pytest.mark.core
@pytest.mark.parametrize(("name", "composite"), CASES)
def test_at_nodes_of_every_composite(name: str, composite: str) -> None:
    at_nodes(name, composite, None if (name, composite) in EVERYWHERE else 3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "composite"), CASES)
def test_at_every_node_of_every_composite(name: str, composite: str) -> None:
    at_nodes(name, composite, None)


# -- modules, operations, models that raise, for every method ----------------------------------------------------


def prepared(name: str) -> tuple[nn.Module, Tensor, Callable[[], Any]]:
    """A model that the method is for, its input, and an explanation of it."""
    build, shape = {**MODELS, **MORE}[FITTING.get(name, ["convolutional"])[0]]
    model, x, method = build(), numbers(*shape).clamp(-1, 1), lightened(name)
    return model, x, lambda: pl.explain(model, x, target=0, method=method)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def called(model: nn.Module, call: Callable[[], Any]) -> list[nn.Module]:
    """The modules that a call runs."""
    seen: list[nn.Module] = []
    handles = [
        part.register_forward_hook(lambda *_, part=part: seen.append(part) if part not in seen else None)
        for part in model.modules()
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return [part for part in model.modules() if part in seen]


def in_modules(name: str, most: int | None) -> None:
    model, x, call = prepared(name)
    before = call().relevance
    parts = called(model, call)
    assert model in parts
    for k in spread(len(parts), most):
        for register in (parts[k].register_forward_hook, parts[k].register_forward_pre_hook):
            handle = register(interrupt)
            try:
                with pytest.raises(KeyboardInterrupt):
                    check_restores(model, x, call)
            finally:
                handle.remove()
    assert torch.equal(call().relevance, before)


class Stop(TorchDispatchMode):
    """Raises KeyboardInterrupt in the place of operation number ``at``, forwards, walks and backwards alike."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at, self.count = at, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.count == self.at:
            raise KeyboardInterrupt
        self.count += 1
        return func(*args, **(kwargs or {}))


def in_operations(name: str, most: int | None) -> None:
    model, x, call = prepared(name)
    before = call().relevance

    def stopped(at: int | None) -> int:
        with Stop(at) as stop:
            call()
        return stop.count

    total = stopped(None)
    assert total > 10
    for at in spread(total, most):
        with pytest.raises(KeyboardInterrupt):
            check_restores(model, x, lambda at=at: stopped(at))
    assert torch.equal(call().relevance, before)


@pytest.mark.parametrize("name", METHODS)
def test_in_modules_of_every_method(name: str) -> None:
    in_modules(name, 3)


@pytest.mark.parametrize("name", METHODS)
def test_in_operations_of_every_method(name: str) -> None:
    in_operations(name, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_in_every_module_of_every_method(name: str) -> None:
    in_modules(name, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_in_many_operations_of_every_method(name: str) -> None:
    in_operations(name, 200)


class Raising(nn.Module):
    """Draws random numbers, writes a buffer and an attribute, and raises after ``left[0]`` forwards."""

    def __init__(self, model: nn.Module, left: list[int]) -> None:
        super().__init__()
        self.model, self.left = model, _Shared(left)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        self.last = x + 0 * torch.rand(1) * random.random()
        result = self.model(self.last)
        self.left.items[0] -= 1
        if self.left.items[0] < 0:
            raise ValueError("boom")
        return result


class _Shared:
    """A list that copies of a model share."""

    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __deepcopy__(self, _: object) -> _Shared:
        return self


@pytest.mark.parametrize("name", METHODS)
def test_a_model_that_raises_in_any_forward(name: str) -> None:
    method = lightened(name)

    def raising(after: int) -> tuple[Raising, Tensor]:
        """A model that no call has seen, as some methods look at a model once and remember what they found."""
        model, x, _ = prepared(name)
        return Raising(model, [after]).eval(), x

    model, x = raising(10**6)
    pl.explain(model, x, target=0, method=method)
    forwards = 10**6 - model.left.items[0]
    assert forwards >= 1
    for k in spread(forwards, 4):
        model, x = raising(k)
        with pytest.raises(InputError, match=r"The model Raising raised ValueError on this input: boom"):
            check_restores(model, x, lambda model=model, x=x: pl.explain(model, x, target=0, method=method))


@pytest.mark.parametrize(
    "target", ["no such class", [0, 99], lambda y: y[:, 99]], ids=["unknown", "out of range", "raising"]
)
@pytest.mark.parametrize("name", METHODS)
def test_a_bad_target(name: str, target: Any) -> None:
    model, x, _ = prepared(name)
    x, method = x[:2], lightened(name)
    errors = (TargetError, InputError, IndexError)
    with pytest.raises(errors):
        check_restores(model, x, lambda: pl.explain(model, x, target=target, method=method))
