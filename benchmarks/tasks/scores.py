"""How well a map agrees with a known truth. All scores are means to be taken over samples; 1 is best for the masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# From relevance (n, c, h, w) to one value per pixel (n, h, w). "sum, positive", the sum over the colour channels with
# negative sums set to zero, is what is scored unless a row says otherwise.
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum, positive": lambda r: r.sum(1).clamp(min=0),
    "positive, sum": lambda r: r.clamp(min=0).sum(1),
    "sum, abs": lambda r: r.sum(1).abs(),
    "squares": lambda r: r.square().sum(1),
}


def pool(relevance: Tensor, pooling: str, *, smooth: int = 1) -> Tensor:
    """One value per pixel, averaged over windows of `smooth` pixels (odd) before signs are dropped."""
    if smooth > 1:
        relevance = F.avg_pool2d(relevance, smooth, stride=1, padding=smooth // 2, count_include_pad=False)
    return POOLINGS[pooling](relevance)


def mass(heat: Tensor, mask: Tensor) -> Tensor:
    """Relevance mass accuracy (CLEVR-XAI): share of `heat` (n, h, w) >= 0 that lies in `mask`, 0 for an empty map."""
    total = heat.flatten(1).sum(1)
    inside = (heat * mask).flatten(1).sum(1)
    return torch.where(total > 0, inside / total.clamp(min=torch.finfo(heat.dtype).tiny), torch.zeros_like(total))


def rank(heat: Tensor, mask: Tensor) -> Tensor:
    """Relevance rank accuracy (CLEVR-XAI): share of the K highest pixels that lie in `mask`, which has K."""
    scores = []
    for one, truth in zip(heat.flatten(1), mask.flatten(1), strict=True):
        k = int(truth.sum())
        scores.append(truth[one.topk(k).indices].float().mean())
    return torch.stack(scores)


def cells(heat: Tensor) -> Tensor:
    """Share of `heat` in each cell of a 2 x 2 mosaic, shape (n, 4), row by row."""
    n, height, width = heat.shape
    sums = heat.reshape(n, 2, height // 2, 2, width // 2).sum((2, 4)).flatten(1)
    return sums / sums.sum(1, keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)


def blur(x: Tensor, *, sigma: float) -> Tensor:
    """Gaussian blur of images (n, c, h, w) with reflected borders, `sigma` in pixels."""
    reach = int(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    padded = F.pad(x, (reach, reach, reach, reach), mode="reflect")
    rows = F.conv2d(padded, kernel[..., None, :], groups=x.shape[1])
    return F.conv2d(rows, kernel[..., :, None], groups=x.shape[1])


@torch.no_grad()
def perturbation(
    model: Callable[[Tensor], Tensor], x: Tensor, target: int, relevance: Tensor, *, patch: int = 8, steps: int = 14
) -> tuple[float, float]:
    """Insertion and deletion areas of one image, in shares of the target's probability.

    Patches are taken in the order of their summed signed relevance. Insertion starts from the blurred image and brings
    them back, highest first (a high area is good); deletion starts from the image and blurs them (a low area is good).

    Args:
        model: gives logits.
        x: one image, shape (1, c, h, w), h and w multiples of `patch`.
        target: class whose softmax probability is followed.
        relevance: shape (1, c, h, w).
        patch: side of the patches in pixels.
        steps: number of equal steps, each of which moves the same number of patches.
    """
    filler = blur(x, sigma=12)
    order = F.avg_pool2d(relevance.sum(1, keepdim=True), patch).flatten().argsort(descending=True)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order))
    grid = position.reshape(1, 1, x.shape[2] // patch, x.shape[3] // patch)
    position = grid.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    cuts = torch.linspace(0, len(order), steps + 1).round().long()
    chosen = torch.cat([position < cut for cut in cuts])
    areas = []
    for inserted in (chosen, ~chosen):
        images = torch.where(inserted, x, filler)
        curve = torch.cat([model(part).softmax(1)[:, target] for part in images.split(8)])
        areas.append(torch.trapezoid(curve, dx=1 / steps).item())
    return areas[0], areas[1]
