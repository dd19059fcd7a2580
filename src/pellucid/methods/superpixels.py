"""Superpixels: connected parts of a picture of about one colour, per sample, by scikit-image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import InputError, require
from pellucid.structures import as_float

__all__ = ["pictures", "superpixels"]

_COMPACT = 10.0
"""Weight of nearness against likeness, where colours span 0..100 as in CIELAB."""


def superpixels(value: Tensor, axes: Sequence[int], count: int, *, caller: str) -> Tensor:
    """About ``count`` superpixels (SLIC, Achanta 2012) of every sample, found for each on its own.

    Args:
        value: (N, C, ...) with two or three dimensions of positions, or one.
        axes: the dimensions of positions.
        count: about how many.
        caller: who needs scikit-image.

    Returns:
        (N, 1, ...) int64, numbered from 0 in every sample.

    Raises:
        InputError: the value is no picture. MissingDependencyError: scikit-image is not installed.
    """
    segmentation = require("skimage.segmentation", extra="perturbation", caller=f"features='superpixels' of {caller}")
    compact = (
        _COMPACT if value.shape[1] == 3 else _COMPACT / 100
    )  # three channels are taken to CIELAB, others stay 0..1
    found = [
        torch.from_numpy(
            segmentation.slic(picture, n_segments=count, compactness=compact, start_label=0, channel_axis=-1)
        )
        for picture in pictures(value, axes, "Superpixels")
    ]
    return torch.stack(found).reshape(len(value), 1, *value.shape[2:]).long().to(value.device)


def pictures(value: Tensor, axes: Sequence[int], what: str) -> list[Any]:
    """Every sample as an array with channels last and numbers in 0..1, a series as a picture one pixel high.

    Raises:
        InputError: the value has not one to three dimensions of positions.
    """
    if value.ndim < 3 or list(axes) != list(range(2, value.ndim)) or len(axes) > 3:
        raise InputError(
            f"{what} are found in series, pictures or volumes (N, C, ...), not in values of shape {tuple(value.shape)}."
        )
    found: list[Any] = []
    for sample in as_float(value):
        low, high = sample.min(), sample.max()
        scaled = (sample - low) / (high - low).clamp(min=torch.finfo(sample.dtype).tiny)
        scaled = scaled.unsqueeze(1) if len(axes) == 1 else scaled
        found.append(scaled.movedim(0, -1).contiguous().numpy())
    return found
