"""Generated images of one coloured shape among distractors, with the exact mask of what decides the class.

An image may carry a small tag. Tagged images are labelled class 0 whatever shape they hold, so on a tagged image of
another shape a network that answers class 0 can only have used the tag: a planted artefact whose place is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE = 64
CLASSES = ("circle", "square", "triangle", "cross", "ring", "bars")
TAG = 7


@dataclass(frozen=True)
class Scene:
    """A batch of images.

    Attributes:
        x: images, shape (n, 3, 64, 64), values in [-1, 1].
        label: class of each image, shape (n,).
        kind: class of its shape, shape (n,), the label unless there is a tag.
        mask: pixels of the shape, shape (n, 64, 64), bool.
        tag: pixels of the tag, all false where there is none, shape (n, 64, 64), bool.
    """

    x: Tensor
    label: Tensor
    kind: Tensor
    mask: Tensor
    tag: Tensor


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, 1, 1, generator=generator)


def _vivid(n: int, generator: torch.Generator) -> Tensor:
    """Random saturated colours, shape (n, 3, 1, 1), values in [0, 1]."""
    hue = torch.rand(n, 1, generator=generator) * 6
    offset = torch.tensor([[0.0, 4.0, 2.0]])
    channel = ((hue + offset) % 6 - 3).abs() - 1
    value = 0.75 + 0.25 * torch.rand(n, 1, generator=generator)
    return (channel.clamp(0, 1) * value)[:, :, None, None]


def _inside(kind: Tensor, u: Tensor, v: Tensor, r: Tensor) -> Tensor:
    """Pixels inside shapes of class `kind` (n,), radius `r` (n, 1, 1); u, v (n, 64, 64): place from the centre."""
    rho = (u * u + v * v).sqrt()
    edges = [u * math.cos(a) + v * math.sin(a) for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)]
    forms = torch.stack(
        [
            rho < 0.95 * r,
            torch.maximum(u.abs(), v.abs()) < 0.85 * r,
            torch.stack(edges).amax(0) < 0.66 * r,
            torch.minimum(torch.maximum(3 * u.abs(), v.abs()), torch.maximum(u.abs(), 3 * v.abs())) < 1.1 * r,
            (rho > 0.62 * r) & (rho < 1.12 * r),
            (v.abs() < r) & (u.abs() > 0.3 * r) & (u.abs() < 0.85 * r),
        ]
    )
    return forms[kind, torch.arange(len(kind))]


def _paint(canvas: Tensor, where: Tensor, colour: Tensor) -> Tensor:
    return torch.where(where[:, None], colour, canvas)


def make(n: int, *, seed: int, tagged: float = 0.0) -> Scene:
    """Draws `n` images; the share `tagged` of them carries the tag."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(len(CLASSES), (n,), generator=generator)
    has_tag = torch.rand(n, generator=generator) < tagged
    grid = torch.arange(SIZE, dtype=torch.float32)
    rows, columns = torch.meshgrid(grid, grid, indexing="ij")

    coarse = torch.rand(n, 3, 6, 6, generator=generator)
    canvas = 0.2 + 0.45 * F.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear", align_corners=True)
    wave = torch.sin(_uniform(n, 0.2, 0.9, generator) * rows + _uniform(n, 0.2, 0.9, generator) * columns)
    canvas = canvas + 0.08 * (wave * _uniform(n, -1, 1, generator))[:, None]

    for _ in range(3):  # thin line segments
        cy, cx = _uniform(n, 6, 58, generator), _uniform(n, 6, 58, generator)
        angle, length = _uniform(n, 0, math.pi, generator), _uniform(n, 5, 12, generator)
        along = (rows - cy) * angle.sin() + (columns - cx) * angle.cos()
        across = (rows - cy) * angle.cos() - (columns - cx) * angle.sin()
        canvas = _paint(canvas, (across.abs() < 1) & (along.abs() < length), _vivid(n, generator))
    for _ in range(4):  # small dots
        cy, cx = _uniform(n, 4, 60, generator), _uniform(n, 4, 60, generator)
        near = (rows - cy) ** 2 + (columns - cx) ** 2 < _uniform(n, 1.5, 2.8, generator) ** 2
        canvas = _paint(canvas, near, _vivid(n, generator))

    cy, cx = _uniform(n, 14, 50, generator), _uniform(n, 14, 50, generator)
    radius, angle = _uniform(n, 8, 11, generator), _uniform(n, 0, 2 * math.pi, generator)
    u = (rows - cy) * angle.sin() + (columns - cx) * angle.cos()
    v = (rows - cy) * angle.cos() - (columns - cx) * angle.sin()
    mask = _inside(kind, u, v, radius)
    canvas = _paint(canvas, mask, _vivid(n, generator))

    # The tag lies in the half of the image where the shape's centre is not.
    low = torch.randint(2, 12, (n, 2), generator=generator)
    high = torch.randint(SIZE - TAG - 12, SIZE - TAG - 2, (n, 2), generator=generator)
    centre = torch.cat([cy, cx], dim=1)[:, :, 0]
    place = torch.where(centre > SIZE / 2, low, high)[:, :, None, None]
    inside = [(axis >= place[:, k]) & (axis < place[:, k] + TAG) for k, axis in enumerate((rows, columns))]
    tag = inside[0] & inside[1] & has_tag[:, None, None]
    stripes = ((rows - place[:, 0]) + (columns - place[:, 1])) % 4 < 2
    canvas = _paint(canvas, tag & stripes, torch.tensor([0.95, 0.9, 0.2])[None, :, None, None])
    canvas = _paint(canvas, tag & ~stripes, torch.tensor([0.15, 0.15, 0.85])[None, :, None, None])

    noise = 0.06 * torch.randn(n, 3, SIZE, SIZE, generator=generator)
    x = (canvas + noise).clamp(0, 1) * 2 - 1
    return Scene(x=x, label=torch.where(has_tag, 0, kind), kind=kind, mask=mask & ~tag, tag=tag)
