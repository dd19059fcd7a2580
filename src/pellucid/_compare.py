"""The verb ``compare``: several methods on one question, each at its own cost, and none loses the others' results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from pellucid._api import Request
from pellucid.comparison import Comparison, Spent
from pellucid.composites import composite_named
from pellucid.engine.inputs import samples
from pellucid.errors import InputError, Interrupted, ModelError, PellucidError, TargetError
from pellucid.errors import reason as reason_of
from pellucid.explanation import Explanation
from pellucid.methods.base import Cost, Method
from pellucid.methods.call import Call
from pellucid.methods.catalogue import method_named, methods
from pellucid.models import LoadedModel
from pellucid.progress import Progress, Report
from pellucid.targets import Target, resolve_targets

__all__ = ["compare"]

_GRADIENT = 3
"""What a forward with a backward pass takes, in forwards: for the time left only."""
_UNKNOWN = 100
"""Passes that are assumed of a method that cannot tell them beforehand."""

_Asked = Sequence["str | Method | type[Method]"] | str
_all = methods


def compare(
    model: nn.Module | LoadedModel,
    x: Any,
    *,
    methods: _Asked = "all",
    target: Any = None,
    layer: str | Sequence[str] | None = None,
    inputs: str | int | Iterable[str | int] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    memory: int | str | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> Comparison:
    """Explain the same scalars by several methods: maps side by side, how far they agree, what each cost.

    Args:
        model: as for :func:`pellucid.explain`, like all that follow but ``methods``.
        x: tensor (N, ...), or a tuple or dict of tensors.
        methods: names or Methods with settings, in the order wanted; "all": every method that fits this model and
            input, in the order of ``pellucid methods``, which can take long: ``pellucid.check`` tells the passes.
        target: what is explained.
        layer: modules at which relevance is read too.
        inputs: which inputs are explained.
        dtype: compute in this floating dtype.
        device: compute there.
        memory: budget in bytes, or text such as "2GB".
        seed: seeds all random numbers of every method.
        progress: called as ``progress(done, total, seconds_left)``, in forwards of all methods together.

    Returns:
        Comparison; a method that cannot explain this is in ``left_out`` with the reason.

    Raises:
        InputError: something given cannot be used. TargetError: the target cannot.
        ModelError: the model cannot be explained, or no method could.
        Interrupted: Ctrl-C after the first estimate; ``.partial`` is the Comparison of what there is.
    """
    asked = _asked(methods)
    with torch.inference_mode(False):
        request = _Counting(model, layer, None, inputs, dtype, device, memory, seed)
        call = request.call(x)
        target_of_all = resolve_targets(target, samples(x, inputs), class_names=request.names)
        call.target = target_of_all
        _warm_up(call, target_of_all, walks=any(method.walks for method in asked.values()))
        run = _Run(request, call, x, target, list(_fitting(asked, call, everything=isinstance(methods, str))))
        return run.compare(progress)


def _warm_up(call: Call, target: Target, *, walks: bool) -> None:
    """One run of each kind before any is timed: what is imported and set up once is no method's cost.

    Raises:
        TargetError: the target is wrong, which it is for every method.
    """
    try:
        call.function.start(target)
        if walks:
            call.trace(composite_named("epsilon"), [target])
    except TargetError:
        raise
    except PellucidError:
        pass  # a method that calls the model in another way may still do; if none does, each says why


def _asked(methods: _Asked) -> dict[str, Method]:
    """The methods by the names under which the comparison shows them."""
    if isinstance(methods, str):
        if methods != "all":
            raise InputError(f"Expected methods= as a list of methods, or 'all', got {methods!r}.")
        methods = list(_all().values())
    found = [method_named(method) for method in methods]
    if not found:
        raise InputError("methods= is empty: expected at least one method, or 'all'.")
    names = [method.name for method in found]
    named: dict[str, Method] = {}
    for method in found:
        label = method.name if names.count(method.name) == 1 else _with_settings(method)
        unique = next(
            name for name in (label, *(f"{label} {k}" for k in range(2, len(found) + 1))) if name not in named
        )
        named[unique] = method
    return named


def _with_settings(method: Method) -> str:
    """ "integrated-gradients (steps=200)": the settings that are not the default's."""
    given = []
    for item in dataclasses.fields(method):
        value = getattr(method, item.name)
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        plain = isinstance(value, str | int | float | tuple) and type(value) is type(default)
        if value is not default and not (plain and value == default):
            shown = value if isinstance(value, str | int | float) else getattr(value, "name", type(value).__name__)
            given.append(f"{item.name}={str(shown)[:30]}")
    return f"{method.name} ({', '.join(given)})" if given else method.name


