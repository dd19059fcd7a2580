"""What methods that take features away share: settings, and the board of scores that becomes an attribution."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.engine.point import Kind, Point
from pellucid.errors import PellucidError, reason
from pellucid.methods.base import Cost, Family
from pellucid.methods.baselines import baselines_at
from pellucid.methods.completeness import completeness_ledger
from pellucid.methods.features import Features, Parts, features_at
from pellucid.methods.game import Game, games
from pellucid.methods.points import AtPoints, PointMethod
from pellucid.methods.replacing import Replacing

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Board", "Estimate", "FeatureMethod", "ScoreMethod"]


@dataclass(frozen=True)
class Estimate:
    """What is known of the players of a game.

    Args:
        scores: (M, F), float64.
        errors: (M, F), their standard errors, where they are sampled and there is enough to tell.
        tables: further tensors (M, ...) by name.
        by_feature: further tensors (M, F) by name.
        notes: what a reader must know.
        settings: what was found on the way.
    """

    scores: Tensor
    errors: Tensor | None = None
    tables: Mapping[str, Tensor] = field(default_factory=dict)
    by_feature: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreMethod(PointMethod):
    """A method that gives every feature a score by taking features away.

    A feature's score is spread equally over its values, so that sums are kept; the scores themselves are in
    ``details["feature scores"]`` (N, features), the features in ``details["feature map"]``.
    """

    family: ClassVar[Family] = "perturbation"
    differentiates: ClassVar[bool] = False
    conserves: ClassVar[bool] = False
    """Whether the scores sum to ``f(x) - f(baseline)``."""

    @abstractmethod
    def features_of(self, call: Call, points: Mapping[Point, Tensor]) -> Parts:
        """The features that the settings mean."""

    @abstractmethod
    def games_of(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], features: Any) -> Iterator[Game]:
        """Games of all samples."""

    @abstractmethod
    def play(self, game: Game, board: Board) -> None:
        """Find the scores of a game's players and put them on the board."""

    @abstractmethod
    def forwards(self, count: int) -> int | None:
        """Evaluations of every sample that ``count`` features need; None where that is not known before."""

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        board = Board(self, call, scalar, points, self.features_of(call, points))
        rows = self.forwards(board.features.sizes.shape[1])
        for k, game in enumerate(self.games_of(call, scalar, points, board.features)):
            if k == 0 and rows is not None:  # the baselines of a layer have been run
                call.progress.expect_more(rows * call.batch)
            self.play(game, board)
        return board.found()

    def unfit(self, call: Call) -> str | None:
        """Features that mean nothing here, or need a library."""
        why = super().unfit(call)
        if why is not None:
            return why
        try:
            for points in ([call.function.layer(name)] for name in call.layers):
                self.features_of(call, call.function.read(points))
            self.features_of(call, call.function.inputs)
        except PellucidError as error:
            return reason(error)
        return None

    def passes(self, call: Call) -> Cost:
        """The forwards for as many features as the input has, and one to see what is explained."""
        forwards = self.forwards(self.features_of(call, call.function.inputs).sizes.shape[1])
        return Cost(None if forwards is None else 1 + forwards)


@dataclass(frozen=True)
class FeatureMethod(ScoreMethod):
    """A score method for features of any form, with a baseline where they are absent."""

    features: Any = None
    baseline: Any = "zero"

    patches: ClassVar[int] = 196
    """About how many patches a picture has, where ``features`` does not say."""

    @property
    def times(self) -> int:
        """How often every coalition is run: once a baseline."""
        return len(self.baseline) if isinstance(self.baseline, (list, tuple)) else 1

    def features_of(self, call: Call, points: Mapping[Point, Tensor]) -> Features:
        """See the base class."""
        caller = f"the method {self.name!r}"
        return features_at(call, points, self.features, patches=self.patches, caller=caller)

    def games_of(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], features: Features
    ) -> Iterator[Game]:
        """See the base class."""
        yield from games(Replacing(call, scalar, points, baselines_at(call, points, self.baseline)), features)


class Board:
    """The scores of all samples, as far as they are known.

    Args:
        method: whose.
        call: what is explained.
        scalar: what is explained.
        points: with their values.
        features: whose scores.
    """

    def __init__(
        self, method: ScoreMethod, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], features: Parts
    ) -> None:
        self.method = method
        self.call = call
        self.features = features
        self._scalar, self._points = scalar, points
        self._scores = torch.zeros_like(features.sizes)
        self._errors: Tensor | None = None
        self._floor = scalar.output.double().clone()
        self._reached = torch.zeros_like(scalar.output, dtype=torch.bool)
        self._tables: dict[str, Tensor] = {}
        self._notes: list[str] = []
        self._settings: dict[str, object] = {}

    def offer(self, game: Game, estimate: Callable[[], Estimate]) -> None:
        """Let Ctrl-C give what is on the board and ``estimate()`` for the samples of ``game``."""

        def found() -> AtPoints:
            self.put(game, estimate())
            return self._so_far()

        self.method.offer(self.call, self._scalar, self._points, found)

    def _so_far(self) -> AtPoints:
        missing = int((~self._reached).sum())
        if missing:
            self.note(f"{missing} of {len(self._reached)} samples were not reached: their scores are 0.")
        return self.found()

    def put(self, game: Game, estimate: Estimate) -> None:
        """What is known of the players of a game; from now on Ctrl-C gives that."""
        samples = game.replacing.samples
        where = samples[:, None], game.own
        self._scores[where] = estimate.scores.to(self._scores)
        self._reached[samples] = True
        if self.method.conserves:
            self._floor[samples] = game.empty
        if estimate.errors is not None:
            self._errors = torch.zeros_like(self._scores) if self._errors is None else self._errors
            self._errors[where] = estimate.errors.to(self._errors)
        for name, table in estimate.tables.items():
            whole = self._tables.setdefault(name, table.new_zeros(len(self._reached), *table.shape[1:]))
            whole[samples] = table
        for name, table in estimate.by_feature.items():
            whole = self._tables.setdefault(name, torch.zeros_like(self._scores))
            whole[where] = table.to(whole)
        for text in estimate.notes:
            self.note(text)
        self._settings.update(estimate.settings)
        self.method.offer(self.call, self._scalar, self._points, self._so_far)

    def missed(self, late: int, tolerance: float, taken: int, *, what: str) -> None:
        """Say that ``late`` samples did not meet the tolerance with so many ``what``."""
        self.note(
            f"The standard error of {late} of {self.call.batch} samples is above tolerance={tolerance:g} after {taken} "
            f"{what}: see details['score errors']."
        )

    def note(self, text: str) -> None:
        """Something that a reader must know."""
        if text not in self._notes:
            self._notes.append(text)

    def found(self) -> AtPoints:
        """The attribution."""
        values = self.features.spread(self._scores, self._points)
        details = {} if self._errors is None else {"standard error": self.features.spread(self._errors, self._points)}
        dtype = self._scalar.output.dtype
        tables = dict(self._tables)
        if self.features.told:
            tables["feature scores"] = self._scores
            tables |= {} if self._errors is None else {"score errors": self._errors}
        tables = {name: table.to(dtype) for name, table in tables.items()}
        if self.features.told and all(point.kind is not Kind.LAYER for point in self._points):
            tables |= self.features.tables()
        settings = dict(self._settings)
        if self.features.names:
            settings["feature names"] = list(self.features.names)
        return AtPoints(
            values,
            completeness_ledger(self._scalar.output, self._floor, values) if self.method.conserves else None,
            details=details,
            tables=tables,
            notes=tuple(self._notes),
            settings=settings,
        )
