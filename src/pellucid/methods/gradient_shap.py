"""GradientSHAP (Lundberg 2017): expected gradients of noisy inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from pellucid.engine.point import Point
from pellucid.methods.expected_gradients import ExpectedGradients
from pellucid.methods.noise import Noise, check_noise

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["GradientSHAP"]

_CITATION = """@inproceedings{lundberg2017,
  author = {Lundberg, Scott M. and Lee, Su-In},
  title = {A Unified Approach to Interpreting Model Predictions},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2017}
}"""


@dataclass(frozen=True)
class GradientSHAP(ExpectedGradients):
    """Expected gradients on ways that end at noisy copies of the input, an estimate of SHAP values (Lundberg 2017).

    ``E_{b, t, e} (x_i + e_i - b_i) df/dx_i (b + t (x + e - b))``: sums to the mean output around the input less that of
    the background, so that with noise the ledger's gap is more than the sampling's. Without noise, as by default, it
    is ``expected-gradients``, whose settings it shares.

    Args:
        noise: standard deviation of the noise, relative to the range (highest less lowest value) of each sample.
        relative: False: ``noise`` is in units of the input.

    Raises:
        InputError: a setting is out of range, or the background does not fit the input.
    """

    noise: float = 0.0
    relative: bool = True

    name: ClassVar[str] = "gradient-shap"
    advice: ClassVar[str] = "As expected-gradients; noise makes it less dependent on the very input."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_noise(self.noise)

    def noise_around(self, call: Call, points: Mapping[Point, Tensor]) -> Noise:
        """See the class."""
        return Noise(call, points, self.noise, relative=self.relative)
