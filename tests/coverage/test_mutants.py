"""The coverage table itself turns red: a broken engine explains one of its rows, and the row does not pass.

Every row goes through ``measure``, as in ``make coverage``, and by its verdict. A row of a mutant must have run: an
exception would be red as well, and say nothing about the books.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from benchmarks.zoo import all_rows
from benchmarks.zoo import measure as measuring
from benchmarks.zoo.registry import Row, prepare
from torch import Tensor, nn

import pellucid.composites
from pellucid.composites import Composite, composite_named
from pellucid.engine.book import Book
from pellucid.engine.ops import Op
from pellucid.engine.registry import overlay, registered
from pellucid.engine.step import Relevance
from pellucid.rules import AlphaBeta, Box, Epsilon, Flat, Gamma, LinearRule, WSquare, Zero, ZPlus
from pellucid.selection import select
from tests.rules.mutated_nets import NETS, Change, base, changed, fused_norms

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own models warn of their own settings

prepared = cache(prepare)


def _alone(name: str) -> tuple[nn.Module, Tensor]:
    make, shape = NETS[name]
    return make(), torch.randn(1, *shape[1:])


ROWS = {row.key: row for row in all_rows()} | {
    name: Row(name=name, set="mutants", family=name, kind=name, make=lambda name=name: _alone(name)) for name in NETS
}


@pytest.fixture(autouse=True)
def _prepared_once(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(measuring, "prepare", prepared)
    with fused_norms():
        yield


def verdict(row: str, composite: Composite | str) -> str:
    """Why the row of the table misses; "" where it passes."""
    with pytest.MonkeyPatch.context() as patch:
        rules = composite_named(composite)
        patch.setattr(pellucid.composites, "COMPOSITES", {"mutant": lambda: rules})
        job = measuring.Job("biases", "float64", "mutant")
        ((_, columns, trace),) = measuring.measure(ROWS[row], [job], timed=False)
    assert columns["ran"], trace
    assert columns["passed"] == (not columns["reason"])
    return columns["reason"]


# -- operations --------------------------------------------------------------------------------------------------


def carriers(row: str, composite: str) -> list[Op | str]:
    """The operations that carry relevance when the row is explained, but for layers, whose rule the composite gives."""
    seen: set[Op | str] = set()

    def spy(key: Op | str) -> Change:
        def note(_: int, message: Tensor) -> Tensor:
            seen.update([key] if bool((message != 0).any()) else [])
            return message

        return note

    keys = set(registered()) - {Op.LINEAR, Op.CONVOLUTION}
    with overlay({key: changed(base(key), spy(key)) for key in keys}):
        assert verdict(row, composite) == ""
    return sorted(seen, key=str)


SCALED = [(name, "epsilon") for name in NETS] + [
    ("convolutional", "auto"),
    ("attention", "auto"),
    ("timm:mobilenetv3_small_050", "epsilon"),
    ("rnn:LSTM", "auto"),
    ("transformers:bloom", "epsilon"),
]


@pytest.mark.parametrize(("row", "composite"), SCALED)
def test_an_operation_scaled_by_1_01_turns_the_table_red(row: str, composite: str) -> None:
    found = carriers(row, composite)
    assert found
    for key in found:
        with overlay({key: changed(base(key), lambda _, m: 1.01 * m)}):
            assert "unaccounted" in verdict(row, composite), f"{key} scaled by 1.01 passes"


def test_the_function_of_another_library_is_among_them() -> None:
    assert "transformers.models.bloom.modeling_bloom.GeLUFunction" in carriers("transformers:bloom", "epsilon")


# -- rules of layers ---------------------------------------------------------------------------------------------


class Broken(LinearRule):
    """A rule whose messages are changed afterwards."""

    def __init__(self, rule: LinearRule, change: Callable[[Tensor], Tensor]) -> None:
        self.rule, self.change, self.folds = rule, change, rule.folds

    def propagate(self, layer: Any, density: Tensor) -> Tensor | Relevance:
        made = self.rule.propagate(layer, density)
        return Relevance(self.change(made.value)) if isinstance(made, Relevance) else self.change(made)


class Mistaken(Broken):
    """A rule whose density is taken for relevance, or whose relevance for a density."""

    def propagate(self, layer: Any, density: Tensor) -> Tensor | Relevance:
        made = self.rule.propagate(layer, density)
        return made.value if isinstance(made, Relevance) else Relevance(made)


class Crossed(LinearRule):
    """The messages of one rule and the books of another."""

    def __init__(self, messages: LinearRule, books: LinearRule | None) -> None:
        self.messages_of, self.books_of, self.folds = messages, books, messages.folds

    def propagate(self, layer: Any, density: Tensor) -> Tensor | Relevance:
        walk = layer.step.walk
        if self.books_of is not None:
            self.books_of.propagate(layer, density.clone())
        kept, walk.book = walk.book, Book()
        try:
            return self.messages_of.propagate(layer, density)
        finally:
            walk.book = kept


def _unbalanced(rule: AlphaBeta, **settings: float) -> AlphaBeta:
    """Alpha-beta with settings that its door refuses."""
    broken = replace(rule)
    for name, value in settings.items():
        object.__setattr__(broken, name, value)
    return broken


RULES: dict[str, LinearRule] = {
    "zero": Zero(),
    "epsilon": Epsilon(0.05),
    "epsilon-relative": Epsilon(0.05, relative=True),
    "gamma": Gamma(0.25, 0.05),
    "alpha-beta": AlphaBeta(2, 1, 0.05),
    "z-plus": ZPlus(0.05),
    "box": Box(-4.0, 4.0, 0.05),
    "w-square": WSquare(),
    "flat": Flat(),
}
"""Stabilisers that take enough to be missed."""

ROW = "convolutional"


def at_layers(rule: LinearRule) -> Composite:
    """The rule where the table has it: the box and the rules by weight at the first layer, others at every one."""
    if isinstance(rule, Crossed):
        first = isinstance(rule.messages_of, (Box, WSquare, Flat))
    else:
        first = isinstance(rule.rule if isinstance(rule, Broken) else rule, (Box, WSquare, Flat))
    return Composite([(select("layer", first=True if first else None), rule), (select("layer"), Epsilon())], "mutant")


@pytest.mark.parametrize("name", RULES)
def test_an_unbroken_rule_passes(name: str) -> None:
    assert verdict(ROW, at_layers(RULES[name])) == ""
    assert verdict(ROW, at_layers(Broken(RULES[name], torch.clone))) == ""
    assert verdict(ROW, at_layers(Crossed(RULES[name], RULES[name]))) == ""


@pytest.mark.parametrize("name", RULES)
def test_a_broken_rule_turns_the_table_red(name: str) -> None:
    rule = RULES[name]
    mutants = {
        "scaled by 1.01": Broken(rule, lambda m: 1.01 * m),
        "dropped": Broken(rule, torch.zeros_like),
        "doubled": Broken(rule, lambda m: 2 * m),
        "dropped at one feature": Broken(rule, lambda m: torch.cat([torch.zeros_like(m[:, :1]), m[:, 1:]], 1)),
        "its density taken for relevance": Mistaken(rule, torch.clone),
    }
    for fault, mutant in mutants.items():
        assert verdict(ROW, at_layers(mutant)), f"{name}, {fault}, passes"


BOOKS = ("epsilon", "epsilon-relative", "gamma", "alpha-beta", "z-plus", "box")
"""Rules that book something at a layer without a bias too; LRP-0 books the bias alone."""


@pytest.mark.parametrize("name", ["zero", *BOOKS])
def test_a_rule_without_its_books_turns_the_table_red(name: str) -> None:
    assert "unaccounted" in verdict(ROW, at_layers(Crossed(RULES[name], None)))


SWAPPED = [(one, other) for one in BOOKS for other in ("zero", *BOOKS) if one != other]


@pytest.mark.parametrize(("messages", "books"), SWAPPED)
def test_a_rule_swapped_for_another_turns_the_table_red(messages: str, books: str) -> None:
    assert "unaccounted" in verdict(ROW, at_layers(Crossed(RULES[messages], RULES[books])))


@pytest.mark.parametrize(
    "broken",
    [
        _unbalanced(AlphaBeta(2, 1, 0.05), beta=0.0),
        _unbalanced(AlphaBeta(2, 1, 0.05), beta=0.99),
        _unbalanced(AlphaBeta(1, 0, 0.05), alpha=2.0),
    ],
    ids=["the negative part dropped", "beta off by 1 %", "the positive part doubled"],
)
def test_alpha_beta_out_of_balance_turns_the_table_red(broken: AlphaBeta) -> None:
    assert "unaccounted" in verdict(ROW, at_layers(broken))


@pytest.mark.parametrize("composite", ["epsilon-gamma-box", "epsilon-alpha2-beta1-flat", "deep-taylor", "auto"])
def test_one_broken_row_of_a_composite_turns_the_table_red(composite: str) -> None:
    """Every row of the composite that meets a layer here, one at a time."""
    whole = composite_named(composite)
    met = []
    for k, (selection, rule) in enumerate(whole.rows):
        if not isinstance(rule, LinearRule):
            continue
        for fault in (lambda m: 1.01 * m, torch.zeros_like):
            touched: list[int] = []

            def change(m: Tensor, fault: Any = fault, touched: list[int] = touched) -> Tensor:
                touched.append(1)
                return fault(m)

            rows = [*whole.rows[:k], (selection, Broken(rule, change)), *whole.rows[k + 1 :]]
            reason = verdict(ROW, replace(whole, rows=rows))
            assert bool(reason) == bool(touched), f"row {k} of {composite}: {rule}"
            met.append(bool(touched))
    assert sum(met) >= 4
