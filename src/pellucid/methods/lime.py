"""LIME: a linear model of the output around the input (Ribeiro 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from pellucid.errors import InputError, MissingDependencyError, reason, require
from pellucid.methods.game import Game
from pellucid.methods.perturbation import Board, Estimate
from pellucid.methods.study import SamplingMethod, Study

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["LIME"]

_CITATION = """@inproceedings{ribeiro2016,
  author = {Ribeiro, Marco Tulio and Singh, Sameer and Guestrin, Carlos},
  title = {"{Why} Should {I} Trust You?": Explaining the Predictions of Any Classifier},
  booktitle = {International Conference on Knowledge Discovery and Data Mining}, year = {2016}
}"""
_GROUPS = 10
"""Of coalitions, for the jackknife."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class LIME(SamplingMethod):
    """Coefficients of a linear model fitted to coalitions near the input (Ribeiro 2016, algorithm 1).

    Every feature is there with probability 1/2; a coalition weighs ``exp(-D^2 / (2 width^2))``, D being the cosine
    distance to the full one. ``details["weighted R2"]`` (N,) tells how well the linear model fits: where it is low, the
    coefficients say little. Standard errors: of least squares and ridge those of the regression, robust to unequal
    residuals; of other regressions by a jackknife over ten groups.

    Args:
        features: what is taken away together; see ``pellucid.methods.Features``.
        baseline: what stands there instead, see ``pellucid.methods.Baseline``; a list averages over several.
        samples: evaluations of every sample at first.
        tolerance: double the samples until every score's standard error is at most this share of the range of the
            values that the output took.
        most_samples: do not go beyond.
        width: of the kernel; the smaller, the more local.
        regression: "ridge", "lasso", "linear" (scikit-learn's), or an own regression of theirs (with fit and coef_).
        alpha: the penalty of ridge (None: 1) and lasso (None: 0.01).
        strongest: refit with only so many features, those of largest coefficients in the first fit.

    Raises:
        InputError: a setting is out of range. MissingDependencyError: scikit-learn is not installed.
    """

    width: float = 0.25
    regression: Any = "ridge"
    alpha: float | None = None
    strongest: int | None = None

    name: ClassVar[str] = "lime"
    cost: ClassVar[str] = "samples forwards"
    needs: ClassVar[str] = "any model; scikit-learn"
    advice: ClassVar[str] = "A linear model around the input, which says itself how well it fits."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if not self.width > 0:
            raise InputError(f"Expected width > 0 for lime, got {self.width!r}.")
        if self.strongest is not None and self.strongest < 1:
            raise InputError(f"Expected strongest as a whole number of 1 or more, or None, got {self.strongest!r}.")
        known = isinstance(self.regression, str) and self.regression in ("ridge", "lasso", "linear")
        if not known and not (hasattr(self.regression, "fit") and hasattr(self.regression, "get_params")):
            raise InputError(
                f"Expected regression as 'ridge', 'lasso', 'linear' or a regression of scikit-learn, got "
                f"{self.regression!r}."
            )

    def unfit(self, call: Call) -> str | None:
        """scikit-learn is not there."""
        try:
            self.regressor()
        except MissingDependencyError as error:
            return reason(error)
        return super().unfit(call)

    def play(self, game: Game, board: Board) -> None:
        """See the class."""
        self.run(_Study(game, self), board)

    def regressor(self) -> Any:
        """A fresh regression of scikit-learn."""
        caller = f"the method {self.name!r}"
        linear = require("sklearn.linear_model", extra="perturbation", caller=caller)
        if self.regression == "ridge":
            return linear.Ridge(alpha=1.0 if self.alpha is None else self.alpha)
        if self.regression == "lasso":
            return linear.Lasso(alpha=0.01 if self.alpha is None else self.alpha)
        if self.regression == "linear":
            return linear.LinearRegression()
        return require("sklearn.base", extra="perturbation", caller=caller).clone(self.regression)

    @property
    def penalty(self) -> float | None:
        """Of the squared coefficients, where the fit is linear in the values."""
        ridge = 1.0 if self.alpha is None else self.alpha
        return {"ridge": ridge, "linear": 0.0}.get(str(self.regression))


