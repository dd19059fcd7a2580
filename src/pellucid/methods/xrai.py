"""XRAI: the regions of an input, ranked by their integrated gradients (Kapishnikov 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pellucid.engine.ledger import Entry, Ledger
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Kind, Point
from pellucid.errors import InputError, PellucidError, reason
from pellucid.methods.base import Cost, Family
from pellucid.methods.integrated_gradients import IntegratedGradients
from pellucid.methods.points import AtPoints, PointMethod
from pellucid.methods.regions import Regions, check_regions, regions_at

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["XRAI"]

_CITATION = """@inproceedings{kapishnikov2019,
  author = {Kapishnikov, Andrei and Bolukbasi, Tolga and Viegas, Fernanda and Terry, Michael},
  title = {{XRAI}: Better Attributions Through Regions},
  booktitle = {International Conference on Computer Vision}, year = {2019}
}"""


@dataclass(frozen=True)
class XRAI(PointMethod):
    """Integrated gradients from black and from white, averaged over regions (Kapishnikov 2019, algorithm 1).

    Regions of several sizes are found in the input. One after the other the one is taken whose values not yet taken
    have the largest mean attribution, and they get that mean; so sums are kept, and the ledger is that of the
    integrated gradients. ``details["region rank"]`` tells for every place the turn of its region, 1 being the first;
    places in no region come last.

    Args:
        regions: forms of features (see ``pellucid.methods.Features``), one or a list, whose features are all regions.
            None: of pictures segments of six sizes (Felzenszwalb 2004), grown a little; of volumes superpixels, of
            series and tokens windows, of three sizes; of tables columns.
        baseline: of the integrated gradients, see ``pellucid.methods.Baseline``; a list averages over several.
        steps: of the integrated gradients.

    Raises:
        InputError: a setting is out of range. MissingDependencyError: scikit-image is not installed.
    """

    regions: Any = None
    baseline: Any = field(default_factory=lambda: ["min", "max"])
    steps: int = 50

    name: ClassVar[str] = "xrai"
    family: ClassVar[Family] = "perturbation"
    cost: ClassVar[str] = "steps x (forward + gradient) per baseline"
    needs: ClassVar[str] = "any model; scikit-image for pictures and volumes"
    advice: ClassVar[str] = "Whole regions of a picture instead of single pixels, best first."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"Expected steps as a whole number of 1 or more for xrai, got {self.steps!r}.")

    def passes(self, call: Call) -> Cost:
        """Those of the integrated gradients."""
        return IntegratedGradients(steps=self.steps, baseline=self.baseline).passes(call)

    def unfit(self, call: Call) -> str | None:
        """Regions that mean nothing here, or scikit-image is not there."""
        why = super().unfit(call)
        if why is not None:
            return why
        small = call.small
        places = [small.function.inputs, *(small.function.read([small.function.layer(name)]) for name in small.layers)]
        try:
            for points in places:
                check_regions(small, points, self.regions, caller=f"the method {self.name!r}")
        except PellucidError as error:
            return reason(error)
        return None

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        regions = regions_at(call, points, self.regions, caller=f"the method {self.name!r}")
        ranking = _Ranking(self, regions)
        return ranking.found(_Gradients(self.steps, baseline=self.baseline, ranking=ranking).at(call, scalar, points))


@dataclass(frozen=True)
class _Ranking:
    """From attributions to ranked regions.

    Args:
        method: whose.
        regions: in which.
    """

    method: XRAI
    regions: Regions

    def found(self, gradients: AtPoints) -> AtPoints:
        """The regions' means, from integrated gradients."""
        values, ranks = self.regions.ranked(gradients.values)
        inputs = [Entry("input", point.name, float(value.sum(dtype=torch.float64))) for point, value in values.items()]
        ledger = gradients.ledger
        if ledger is not None:
            ledger = Ledger(ledger.total, (*(e for e in ledger.entries if e.source != "input"), *inputs))
        at_inputs = {point: rank for point, rank in ranks.items() if point.kind is not Kind.LAYER}
        tables = {
            "region rank" if len(at_inputs) == 1 else f"region rank of {point.name}": rank
            for point, rank in at_inputs.items()
        }
        return replace(gradients, values=values, ledger=ledger, details={}, tables=tables)


@dataclass(frozen=True)
class _Gradients(IntegratedGradients):
    """Integrated gradients whose estimate on the way is one of regions."""

    ranking: _Ranking | None = None

    def offer(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], estimate: Callable[[], AtPoints]
    ) -> None:
        """In the name of the method."""
        ranking = self.ranking
        assert ranking is not None
        ranking.method.offer(call, scalar, points, lambda: ranking.found(estimate()))
