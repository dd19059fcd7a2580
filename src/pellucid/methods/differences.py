"""Methods that share the difference from a background: walks over pairs of runs, in chunks, and their mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.pair import multipliers, unruled
from pellucid.engine.passes import Chunk, Scalar
from pellucid.engine.point import Kind, Point
from pellucid.engine.recording import Run, run_recorded
from pellucid.errors import InputError, ModelError, PellucidError, reason
from pellucid.methods.background import Background
from pellucid.methods.base import Attribution, Cost, Family
from pellucid.methods.completeness import completeness_ledger
from pellucid.methods.points import AtPoints, PointMethod, by_token
from pellucid.methods.sampling import Moments
from pellucid.rules.difference import changed, difference_rule
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["DifferenceMethod"]


@dataclass(frozen=True)
class DifferenceMethod(PointMethod):
    """A method that walks over pairs of recorded runs, one at the input and one at each background sample."""

    family: ClassVar[Family] = "relevance"
    spread: ClassVar[bool] = False
    """Whether the standard error over the background is told."""

    @abstractmethod
    def background_of(self, call: Call, points: Mapping[Point, Tensor]) -> Background:
        """What the values at ``points`` are compared with."""

    def attribute(self, call: Call, target: Target) -> Attribution:
        """Inputs and layers from the same walks."""
        function = call.function
        target.check_layers(function.shadow.modules)
        call.partial = None
        first: Run | None = None
        if call.batch <= most_rows(call):
            read = [function.layer(name) for name in target.layers()]
            first = run_recorded(function, {}, None, function.points, read=read, wanted=call.layers)
            function.know(first.done.values)
            scalar = function.fix(target, first.done)
        else:
            scalar = function.start(target)
        return self.dressed(call, scalar, self._shared(call, scalar, function.inputs, first))

    def notes(self, shares: Mapping[Point, Tensor], errors: Mapping[Point, Tensor], size: int) -> tuple[str, ...]:  # noqa: ARG002
        """What a reader must know of the shares of the inputs and their standard errors."""
        return ()

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        return self._shared(call, scalar, points, None)

    def passes(self, call: Call) -> Cost:
        """For every background sample a forward and a gradient, and a forward more."""
        size = self.background_of(call, call.function.inputs).size
        return Cost(size, size)

    def unfit(self, call: Call) -> str | None:
        """An operation without a rule, and its module."""
        small = call.small
        try:
            most_rows(call)
            way = small.way(small.function.points)
            if way.blame:
                return way.blame
            run = run_recorded(small.function, {}, None, small.function.points, wanted=small.layers)
            missing = unruled(run, difference_rule, small.layers)
        except PellucidError as error:
            return reason(error)
        return None if missing is None else f"{missing} has no rule for differences."

    def _shared(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], first: Run | None) -> AtPoints:
        background = self.background_of(call, points)
        mean = MeanShares(spread=self.spread)

        def found() -> AtPoints:
            shares = mean.shares()
            inputs = {point: share for point, share in shares.items() if point in points}
            errors = mean.standard_error()
            return AtPoints(
                shares,
                completeness_ledger(scalar.output, mean.floor(), inputs),
                details={"standard error": errors} if errors else {},
                notes=self.notes(_by_input(inputs), errors, background.size),
            )

        call.progress.expect_more(self._rows(call, background.size, first))
        for part in compared(call, scalar, points, background, first):
            mean.add(part)
            if part.chunk.start + len(part.chunk.rows) >= part.chunk.width:  # every sample has had as many
                self.offer(call, scalar, points, found)
        return found()

    def _rows(self, call: Call, size: int, first: Run | None) -> int:
        """How many rows :func:`compared` runs: of the samples once where every chunk holds all of them once."""
        most = most_rows(call)
        whole = call.batch <= most and min(size, most // call.batch) == 1
        return call.batch * (size + ((first is None) if whole else size))


@dataclass(frozen=True, slots=True)
class Compared:
    """What one walk gave for some rows, each a background sample for an explained one.

    Args:
        chunk: which rows.
        shares: multiplier times difference, at the points and at the outputs of modules, each (n, ...).
        there: (n,) the scalars of the background samples.
    """

    chunk: Chunk
    shares: Mapping[Point, Tensor]
    there: Tensor


def most_rows(call: Call) -> int:
    """How many rows two recorded runs may have at once.

    Raises:
        InputError: not even one fits the memory budget.
    """
    if call.memory is None:
        return call.rows_at_once
    pairs = call.affordable // 2
    if pairs < 1:
        raise InputError(
            f"memory={call.memory} bytes: two recorded runs of one sample do not fit. Raise the budget, or make the "
            "input smaller."
        )
    return min(call.rows_at_once, pairs)


def compared(
    call: Call, scalar: Scalar, points: Mapping[Point, Tensor], background: Background, first: Run | None = None
) -> Iterator[Compared]:
    """Compare every sample with every background sample.

    Args:
        call: what is explained.
        scalar: what is explained of it.
        points: the values at the explained input, each (N, ...).
        background: what they are compared with.
        first: a recorded run of all samples, where there is one already.

    Raises:
        ModelError: see ``multipliers``; or the shares are not finite.
        InputError: a layer's output has not one part per sample, and the samples do not fit into one run.
    """
    function = call.function
    read = [function.layer(name) for name in scalar.layers]
    layers = list(dict.fromkeys(call.layers))
    kept, kept_rows = first, None
    for chunk in function.chunks(background.size, most=most_rows(call)):
        rows = None if _whole(chunk) else chunk.rows
        if kept is None or not _same_rows(rows, kept_rows):
            kept = None  # its graph goes before the next one is made
            here = {point: value if rows is None else value[rows] for point, value in points.items()}
            kept = run_recorded(function, here, rows, list(points), read=read, wanted=layers)
            kept_rows = rows
        there = _of(background, points, chunk)
        other = run_recorded(function, there, rows, list(points), read=read, wanted=layers)
        walked = multipliers(
            kept, other, scalar, rows, difference_rule, changed, module_types=call.shadow.module_types, layers=layers
        )
        del other
        shares = {}
        for point, value in points.items():
            shares[point] = walked.at[point] * ((value if rows is None else value[rows]) - there[point])
            if not bool(torch.isfinite(shares[point]).all()):
                raise ModelError(
                    "The multipliers between the input and a baseline are NaN or infinite. A function on the way has "
                    "no finite slope between the two (as a logarithm of 0), or the baseline lies far outside of what "
                    "the model can compute: give another baseline=."
                )
        for name, share in walked.layers.items():
            if len(share) != len(chunk.rows) and rows is not None:
                raise InputError(
                    f"The output of the module {name!r} has shape {tuple(share.shape)}, whose first dimension is not "
                    "the samples, so that it cannot be read in parts. Give more memory=, or fewer samples."
                )
            shares[function.layer(name)] = share
        yield Compared(chunk, shares, walked.there)


def _whole(chunk: Chunk) -> bool:
    """Whether these are all samples once, in their order."""
    return len(chunk.rows) == chunk.width and chunk.start == 0


def _same_rows(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


def _of(background: Background, points: Mapping[Point, Tensor], chunk: Chunk) -> dict[Point, Tensor]:
    if not _whole(chunk):
        return background.at(chunk.steps, chunk.rows)
    number = int(chunk.steps[0])
    return {point: background.values[point][number].expand_as(value) for point, value in points.items()}


class MeanShares:
    """The mean over the background.

    Args:
        spread: keep also what its standard error needs.
    """

    def __init__(self, *, spread: bool) -> None:
        self._spread = spread
        self._shares: dict[Point, Moments] = {}
        self._dtypes: dict[Point, torch.dtype] = {}
        self._errors: dict[Point, Moments] = {}
        self._floor: Moments | None = None

    def add(self, found: Compared) -> None:
        """Take in the shares of some rows."""
        chunk = found.chunk
        for point, share in found.shares.items():
            self._dtypes[point] = share.dtype
            _take(self._shares, point, chunk, share)
        for point, share in _by_input(found.shares).items() if self._spread else ():
            _take(self._errors, point, chunk, share)
        floors: dict[Point, Moments] = {} if self._floor is None else {_FLOOR: self._floor}
        _take(floors, _FLOOR, chunk, found.there.double())
        self._floor = floors[_FLOOR]

    def shares(self) -> dict[Point, Tensor]:
        """By point."""
        return {point: moments.mean.to(self._dtypes[point]) for point, moments in self._shares.items()}

    def floor(self) -> Tensor:
        """(N,), float64: the mean scalar of the background."""
        assert self._floor is not None
        return self._floor.mean

    def standard_error(self) -> dict[Point, Tensor]:
        """Of the mean, by input; of token ids one value per token. Empty for a background of one sample."""
        found = {point: moments.error() for point, moments in self._errors.items()}
        return {point: error.to(self._dtypes[point]) for point, error in found.items() if error is not None}


_FLOOR = Point(Kind.INPUT, "")


def _by_input(shares: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
    """One tensor per input: of token ids the sum over features and look-ups, so that the error is that of the sum."""
    found: dict[Point, Tensor] = {}
    for point, share in shares.items():
        if point.kind is not Kind.LAYER:
            key, part = Point(point.kind, point.name), by_token(point, share)
            found[key] = found[key] + part if key in found else part
    return found


def _take(into: dict[Point, Moments], point: Point, chunk: Chunk, values: Tensor) -> None:
    if _whole(chunk):
        if point not in into:
            into[point] = Moments(values)
        into[point].add(values[None])
        return
    if point not in into:
        into[point] = Moments(values.new_zeros(chunk.width, *values.shape[1:]))
    into[point].add_chunk(chunk, values)
