"""Does a method hold what Pellucid's own methods hold, beyond being well behaved?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from pellucid import load
from pellucid._api import Request, explain
from pellucid.errors import InputError, TargetError
from pellucid.explanation import Explanation
from pellucid.methods.base import Cost, Family, Method
from pellucid.structures import map_tensors, named_tensors
from pellucid.testing.restores import check_restores

__all__ = ["check_conformance", "sample_of", "target_of"]

_OUT_OF_RANGE = 10**9
_EXACT = 1e-6
"""How far two results in double precision may be apart."""


def check_conformance(
    method: Method, model: nn.Module, x: Any, whole: Explanation, *, target: Any, layer: str | None, tolerance: float
) -> None:
    """The part of :func:`pellucid.testing.check_method` that is for methods alone; see there.

    Args:
        method: which.
        model: in evaluation mode.
        x: two samples or more.
        whole: what the method gave for all of them.
        target: what is explained, or a list with one for each sample.
        layer: a module at which the method is read too.
        tolerance: relative to the largest relevance.

    Raises:
        AssertionError: the message says what does not hold.
    """
    _check_description(method)
    _check_costs(method, model, x)

    def run(**more: Any) -> Any:
        return explain(model, **{"x": x, "target": None if "targets" in more else target, "method": method, **more})

    _check_saved(method, whole)
    _same(run(seed=7), run(seed=7), 0.0, "with the same seed twice")
    other = [*target[1:], target[0]] if isinstance(target, list) else target
    first, second = run(targets=[target, other])
    _same(first, whole, tolerance, "as one of several targets")
    _same(second, whole if other is target else run(target=other), tolerance, "as one of several targets")
    _same(_run_in_little(run, model, x), whole, tolerance, "with memory for one sample")
    _check_double(run, x, target, len(whole) - 1)
    _check_errors(model, x, run)
    if layer is not None:
        _check_layer(method, run(layer=layer), whole, layer, _shape_at(model, x, layer), tolerance)


def sample_of(x: Any, i: int) -> Any:
    """Sample ``i`` of an input, alone."""
    return map_tensors(lambda tensor: tensor[i : i + 1], x)


def target_of(target: Any, i: int) -> Any:
    """What is explained of sample ``i``."""
    return target[i] if isinstance(target, list) else target


def _check_description(method: Method) -> None:
    kind = type(method)
    for what in ("name", "cost", "needs", "advice"):
        text = getattr(method, what, None)
        if not isinstance(text, str) or len(text) < (1 if what == "name" else 6):
            raise AssertionError(f"{kind.__name__}.{what} must be a text that says something; it is {text!r}.")
    if getattr(method, "family", None) not in get_args(Family):
        raise AssertionError(f"{kind.__name__}.family must be one of {', '.join(get_args(Family))}.")
    if "@" not in (getattr(method, "citation", "") or ""):
        raise AssertionError(f"{kind.__name__}.citation must be a BibTeX entry.")
    if not (kind.__dict__.get("__doc__") or "").strip() or kind.__doc__.startswith(f"{kind.__name__}("):  # type: ignore[union-attr]
        raise AssertionError(f"{kind.__name__} has no docstring that says what it does.")
    try:
        json.dumps(method.settings(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{kind.__name__}.settings() cannot be held by JSON: {error}.") from error


def _check_costs(method: Method, model: nn.Module, x: Any) -> None:
    call = Request(model).call(x)
    cost = check_restores(model, x, lambda: method.passes(call))
    if not isinstance(cost, Cost):
        raise AssertionError(f"passes() must give a Cost; it gives {type(cost).__name__}.")
    reason = check_restores(model, x, lambda: method.unfit(call))
    if reason is not None:
        raise AssertionError(f"unfit() says of this model and input: {reason}")


def _check_saved(method: Method, result: Explanation) -> None:
    if result.method != method.name:
        raise AssertionError(f"The explanation's method is {result.method!r}, not {method.name!r}.")
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "a.pellucid")
        back = load(Path(folder) / "a.pellucid")
    assert isinstance(back, Explanation)
    _same(back, result, 0.0, "read back from its file")


def _run_in_little(run: Callable[..., Any], model: nn.Module, x: Any) -> Any:
    """With a budget that one sample fits in and two do not; of a method that needs two at once, two and not three."""
    plenty = 2**50
    one = plenty / Request(model, memory=plenty).call(x).affordable
    try:
        return run(memory=int(1.5 * one) + 1)
    except InputError:
        return run(memory=int(2.5 * one) + 1)


def _check_double(run: Callable[..., Any], x: Any, target: Any, last: int) -> None:
    result = run(dtype="float64")
    alone = run(x=sample_of(x, last), target=target_of(target, last), dtype="float64")
    for name, relevance in result.named().items():
        if relevance.dtype != torch.float64:
            raise AssertionError(f"With dtype='float64' the relevance of input {name!r} is {relevance.dtype}.")
        single = alone.named()[name]
        gap, scale = _largest(relevance[last:] - single), _largest(single)
        if not gap <= _EXACT * scale + 1e-12:
            raise AssertionError(
                f"With dtype='float64' the relevance of input {name!r} of sample {last} depends on its batch mates: "
                f"off by {gap:.3g} from what it is alone, where the largest is {scale:.3g}."
            )


def _check_errors(model: nn.Module, x: Any, run: Callable[..., Any]) -> None:
    _check_refused(model, x, lambda: run(target=_OUT_OF_RANGE), TargetError, "a class that is out of range")
    _check_refused(model, x, lambda: run(layer="no such module"), InputError, "a layer that the model has not")
    broken = map_tensors(lambda tensor: tensor[..., :0] if tensor.ndim > 1 else tensor, x)
    try:
        with torch.no_grad():
            model(**broken) if isinstance(broken, dict) else model(*broken if isinstance(broken, tuple) else (broken,))
    except Exception:  # the model refuses it, so the method must
        _check_refused(model, x, lambda: run(x=broken), InputError, "an input that the model refuses")


def _check_refused(model: nn.Module, x: Any, call: Callable[[], object], expected: type[Exception], what: str) -> None:
    try:
        check_restores(model, x, call)
    except expected:
        return
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(
            f"Given {what}, it raises {type(error).__name__} instead of {expected.__name__}: {error}"
        ) from error
    raise AssertionError(f"Given {what}, it raises nothing; expected {expected.__name__}.")


def _shape_at(model: nn.Module, x: Any, layer: str) -> tuple[int, ...]:
    """The shape of what a module gives, of the first tensor where these are several."""
    found: list[tuple[int, ...]] = []

    def see(_: nn.Module, __: Any, output: Any) -> None:
        found.extend(tuple(tensor.shape) for tensor in named_tensors(output).values())

    handle = model.get_submodule(layer).register_forward_hook(see)
    try:
        with torch.no_grad():
            model(**x) if isinstance(x, dict) else model(*x if isinstance(x, tuple) else (x,))
    finally:
        handle.remove()
    return found[0]


def _check_layer(
    method: Method, result: Explanation, whole: Explanation, layer: str, shape: tuple[int, ...], tolerance: float
) -> None:
    if not method.placed:
        _same(result, whole, tolerance, f"with layer={layer!r}")
    there = result.layers.get(layer)
    maps = method.placed or method.family == "attention"  # of positions alone
    expected = (len(result), *(there.shape[1:] if maps and there is not None else shape[1:]))
    if there is None or there.shape != expected or not bool(torch.isfinite(there).all()):
        held = None if there is None else tuple(there.shape)
        raise AssertionError(
            f"With layer={layer!r}, layers must hold finite values of shape {expected} there; it holds {held}."
        )


def _same(result: Explanation, other: Explanation, tolerance: float, when: str) -> None:
    """Fail where relevance or output differ by more than ``tolerance`` of the largest."""
    mine, theirs = ({**named_tensors(one.relevance), "output": one.output} for one in (result, other))
    for name, value in theirs.items():
        gap = _largest(mine[name] - value)
        if not gap <= tolerance * _largest(value):
            what = "output" if name == "output" else f"relevance of input {name!r}"
            raise AssertionError(
                f"The {what} is another {when}: off by {gap:.3g}, where the largest is {_largest(value):.3g}."
            )


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0
