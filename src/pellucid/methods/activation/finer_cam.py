"""Finer-CAM (Zhang 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from pellucid.engine.passes import Pass, Scalar
from pellucid.errors import InputError
from pellucid.methods.activation.base import Map
from pellucid.methods.activation.grad_cam import GradCAM
from pellucid.methods.classes import classes_of, no_classes
from pellucid.methods.positions.choice import Site
from pellucid.targets import Logit, Target
from pellucid.targets.base import per_sample

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["FinerCAM"]

_CITATION = """@inproceedings{zhang2025,
  author = {Zhang, Ziheng and Gu, Jianyang and Chowdhury, Arpita and Mai, Zheda and Carlyn, David and
            Berger-Wolf, Tanya and Su, Yu and Chao, Wei-Lun},
  title = {Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition}, year = {2025}
}"""


@dataclass(frozen=True)
class FinerCAM(GradCAM):
    """Finer-CAM: Grad-CAM of a class less the classes most like it (Zhang 2025): ``y_c - strength * mean_d y_d``.

    The classes d are those whose scores are nearest to that of c. With one reference and strength 1 it is Grad-CAM of
    the margin, target ``c~d``.

    Args:
        references: how many classes are compared with.
        strength: gamma, how much of them is taken off; 0 is Grad-CAM.
        weighing: of the references: "equal", or "probability", by their softmax, which is held constant.
        relu: as in Grad-CAM.
    """

    references: int = 3
    strength: float = 0.6
    weighing: Literal["equal", "probability"] = "equal"

    name: ClassVar[str] = "finer-cam"
    advice: ClassVar[str] = "What tells a class from those most like it: species, models, makes."
    citation: ClassVar[str] = _CITATION
    needs: ClassVar[str] = "a classifier, with a layer with positions (a feature map or tokens)"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: one of them is out of range.
        """
        if not isinstance(self.references, int) or self.references < 1:
            raise InputError(f"Expected references as a whole number of 1 or more, got {self.references!r}.")
        if self.weighing not in ("equal", "probability"):
            raise InputError(f"Expected weighing as 'equal' or 'probability', got {self.weighing!r}.")

    def unfit(self, call: Call) -> str | None:
        """The target is no class of several."""
        return no_classes(call, caller=self.name) or super().unfit(call)

    def _of(self, call: Call, target: Target, site: Site, done: Pass, *, again: bool) -> tuple[Scalar, Map]:
        return super()._of(call, self._compared(target, done.logits.detach()), site, done, again=again)

    def _compared(self, target: Target, logits: Tensor) -> Target:
        """For every sample its class less the classes most like it."""
        classes = classes_of(target, logits, caller=self.name)
        return per_sample([self._difference(index, row) for index, row in zip(classes, logits, strict=True)])

    def _difference(self, index: int, scores: Tensor) -> Target:
        distances = (scores - scores[index]).abs()
        distances[index] = -1
        others = distances.argsort(stable=True)[1 : 1 + self.references]
        near = scores[others].cpu().double()
        shares = torch.ones_like(near) if self.weighing == "equal" else near.softmax(0)
        weights = (self.strength * shares / shares.sum()).tolist()
        compared: Target = Logit(index)
        for other, weight in zip(others.tolist(), weights, strict=True):
            compared = compared - weight * Logit(other) if weight else compared
        return compared
