"""Baselines: what an input is compared with, or replaced by, where a feature is absent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pellucid.engine.point import Kind, Point
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["BASELINES", "Baseline", "Token", "baseline_of", "baselines_at"]


@dataclass(frozen=True)
class Token:
    """The baseline of token ids: every token replaced by this one (a padding or mask token)."""

    id: int


Baseline = "str | float | Tensor | Token | Callable[[Tensor], Tensor] | Mapping[str, Any]"
"""A name of :data:`BASELINES`, a number, a tensor that broadcasts to the input, a Token, a function of the input, or
one of these for every input by name."""


def _zero(value: Tensor, _: Call) -> Tensor:
    return torch.zeros_like(value)


def _mean(value: Tensor, _: Call) -> Tensor:
    """Mean over positions, per sample and channel (images) or feature (sequences)."""
    dims = list(range(2, value.ndim)) if value.ndim > 3 else [1] if value.ndim == 3 else []
    return value.mean(dims, keepdim=True).expand_as(value) if dims else value.mean(1, keepdim=True).expand_as(value)


def _blur(value: Tensor, _: Call) -> Tensor:
    """Gaussian blur with a spread of a tenth of each side, over all positions of (N, C, ...) values."""
    if value.ndim < 3:
        return _mean(value, _)
    for dim in range(2, value.ndim):
        size = value.shape[dim]
        spread = max(size / 10, 0.5)
        reach = min(int(3 * spread + 0.5), size - 1)
        steps = torch.arange(-reach, reach + 1, dtype=value.dtype, device=value.device)
        kernel = torch.exp(-((steps / spread) ** 2) / 2)
        kernel = kernel / kernel.sum()
        moved = value.movedim(dim, -1)
        flat = torch.nn.functional.pad(moved.reshape(-1, 1, size), (reach, reach), mode="reflect")
        blurred = torch.nn.functional.conv1d(flat, kernel.view(1, 1, -1)).reshape(moved.shape)
        value = blurred.movedim(-1, dim)
    return value


def _bound(which: int) -> Callable[[Tensor, Call], Tensor]:
    def bound(value: Tensor, call: Call) -> Tensor:
        """The lowest or highest possible input, of the preprocessing where it tells, else of the sample."""
        if call.bounds is not None and value.ndim > 1 and value.shape[1] == len(call.bounds[which]):
            pairs = torch.tensor(call.bounds[which], dtype=value.dtype, device=value.device)
            return pairs.view(1, -1, *[1] * (value.ndim - 2)).expand_as(value)
        flat = value.flatten(1)
        extreme = flat.amin(1) if which == 0 else flat.amax(1)
        return extreme.view(-1, *[1] * (value.ndim - 1)).expand_as(value)

    return bound


BASELINES: Mapping[str, Callable[[Tensor, Call], Tensor]] = {
    "zero": _zero,
    "mean": _mean,
    "blur": _blur,
    "min": _bound(0),
    "max": _bound(1),
}
"""Named baselines: zeros; the mean over positions; a strong blur; the lowest and highest value (black, white)."""


def baseline_of(call: Call, spec: Any) -> dict[Point, Tensor]:
    """The baseline at the explained inputs, each in the shape of the value there.

    Args:
        call: what is explained.
        spec: see :data:`Baseline`.

    Raises:
        InputError: no such baseline, or its shape does not fit.
    """
    inputs = call.function.inputs
    if isinstance(spec, Mapping):
        names = {point.name for point in inputs}
        wrong = sorted(str(name) for name in spec if str(name) not in names)
        if wrong:
            raise InputError(f"baseline= names {wrong}, which are no explained inputs. Those are: {sorted(names)}.")
    tokens: dict[int, dict[Point, Tensor]] = {}
    found = {}
    for point, value in inputs.items():
        own = spec.get(point.name, "zero") if isinstance(spec, Mapping) else spec
        if isinstance(own, Token):
            if point.kind is not Kind.LOOK_UP:
                raise InputError(f"A Token baseline is for token ids; the {point} holds floating values.")
            if own.id not in tokens:
                tokens[own.id] = call.function.looked_up(own.id)
            found[point] = tokens[own.id][point]
        else:
            found[point] = _one(call, point, value, own)
    return found


def _one(call: Call, point: Point, value: Tensor, spec: Any) -> Tensor:
    if isinstance(spec, str):
        if spec not in BASELINES:
            raise InputError(
                f"No baseline is called {spec!r}. Expected one of {', '.join(BASELINES)}; or a number, a tensor, a "
                "function of the input, Token(id) for token ids."
            )
        return BASELINES[spec](value, call)
    if callable(spec) and not isinstance(spec, Tensor):
        spec = spec(value)
    try:
        made = torch.as_tensor(spec, dtype=value.dtype, device=value.device)
        return made.expand_as(value)
    except (RuntimeError, TypeError, ValueError) as error:
        shape = tuple(getattr(spec, "shape", ())) or type(spec).__name__
        raise InputError(
            f"The baseline of the {point} must be a number or broadcast to its shape {tuple(value.shape)}; got {shape}."
        ) from error


def baselines_at(call: Call, points: Mapping[Point, Tensor], specs: Any) -> list[dict[Point, Tensor]]:
    """Every baseline of ``specs`` (one, or a list of several) at ``points``.

    At a layer, the baseline is what the layer gives for the baseline of the inputs.
    """
    many: Sequence[Any] = specs if isinstance(specs, (list, tuple)) else [specs]
    if not many:
        raise InputError("baseline= is an empty list: expected at least one baseline.")
    made = [baseline_of(call, spec) for spec in many]
    if all(point.kind is not Kind.LAYER for point in points):
        return made
    return [call.function.read(list(points), values) for values in made]
