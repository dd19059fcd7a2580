"""The last walk of a forward gives its memory back on the way; walks before it leave it whole."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from pellucid import _api
from pellucid.composites import composite_named
from pellucid.engine.walk import Walk
from pellucid.methods.lrp import explain_trace
from pellucid.targets import resolve_targets
from tests.trace.models import MODELS, numbers

pytestmark = pytest.mark.core


class Held:
    """Something that lives as long as a node."""


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "auto", "attn-lrp", "epsilon-plus-flat"])
def test_a_consuming_walk_gives_the_same_and_frees_the_graph(name: str, composite: str) -> None:
    build, shape = MODELS[name]
    model, x = build(), numbers(*shape)
    rules = composite_named(composite)
    target = resolve_targets(0, len(x))
    call = _api.Request(model).call(x)
    call.shadow.needs_inputs.add(rules.name)
    trace = call.trace(rules, [target])
    first = explain_trace(trace, trace.start(target), rules)
    again = explain_trace(trace, trace.start(target), rules)
    start = trace.start(target)
    held = Held()
    trace.raw.grad_fn.metadata["held"] = held  # a node itself takes no weak reference
    root = weakref.ref(held)
    del held
    last = explain_trace(trace, start, rules, consume=True)
    for other in (again, last):
        assert torch.equal(first.relevance["x"], other.relevance["x"])
        assert first.ledger is not None
        assert other.ledger is not None
        assert first.ledger.unaccounted == other.ledger.unaccounted
    gc.collect()
    assert root() is None
    assert trace.raw is None


def test_nodes_are_let_go_while_the_walk_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = MODELS["convolutional"][0](), numbers(2, 3, 8, 8)
    alive: list[int] = []
    visit = Walk._visit

    def counted(self: Walk, i: int, walked: object) -> None:
        alive.append(sum(node is not None for node in self.graph.nodes))
        visit(self, i, walked)  # type: ignore[arg-type]

    monkeypatch.setattr(Walk, "_visit", counted)
    _api.explain(model, x, targets=[0, 1], composite="epsilon")
    one = len(alive) // 2
    assert len(set(alive[:one])) == 1
    assert alive[one:] == sorted(alive[one:], reverse=True)
    assert alive[-1] < alive[one] / 2
