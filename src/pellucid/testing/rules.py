"""Is a rule sound where it is applied?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd import Function

from pellucid.composites import Composite
from pellucid.engine.book import Book
from pellucid.engine.graph import Edge, build_graph
from pellucid.engine.inputs import check_model, prepare
from pellucid.engine.numerics import inner
from pellucid.engine.plan import function_name
from pellucid.engine.registry import Key, RuleFunction, overlay, qualified_name
from pellucid.engine.shadow import shadow_of
from pellucid.engine.step import Fresh, Relevance, Step
from pellucid.engine.trace import run_forward
from pellucid.engine.walk import Walk
from pellucid.errors import InputError
from pellucid.methods.lrp import plan_for, refuse_unknown
from pellucid.outputs import main_output
from pellucid.rules import Gate, Half, LinearRule, SignalTakesAll, Taylor
from pellucid.selection import Selection, select
from pellucid.testing.restores import check_restores

__all__ = ["check_rule"]

Messages = Sequence["Tensor | Fresh | Relevance | None"]


def check_rule(
    rule: RuleFunction,
    module: nn.Module,
    x: Any,
    *,
    at: Selection | str | type[Function] | None = None,
    conserves: bool = True,
    tolerance: float = 1e-8,
    seed: int = 0,
) -> int:
    """Apply ``rule`` inside ``module``, in float64, and fail if it is not sound.

    At every node that gets the rule, with random densities of both signs: what it sends on plus what it books equals
    what arrived (``sum value * density``, or the sum of relevance sent as such); it is linear in the density that
    arrives; the same call gives the same messages; operands, parameters and the module stay as they are.

    Args:
        rule: called as ``rule(step, densities)``.
        module: in evaluation mode; runs the operation that the rule is for.
        x: its input, floating tensors (N, ...), or a tuple or dict with them.
        at: where the rule applies: a selection, or an ``autograd.Function`` or its name as for ``register``. None:
            every operation that the rule's class fits, convolutions and dense layers for a rule of your own.
        conserves: False for rules that are none of relevance propagation, such as guided backpropagation's.
        tolerance: relative to the largest magnitude compared.
        seed: of the random densities.

    Returns:
        At how many nodes the rule was checked.

    Raises:
        AssertionError: the rule is not sound; the message says where and by how much.
        InputError: the rule was never asked.
    """
    checker = _Checker(rule, conserves=conserves, tolerance=tolerance, seed=seed)
    name = qualified_name(at) if isinstance(at, type) else at if isinstance(at, str) else None
    named: dict[Key, RuleFunction] = {} if name is None else {name: rule}
    selection = at if isinstance(at, Selection) else select() if _has_class(rule) else select("layer")
    composite = Composite() if named else Composite([(selection, rule)])

    def walk() -> None:
        with overlay(named):
            _walk(check_model(module), x, composite, checker, name=name)

    check_restores(module, x, walk)
    if not checker.checked:
        raise InputError(
            f"The rule {rule!r} was never asked: no operation of {type(module).__name__} on a path from the input fits "
            f"{'it' if at is None else repr(at)}. Give at= a selection or an autograd.Function."
        )
    return checker.checked


def _has_class(rule: object) -> bool:
    return isinstance(rule, (LinearRule, Gate, Taylor, Half, SignalTakesAll))


def _walk(module: nn.Module, x: Any, composite: Composite, checker: _Checker, *, name: str | None) -> None:
    shadow = shadow_of(module, dtype=torch.float64)
    prepared = prepare(x, inputs=None, dtype=torch.float64, device=None, like=None)
    with torch.random.fork_rng(devices=[]):
        trace = run_forward(
            shadow, prepared, wanted=frozenset(), keep_outputs=composite.needs_outputs(), keep_inputs=True
        )
    output, _ = main_output(trace.raw)
    if output.grad_fn is None:
        raise InputError(f"The output of {type(module).__name__} does not depend on the input: no graph was recorded.")
    graph = build_graph([output.grad_fn])
    plan = plan_for(graph, trace, composite)
    refuse_unknown(plan.unknown)
    plan.rules = [
        checker if own is checker.rule and (name is None or name in (graph.names[i], function_name(node))) else own
        for i, (own, node) in enumerate(zip(plan.rules, graph.nodes, strict=True))
    ]
    checker.known = {(0, output.output_nr): output.detach()}
    walk = Walk(graph, plan, trace.observer, Book())
    walk.run({(0, output.output_nr): checker.random_like(output.detach())})


class _Checker:
    """Stands in the rule's place and examines each of its calls."""

    def __init__(self, rule: RuleFunction, *, conserves: bool, tolerance: float, seed: int) -> None:
        self.rule = rule
        self.conserves = conserves
        self.tolerance = tolerance
        self.checked = 0
        self.known: dict[Edge, Tensor] = {}
        """Values that the caller has; all others are looked up."""
        self._generator = torch.Generator().manual_seed(seed)

    def random_like(self, tensor: Tensor) -> Tensor:
        """Standard normal numbers."""
        numbers = torch.randn(tensor.shape, dtype=torch.float64, generator=self._generator)
        return numbers.to(dtype=tensor.dtype, device=tensor.device)

    def _random_where(self, density: Tensor | None) -> Tensor | None:
        """Random numbers where something arrived: behind a ReLU nothing ever does at what is not positive."""
        return None if density is None else self.random_like(density) * (density != 0)

    def __call__(self, step: Step, densities: list[Tensor | None]) -> Messages:
        """The rule's messages, once they are found right."""
        first, second = ([self._random_where(density) for density in densities] for _ in range(2))
        operands = {k: step.operand(k) for k, ok in enumerate(step.live) if ok}
        kept = {k: value.clone() for k, value in operands.items()}

        one, booked_one = self._ask(step, first)
        again, booked_again = self._ask(step, first)
        other, booked_other = self._ask(step, second)
        mixed = [None if a is None or b is None else 2 * a - 3 * b for a, b in zip(first, second, strict=True)]
        both, booked_both = self._ask(step, mixed)

        for k, value in kept.items():
            if not torch.equal(value, operands[k]):
                self._fail(step, f"changed the value of operand {k}")
        if len(one) != len(step.live):
            self._fail(step, f"sent {len(one)} messages to {len(step.live)} operands; send None where nothing goes")
        for k, (a, b) in enumerate(zip(one, again, strict=True)):
            if _is_sent(a) != _is_sent(b) or (_is_sent(a) and not torch.equal(_numbers(a), _numbers(b))):
                self._fail(step, f"gives operand {k} another message when called twice with the same density")
        if booked_one != booked_again:
            self._fail(step, f"books another amount when called twice: {booked_one:.6g}, then {booked_again:.6g}")
        for k, ok in enumerate(step.live):
            if _is_sent(one[k]):
                if not ok:
                    self._fail(step, f"sends relevance to operand {k}, where none may go (step.live)")
                shape = tuple(_numbers(one[k]).shape)
                if shape != tuple(step.shape(k)):
                    self._fail(step, f"sends operand {k} a message of shape {shape}, expected {tuple(step.shape(k))}")
                expected = 2 * _numbers(one[k]) - 3 * _numbers(other[k])
                self._compare(step, f"is not linear in the density, at operand {k}", _numbers(both[k]), expected)
        if self.conserves:
            self._compare_amounts(
                step, "books amounts that are not linear in the density", booked_both, 2 * booked_one - 3 * booked_other
            )
            self._conserved(step, first, one, booked_one, operands)
        self.checked += 1
        return self.rule(step, densities)

    def _ask(self, step: Step, densities: list[Tensor | None]) -> tuple[Messages, float]:
        """Messages and what was booked, into a book of its own."""
        given = [None if density is None else density.clone() for density in densities]
        outer, step.walk.book = step.walk.book, Book()
        try:
            messages = list(self.rule(step, given))
            ledger = step.walk.book.close(torch.zeros(()))
        finally:
            step.walk.book = outer
        return messages, -ledger.unaccounted

    def _conserved(
        self, step: Step, densities: list[Tensor | None], messages: Messages, booked: float, operands: dict[int, Tensor]
    ) -> None:
        index = step.walk.plan.folded.get(step.index, step.index)
        arrived = 0.0
        for output, density in enumerate(densities):
            if density is None:
                continue
            value = self.known.get((index, output))
            if value is None:
                value = step.walk.values.of((index, output))
            if value is None:
                self._fail(step, "cannot be checked: nothing holds the operation's output. Let the module end with it")
            arrived += float(inner(value, density))
        sent = 0.0
        for k, message in enumerate(messages):
            if isinstance(message, Relevance):
                sent += float(message.value.sum())
            elif message is not None:
                sent += float(inner(operands[k], _numbers(message)))
        self._compare_amounts(
            step,
            "does not conserve relevance (arrived; sent on plus booked)",
            arrived,
            sent + booked,
            scale=max(abs(sent), abs(booked)),
        )

    def _compare(self, step: Step, fault: str, found: Tensor, expected: Tensor) -> None:
        gap = float((found - expected).abs().max()) if found.numel() else 0.0
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        if not gap <= self.tolerance * max(scale, 1e-30):
            self._fail(step, f"{fault}: off by {gap:.3g} where the largest is {scale:.3g}")

    def _compare_amounts(self, step: Step, fault: str, one: float, other: float, *, scale: float = 0.0) -> None:
        if not abs(one - other) <= self.tolerance * max(abs(one), abs(other), scale, 1e-30):
            self._fail(step, f"{fault}: {one:.6g} and {other:.6g}")

    def _fail(self, step: Step, fault: str) -> NoReturn:
        raise AssertionError(f"The rule {_name(self.rule)} at {step.describe()} {fault}.")


def _name(rule: Callable[..., Any]) -> str:
    return str(getattr(rule, "__name__", None) or rule)


def _is_sent(message: Tensor | Fresh | Relevance | None) -> bool:
    return message is not None


def _numbers(message: Tensor | Fresh | Relevance | None) -> Tensor:
    if message is None:
        raise AssertionError("A message was sent for one density and not for another.")
    return message.value if isinstance(message, (Fresh, Relevance)) else message
