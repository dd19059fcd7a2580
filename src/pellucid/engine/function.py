"""The model as a plain function of chosen points: explained inputs, embedding look-ups, outputs of modules.

Methods that need only forwards and gradients put values at points, for as many rows as they like, and read scalars,
gradients or activations. The model runs as its shadow with every parameter frozen, so that no more graph is recorded
than lies behind the points; a pass that is not differentiated records none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.inputs import Prepared
from pellucid.engine.intercept import Intercept, intercepting
from pellucid.engine.observer import unwatched
from pellucid.engine.passes import Chunk, Make, Pass, Scalar, joined, may_be_gated, of_all
from pellucid.engine.point import Kind, Point, Values
from pellucid.engine.shadow import Shadow, forward_conditions, frozen
from pellucid.engine.together import seeded
from pellucid.errors import InputError, ModelError, PellucidError
from pellucid.outputs import main_output
from pellucid.targets import Target
from pellucid.targets.base import of_samples

__all__ = ["ModelFunction"]


class ModelFunction:
    """A model to call with other values at points.

    Args:
        shadow: the copy to run.
        prepared: the explained input.
        seed: the random numbers of a forward that draws any start from it in every pass.
        most: how many rows are run at once.
        whole: how many samples of the explained input are; None: all.
        tick: told how many rows were run.
    """

    def __init__(
        self,
        shadow: Shadow,
        prepared: Prepared,
        *,
        seed: int,
        most: int,
        whole: int | None = None,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        self.shadow = shadow
        self.prepared = prepared
        self.most = most
        self.whole = prepared.batch if whole is None else whole
        self.forwards = 0
        self.backwards = 0
        self.drew = False
        self.notes: list[str] = []
        self._seed = seed
        self._tick = tick or (lambda _: None)
        self._inputs: dict[Point, Tensor] | None = None
        self._gate: str | None = "unknown"
        self._parameters = list(shadow.module.parameters())

    # -- points -------------------------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.prepared.batch

    @property
    def points(self) -> list[Point]:
        """Where the explained inputs come in; of ids that several embeddings look up, the first stands for all."""
        leaves, ids = self.prepared.leaves, self.prepared.ids
        return [*(Point(Kind.INPUT, name) for name in leaves), *(Point(Kind.LOOK_UP, name) for name in ids)]

    @property
    def inputs(self) -> dict[Point, Tensor]:
        """The values at the explained inputs: floating inputs as they are, of token ids the vectors looked up.

        Raises:
            ModelError: explained ids are looked up in no embedding.
        """
        if self._inputs is None:
            read = [point for point in self.points if point.kind is Kind.LOOK_UP]
            self.know(self.read(read) if read else {})
        assert self._inputs is not None
        return self._inputs

    def know(self, values: Values) -> None:
        """Keep what a pass of the explained input read at look-ups of ids, to be among :attr:`inputs`."""
        if self._inputs is None:
            floating = {Point(Kind.INPUT, name): leaf.detach() for name, leaf in self.prepared.leaves.items()}
            self._inputs = floating | {p: tensor.detach() for p, tensor in values.items() if p.kind is Kind.LOOK_UP}

    def parts(self) -> Sequence[Tensor | None]:
        """The samples in as many at once as memory allows, each (n,); None stands for all."""
        rows = torch.arange(self.batch, device=self.prepared.device)
        return [None] if self.batch <= self.whole else torch.split(rows, self.whole)

    def read(self, points: Sequence[Point], values: Values | None = None) -> dict[Point, Tensor]:
        """What is at ``points`` for every sample, with ``values`` put at others, each (N, ...)."""
        given = values or {}
        runs = [
            self.run(given if rows is None else {p: v[rows] for p, v in given.items()}, rows, read=points)
            for rows in self.parts()
        ]
        return joined([run.values for run in runs])

    def looked_up(self, ids: int | Mapping[str, Tensor]) -> dict[Point, Tensor]:
        """What the look-ups of the explained ids would give, were they others.

        Args:
            ids: one token in the place of every id, or by the name of the input other ids, each (n, ...). Inputs that
                are not explained are then those of the first sample.

        Returns:
            The vectors at the points of look-ups, each (N, ...) or (n, ...).

        Raises:
            InputError: the model raised, as it does for an id that its embedding does not have.
        """
        own = self.prepared
        if isinstance(ids, int):
            filled = {name: torch.full_like(given, ids) for name, given in own.ids.items()}
            rest = own.values
        else:
            filled = dict(ids)
            count = len(next(iter(filled.values())))
            first = torch.zeros(count, dtype=torch.long, device=next(iter(filled.values())).device)
            rest = {
                name: value.detach().index_select(0, first) if value.ndim and len(value) == self.batch else value
                for name, value in own.values.items()
            }
        other = replace(own, ids=filled, values={**rest, **filled}, batch=len(next(iter(filled.values()))))
        beside = ModelFunction(self.shadow, other, seed=self._seed, most=self.most, whole=self.whole)
        return {point: value for point, value in beside.inputs.items() if point.kind is Kind.LOOK_UP}

    def layer(self, name: str) -> Point:
        """The point at the output of a module.

        Raises:
            InputError: the model has no such module.
        """
        if name not in self.shadow.modules:
            raise InputError(f"The model has no module {name!r}. Names are those of model.named_modules().")
        return Point(Kind.LAYER, name)

    # -- passes -------------------------------------------------------------------------------------------------

    def run(
        self,
        values: Values,
        rows: Tensor | None = None,
        *,
        read: Sequence[Point] = (),
        leaves: Sequence[Point] = (),
        differentiate: bool = False,
    ) -> Pass:
        """One forward.

        Args:
            values: what to put at points, each (n, ...); everything else is as at the explained input.
            rows: (n,) the sample that each row belongs to; None: row i is sample i.
            read: points whose values are wanted.
            leaves: points at which the graph begins: what comes there is a fresh leaf, whatever made it.
            differentiate: record a graph, from the leaves on.

        Raises:
            InputError: the model's forward raised; the cause is chained. A layer did not run, or several times.
            ModelError: explained ids are looked up in no embedding.
        """
        asked = (values, rows, read, leaves, differentiate)
        raw, intercept = self._run(*asked, watch=self._gate not in (None, "unknown"))
        if self._gate == "unknown" and may_be_gated(raw):
            raw, intercept = self._run(*asked, watch=True)
        count = self.batch if rows is None else len(rows)
        self.forwards += count
        self._tick(count)
        return Pass(raw, self._before_gate(raw, intercept), intercept.found)

    def _run(
        self,
        values: Values,
        rows: Tensor | None,
        read: Sequence[Point],
        leaves: Sequence[Point],
        differentiate: bool,
        *,
        watch: bool,
    ) -> tuple[Any, Intercept]:
        intercept = Intercept(values, read, leaves if differentiate else (), ids=self._ids(rows), watch=watch)
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad() if differentiate else torch.no_grad())
            stack.enter_context(unwatched(self.shadow.module))
            stack.enter_context(frozen(self._parameters))
            stack.enter_context(forward_conditions(self.shadow))
            drawn = stack.enter_context(seeded(self._seed, self._device()))
            stack.enter_context(intercepting(intercept, self.shadow))
            raw = self._call(intercept.arguments(self.prepared, rows))
            self.drew = self.drew or drawn()
        intercept.check()
        return raw, intercept

    def _call(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        positional, named = arguments
        try:
            return self.shadow.module(*positional, **named)
        except PellucidError:
            raise
        except Exception as error:
            shapes = {name: (tuple(t.shape), str(t.dtype)) for name, t in self.prepared.values.items()}
            raise InputError(
                f"The model {type(self.shadow.module).__name__} raised {type(error).__name__} on this input: {error}. "
                f"The input was {shapes}; check that shapes and dtypes are what the model expects (a batch dimension "
                "first)."
            ) from error
        finally:
            self.shadow.tidy()

    def _ids(self, rows: Tensor | None) -> dict[str, Tensor]:
        ids = self.prepared.ids
        return ids if rows is None else {name: tensor.index_select(0, rows) for name, tensor in ids.items()}

    def _device(self) -> torch.device | None:
        return self._parameters[0].device if self._parameters else None

    def _before_gate(self, raw: Any, intercept: Intercept) -> Tensor | None:
        """The input of the output gate; after the first pass it is known whether there is one."""
        if self._gate is None:
            return None
        try:
            output, _ = main_output(raw)
        except InputError:
            return None  # a target that takes the raw output needs none
        name, found = intercept.gate_of(output)
        if self._gate == "unknown":
            self._gate = name
            if name is not None:
                self.notes.append(f"The model ends in {name}; the explained scalar is made from its input, the logits.")
        return found

    # -- scalars ------------------------------------------------------------------------------------------------

    def fix(self, target: Target, done: Pass, rows: Tensor | None = None) -> Scalar:
        """The explained scalar, from a forward of the explained input, or of the samples ``rows`` (n,) of it.

        Raises:
            TargetError: the target cannot be computed on this output.
            InputError: it has not one value per sample. ModelError: it is NaN or infinite.
        """
        count = self.batch if rows is None else len(rows)
        target = target if rows is None else of_samples(target, rows)
        with torch.no_grad():
            seen = done.raw if target.takes_raw else done.logits.detach()
            target = target.fix(seen)
            activations = {name: value.detach() for name, value in done.activations(target.layers()).items()}
            weights = None if target.takes_raw or target.layers() else target.weights(seen)
            scalar = target.scalar(seen, activations)
        if scalar.ndim != 1 or scalar.shape[0] != count:
            raise InputError(
                f"The explained scalar must have one value per sample, shape ({count},), but it has shape "
                f"{tuple(scalar.shape)}. The first dimension of the model's output must be the batch; otherwise give "
                "target= a callable that returns one value per sample."
            )
        if not bool(torch.isfinite(scalar).all()):
            raise ModelError(
                f"The explained scalar is {scalar.tolist()[:4]}: the model's output is NaN or infinite for this input. "
                "Check the input's scale and the model's parameters."
            )
        return Scalar(target, weights, scalar)

    def start(self, target: Target) -> Scalar:
        """:meth:`fix` with a forward of its own."""
        return self.begin(target)[0]

    def begin(self, target: Target, read: Sequence[Point] = ()) -> tuple[Scalar, dict[Point, Tensor]]:
        """:meth:`fix` with a forward of its own, and what is there at the explained inputs of ids and at ``read``."""
        ids = [point for point in self.points if point.kind is Kind.LOOK_UP]
        wanted = [*ids, *read, *map(self.layer, target.layers())]
        scalars, found = [], []
        for rows in self.parts():
            done = self.run({}, rows, read=wanted)
            scalars.append(self.fix(target, done, rows))
            found.append(done.values)
        values = joined(found)
        self.know(values)
        return of_all(scalars), values

    def scalars(self, steps: int, make: Make, scalar: Scalar, *, samples: Tensor | None = None) -> Iterator[Chunk]:
        """Scalars of ``steps`` variants of every sample, as many at once as memory allows.

        Args:
            steps: how many variants.
            make: gives the values of some rows, from the number of the variant and the sample of each.
            scalar: what is computed.
            samples: (M,) which samples; None: all.
        """
        for chunk in self.chunks(steps, samples):
            done = self.run(
                make(chunk.steps, chunk.rows), chunk.rows, read=[self.layer(name) for name in scalar.layers]
            )
            yield chunk.with_results(scalar.of(done, chunk.rows), {})

    def gradients(
        self,
        steps: int,
        make: Make,
        scalar: Scalar,
        points: Sequence[Point],
        *,
        samples: Tensor | None = None,
        beside: Sequence[Point] = (),
    ) -> Iterator[Chunk]:
        """As :meth:`scalars`, with the gradients at ``points``.

        Args:
            beside: further points on the way, whose values and gradients are wanted as they come by.
        """
        for chunk in self.chunks(steps, samples):
            scalars, done, gradients = self._gradient(make(chunk.steps, chunk.rows), chunk.rows, scalar, points, beside)
            yield chunk.with_results(scalars, gradients, {point: done.values[point].detach() for point in beside})

    def gradient(
        self, values: Values, rows: Tensor | None, scalar: Scalar, points: Sequence[Point]
    ) -> tuple[Tensor, dict[Point, Tensor]]:
        """Scalars (n,) and their gradients (n, ...) at ``points``, of one pass; of all samples as memory allows."""
        if rows is None and self.batch > self.whole:
            chunks = [*self.gradients(1, lambda _, part: {p: v[part] for p, v in values.items()}, scalar, points)]
            return torch.cat([chunk.scalars for chunk in chunks]), joined([chunk.gradients for chunk in chunks])
        scalars, _, gradients = self._gradient(values, rows, scalar, points, ())
        return scalars, gradients

    def _gradient(
        self, values: Values, rows: Tensor | None, scalar: Scalar, points: Sequence[Point], beside: Sequence[Point]
    ) -> tuple[Tensor, Pass, dict[Point, Tensor]]:
        layers = [self.layer(name) for name in scalar.layers]
        done = self.run(values, rows, read=[*points, *beside, *layers], leaves=points, differentiate=True)
        scalars, gradients = self.differentiate(scalar.of(done, rows), done, points, beside=beside)
        return scalars, done, gradients

    def differentiate(
        self, scalars: Tensor, done: Pass, points: Sequence[Point], *, beside: Sequence[Point] = (), again: bool = False
    ) -> tuple[Tensor, dict[Point, Tensor]]:
        """Gradients of ``scalars`` at points of a pass that recorded a graph; zeros where they do not depend on it.

        Args:
            scalars: (n,), computed from ``done``.
            done: the forward.
            points: read in it; they depend on one of these at least.
            beside: further points.
            again: keep the graph for another call.

        Raises:
            ModelError: the scalars depend on none of the points.
        """
        every = {point: done.values[point] for point in (*points, *beside)}
        found: Sequence[Tensor | None] = ()
        if scalars.requires_grad:
            found = torch.autograd.grad(scalars.sum(), [*every.values()], retain_graph=again, allow_unused=True)
        if all(gradient is None for gradient in found[: len(points)]):
            raise ModelError(
                f"The explained scalar does not depend on {', '.join(map(str, points))}: it was computed without a "
                "gradient graph. Check detach() and no_grad inside the model, and that inputs= and layer= name what "
                "it uses."
            )
        self.backwards += len(scalars)
        return scalars.detach(), {
            point: torch.zeros_like(tensor) if gradient is None else gradient
            for (point, tensor), gradient in zip(every.items(), found, strict=True)
        }

    def chunks(self, steps: int, samples: Tensor | None = None, *, most: int | None = None) -> Iterator[Chunk]:
        """Rows in the order step by step, cut so that a chunk is whole steps or a part of one.

        Args:
            steps: how many variants of every sample.
            samples: (M,) which samples; None: all.
            most: rows at once, where that is not what the function runs at once.
        """
        most = self.most if most is None else most
        device = self.prepared.device
        samples = torch.arange(self.batch, device=device) if samples is None else samples.to(device)
        width = len(samples)
        at_once = max(1, most // width)
        for first in range(0, steps, at_once):
            count = min(at_once, steps - first)
            numbers = torch.arange(first, first + count, device=device).repeat_interleave(width)
            rows = samples.repeat(count)
            size = most if width > most else len(rows)
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                yield Chunk(numbers[part], rows[part], start % width, width)