class _Study(Study):
    def __init__(self, game: Game, method: LIME) -> None:
        super().__init__(game)
        self._method = method
        self._drawn = torch.zeros(0, game.count, dtype=torch.bool)

    def extend(self, generator: torch.Generator, evaluations: int) -> Iterator[None]:
        """See the base class."""
        shape = (evaluations, self.game.count)
        drawn = torch.randint(0, 2, shape, generator=generator, dtype=torch.uint8) == 1
        self._drawn = torch.cat([self._drawn, drawn])
        yield from self.play(self.game.play(drawn.to(self.game.own.device)))

    @property
    def ready(self) -> bool:
        """Whether there is anything to fit."""
        return self.done > 1

    def estimate(self) -> Estimate:
        """The fit on the full coalition and those played."""
        method, game = self._method, self.game
        present = torch.cat([torch.ones(1, game.count, dtype=torch.bool), self._drawn[: self.done]]).double()
        distance = 1 - (present.sum(1) / game.count).sqrt()
        weights = torch.exp(-((distance / method.width) ** 2) / 2)
        values = torch.cat([game.full[:, None], self.values], 1).T.cpu()
        x, y, w = present.numpy(), values.numpy(), weights.numpy()
        scores, fitted = self._fit(x, y, w)
        residuals = y - fitted
        total = (w[:, None] * (y - np.average(y, axis=0, weights=w)) ** 2).sum(0)
        left = (w[:, None] * residuals**2).sum(0)
        explained = 1 - np.divide(left, total, out=np.zeros_like(left), where=total > 0)
        if method.penalty is not None and method.strongest is None:
            errors = _robust(x, residuals, w, method.penalty)
        else:
            errors = self._jackknife(x, y, w)
        return Estimate(
            torch.from_numpy(scores),
            None if errors is None else torch.from_numpy(errors),
            tables={"weighted R2": torch.from_numpy(explained).to(game.full.device)},
        )

    def _fit(self, x: Array, y: Array, w: Array) -> tuple[Array, Array]:
        """Coefficients (M, F) and fitted values (S, M)."""
        method, strongest = self._method, self._method.strongest
        if method.penalty is not None and strongest is None:
            model = method.regressor().fit(x, y, sample_weight=w)
            return model.coef_.reshape(len(y.T), -1), model.predict(x).reshape(y.shape)
        scores, fitted = np.zeros((y.shape[1], x.shape[1])), np.zeros_like(y)
        for k, values in enumerate(y.T):
            model = method.regressor().fit(x, values, sample_weight=w)
            scores[k], fitted[:, k] = model.coef_, model.predict(x)
            if strongest is not None and strongest < x.shape[1]:
                chosen = np.argsort(-np.abs(scores[k]), kind="stable")[:strongest]
                model = method.regressor().fit(x[:, chosen], values, sample_weight=w)
                scores[k] = 0
                scores[k, chosen], fitted[:, k] = model.coef_, model.predict(x[:, chosen])
        return scores, fitted

    def _jackknife(self, x: Array, y: Array, w: Array) -> Array | None:
        """Standard errors (M, F) by leaving out one group of coalitions after the other."""
        if len(x) < 2 * _GROUPS:
            return None
        group = np.arange(len(x)) % _GROUPS
        without = np.stack([self._fit(x[group != k], y[group != k], w[group != k])[0] for k in range(_GROUPS)])
        spread: Array = np.sqrt((_GROUPS - 1) * without.var(0))
        return spread


def _robust(x: Array, residuals: Array, w: Array, penalty: float) -> Array | None:
    """Standard errors (M, F) of a weighted ridge regression with intercept, for unequal residuals (HC2)."""
    centred = x - np.average(x, axis=0, weights=w)
    weighted = centred * w[:, None]
    solver = np.linalg.pinv(centred.T @ weighted + penalty * np.eye(x.shape[1]), hermitian=True) @ weighted.T
    left = 1 - w / w.sum() - (centred * solver.T).sum(1)
    if not (left > 1e-6).all():
        return None
    errors: Array = np.sqrt((residuals**2 / left[:, None]).T @ (solver**2).T)
    return errors
