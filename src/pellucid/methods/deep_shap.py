"""DeepSHAP (Lundberg 2017): DeepLIFT averaged over a background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.point import Point
from pellucid.methods.background import Background, background_at
from pellucid.methods.base import per_sample_sum
from pellucid.methods.citations import SHRIKUMAR
from pellucid.methods.completeness import check_tolerance, missed_note
from pellucid.methods.differences import DifferenceMethod

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["DeepSHAP"]

_LUNDBERG = """@inproceedings{lundberg2017,
  author = {Lundberg, Scott M. and Lee, Su-In},
  title = {A Unified Approach to Interpreting Model Predictions},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2017}
}"""


@dataclass(frozen=True)
class DeepSHAP(DifferenceMethod):
    """DeepLIFT averaged over a background, an estimate of SHAP values (Lundberg 2017, section 4.2).

    Sums to ``f(x) - mean f(background)``. Every sample is compared with every background sample, as many pairs at once
    as memory allows. If the background is a draw from your data, ``details["standard error"]`` tells how far off the
    mean may be for that reason. All of it is used, so that a tolerance is met by giving more.

    Args:
        background: samples (size, ...) of the input, of several inputs a dict of them by name, of token
            ids other ids; or baselines (see ``pellucid.methods.Baseline``), one or a list of several.
        tolerance: say so where the standard error is more than this share of the relevance, both as Euclidean norms
            over the sample.

    Raises:
        InputError: a setting is out of range, or the background does not fit the input.
    """

    background: Any = "zero"
    tolerance: float | None = None

    name: ClassVar[str] = "deep-shap"
    spread: ClassVar[bool] = True
    cost: ClassVar[str] = "2 forwards + walk per background sample (about 1.5 gradients)"
    needs: ClassVar[str] = "as deeplift; best with background samples of your data"
    advice: ClassVar[str] = "As deeplift, where no single baseline is neutral: give background samples of your data."
    citation: ClassVar[str] = f"{_LUNDBERG}\n\n{SHRIKUMAR}"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_tolerance(self.tolerance, 0, 0, what="background samples")

    def notes(self, shares: Mapping[Point, Tensor], errors: Mapping[Point, Tensor], size: int) -> tuple[str, ...]:
        """Where the tolerance is not met."""
        if self.tolerance is None:
            return ()
        squared = per_sample_sum({point: share.square() for point, share in shares.items()})
        late = torch.ones_like(squared, dtype=torch.bool)
        if errors:
            late = per_sample_sum({p: error.square() for p, error in errors.items()}) > self.tolerance**2 * squared
        return missed_note(late, self.tolerance, size, what="background samples", see="the standard error")

    def background_of(self, call: Call, points: Mapping[Point, Tensor]) -> Background:
        """See the class."""
        return background_at(call, points, self.background)