def _fitting(
    asked: dict[str, Method], call: Call, *, everything: bool
) -> Iterator[tuple[str, Method, str | None, float]]:
    """Name, method, why it is left out from the start (never where it was asked for by name), passes of a sample."""
    for name, method in asked.items():
        try:
            reason = method.unfit(call) if everything else None
            cost = method.passes(call)
        except Exception as error:  # of a user's own method too: it must not lose the others' results
            reason, cost = reason_of(error), Cost(None, None)
        known = cost.forwards is not None and cost.gradients is not None
        yield name, method, reason, (cost.forwards or 0) + _GRADIENT * (cost.gradients or 0) if known else _UNKNOWN


class _Counting(Request):
    """A request that keeps the calls that it made, to see what they ran."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.made: list[Call] = []

    def call(self, x: Any) -> Call:
        """See Request."""
        made = super().call(x)
        self.made.append(made)
        return made


class _Run:
    """The methods one after the other."""

    def __init__(
        self, request: _Counting, call: Call, x: Any, target: Any, planned: list[tuple[str, Method, str | None, float]]
    ) -> None:
        self.request = request
        self.call = call
        self.x = x
        self.target = target
        self.planned = planned
        self.explanations: dict[str, Explanation] = {}
        self.costs: dict[str, Spent] = {}
        self.errors: dict[str, Exception] = {}
        self.left_out: dict[str, str] = {}

    def compare(self, report: Report | None) -> Comparison:
        """Run them all.

        Raises:
            ModelError: none gave an explanation. Interrupted: see ``compare``.
        """
        overall = _Overall(report, sum(weight for _, _, reason, weight in self.planned if reason is None))
        for name, method, reason, weight in self.planned:
            if reason is not None:
                self.left_out[name] = reason
                continue
            try:
                self._one(name, method, overall.part(weight))
            except KeyboardInterrupt as stop:
                raise self._interrupted(name, stop) from stop
            except Exception as error:
                self.errors[name] = error
                self.left_out[name] = reason_of(error)
            overall.finish(weight)
        if not self.explanations:
            raise self._nothing()
        return Comparison(self.explanations, self.costs, self.left_out)

    def _one(self, name: str, method: Method, report: Report | None) -> None:
        before = len(self.request.made)
        self.request.progress = Progress(report)
        started = time.perf_counter()
        try:
            self.explanations[name] = self.request.run(method, self.x, [self.target])[0]
        except Interrupted as stop:
            self.explanations[name] = stop.partial[0]
            raise
        finally:
            if name in self.explanations:
                seconds = time.perf_counter() - started
                self.costs[name] = self._spent(method, seconds, self.request.made[before:])

    def _spent(self, method: Method, seconds: float, calls: Sequence[Call]) -> Spent:
        functions = [call.__dict__["function"] for call in calls if "function" in call.__dict__]
        gradients = sum(function.backwards for function in functions)
        counted = (max(0, sum(function.forwards for function in functions) - gradients), gradients)
        if functions and not method.walks:
            return Spent(seconds, *counted)
        cost = method.passes(self.call)  # a walk is counted by nobody, so what the method says of itself stands
        said = ((cost.forwards, counted[0]), (cost.gradients, counted[1]))
        size = self.call.batch
        return Spent(seconds, *((ran if functions else None) if told is None else told * size for told, ran in said))

    def _interrupted(self, name: str, stop: KeyboardInterrupt) -> KeyboardInterrupt:
        if not self.explanations:
            return stop
        for other, _, reason, _ in self.planned:
            if other not in self.explanations and other not in self.left_out:
                self.left_out[other] = reason or "not run: interrupted"
        warnings = ["Interrupted: methods that were not run are left out."]
        if name in self.explanations:
            warnings.append(f"The map of {name} is the estimate so far, not the final one.")
        partial = Comparison(self.explanations, self.costs, self.left_out, tuple(warnings))
        return Interrupted("Interrupted; the comparison so far is in .partial.", partial)

    def _nothing(self) -> Exception:
        if len(self.planned) == 1 and self.errors:
            return next(iter(self.errors.values()))
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
        kind = InputError if all(isinstance(error, InputError) for error in self.errors.values()) else ModelError
        return kind(f"No method could explain this. {reasons}")


class _Overall:
    """One count of forwards over all methods, from what each says of itself."""

    def __init__(self, report: Report | None, total: float) -> None:
        self.report = report
        self.total = total
        self.done = 0.0
        self.started = time.monotonic()

    def part(self, weight: float) -> Report | None:
        """What a method that makes ``weight`` of the work is to report to."""
        if self.report is None:
            return None

        def report(done: int, total: int | None, left: float | None) -> None:  # noqa: ARG001
            self.tell(self.done + (weight * min(1.0, done / total) if total else 0.0))

        return report

    def finish(self, weight: float) -> None:
        """A method is done."""
        self.done += weight
        self.tell(self.done)

    def tell(self, done: float) -> None:
        """Report ``done`` passes."""
        if self.report is not None and self.total:
            spent = time.monotonic() - self.started
            left = spent * (self.total - done) / done if done else None
            self.report(round(done), round(self.total), left)
