"""The way from points of a model to the explained scalar: whether a gradient comes through, and what it crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pellucid.engine.function import ModelFunction
from pellucid.engine.graph import build_graph
from pellucid.engine.observer import observing
from pellucid.engine.ops import Op
from pellucid.engine.point import Point
from pellucid.engine.watch import Watch
from pellucid.targets import Target

__all__ = ["Way", "way_from"]


@dataclass(frozen=True, slots=True)
class Way:
    """What a recorded forward showed.

    Args:
        points: where it began.
        reaches: whether the explained scalar has a gradient there.
        ops: what it crosses.
        cuts: modules in which detach or no_grad cut a part of it.
    """

    points: tuple[Point, ...]
    reaches: bool
    ops: frozenset[Op]
    cuts: tuple[str, ...]

    @property
    def blame(self) -> str | None:
        """Why there is no gradient, and the module to blame; None where there is one."""
        if self.reaches:
            return None
        names = ", ".join(repr(name) if name else "the model itself" for name in self.cuts)
        where = f": detach or no_grad cuts it in {names}" if self.cuts else ""
        return f"no gradient of the explained scalar reaches the {', '.join(map(str, self.points))}{where}"


def way_from(function: ModelFunction, target: Target, points: Sequence[Point]) -> Way:
    """Record a forward from ``points`` to the scalar of ``target``.

    Args:
        function: the model at the explained input; one sample will do.
        target: the explained scalar.
        points: where the graph begins.

    Raises:
        as the model and the target do. InputError: a layer did not run, or several times.
    """
    watch = Watch({})
    layers = [function.layer(name) for name in target.layers()]
    with observing(watch):
        done = function.run({}, read=[*points, *layers], leaves=points, differentiate=True)
        scalar = function.fix(target, done)
        with torch.enable_grad():
            scalars = scalar.of(done)
    graph = None if scalars.grad_fn is None else build_graph([scalars.grad_fn])
    ops = frozenset() if graph is None else frozenset(op for op in graph.ops if op is not None)
    return Way(tuple(points), graph is not None, ops, tuple(sorted({*watch.cuts, *watch.lost(scalars)})))
