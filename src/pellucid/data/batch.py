"""What every reader returns."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Samples ready for a model.

    Args:
        x: the tensor ``(N, ...)``, or several by name. Photos are float32 ``(N, C, H, W)``.
        names: one per sample: file names, or row numbers.
        displays: the pictures that the tensors show, mode RGB, one per sample; None where the samples are no photos.
        kind: ``"image"``, ``"table"`` or ``"array"``.
        labels: one per sample where the data hold them: a subfolder's name, or the values of the label column.
        columns: the names of a table's columns, in the order of ``x``'s second dimension.
    """

    x: Tensor | dict[str, Tensor]
    names: tuple[str, ...]
    displays: tuple[Image.Image, ...] | None = None
    kind: str = "array"
    labels: tuple[str | int | float, ...] | None = None
    columns: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)
