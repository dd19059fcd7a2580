"""Boxes from what a detector predicts about its anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def decode_boxes(
    x: Tensor, anchors: Tensor, scales: Sequence[float], corners: bool = False, limit: float | None = None
) -> Tensor:
    """Boxes (N, A, 4: left, top, right, bottom) from predictions (N, A, 4) for anchors (1 or N, A, 4).

    Args:
        scales: of the four predictions: shift of the centre, sideways and down, logarithm of width and height.
        corners: whether anchors are given by two corners, else by centre, width and height.
        limit: the largest value of a scaled logarithm.
    """
    if corners:
        low, high = anchors[..., :2], anchors[..., 2:]
        size, centre = high - low, (low + high) / 2
    else:
        centre, size = anchors[..., :2], anchors[..., 2:]
    shift, growth = x[..., :2], x[..., 2:]
    middle = torch.stack([shift[..., 0] * scales[0], shift[..., 1] * scales[1]], -1) * size + centre
    log = torch.stack([growth[..., 0] * scales[2], growth[..., 1] * scales[3]], -1)
    half = (log if limit is None else log.clamp(max=limit)).exp() * size / 2
    return torch.cat([middle - half, middle + half], -1)


def suppress_boxes(
    x: Tensor,
    *,
    overlap: float,
    score: int,
    corner: int,
    kind: int | None = None,
    background: int | None = None,
    threshold: float = 0.0,
    most: int | None = None,
    across_kinds: bool = False,
    centred: bool = False,
    give_centred: bool = False,
) -> Tensor:
    """Non-maximum suppression: rows in order of score, without those that overlap a better one; then rows of -1.

    Args:
        x: (..., A, K), one row a box.
        overlap: shared area over joint area, above which the lower-scored box goes.
        score: the column of the score.
        corner: the first of the four columns of the place.
        kind: the column of the class, or None.
        background: the class that counts as nothing, or None.
        threshold: scores up to it count as nothing.
        most: how many boxes are looked at, or None.
        across_kinds: whether boxes of different classes compete.
        centred: whether places are given as centre, width and height, else as two corners.
        give_centred: the same of the result.
    """
    images = x.reshape(-1, *x.shape[-2:])
    results = []
    for rows in images:
        with torch.no_grad():
            values = rows[:, score]
            valid = values > threshold
            if kind is not None and background is not None:
                valid &= rows[:, kind] != background
            order = (
                torch.where(valid, values, -torch.inf).sort(descending=True, stable=True).indices[: int(valid.sum())]
            )
            order = order if most is None else order[:most]
            boxes = rows[order, corner : corner + 4]
            boxes = _as_corners(boxes) if centred else boxes
            kept = order[_surviving(boxes, None if kind is None or across_kinds else rows[order, kind], overlap)]
        chosen = rows.index_select(0, kept)
        if centred != give_centred:
            turn = _as_centres if give_centred else _as_corners
            place = turn(chosen[:, corner : corner + 4])
            chosen = torch.cat([chosen[:, :corner], place, chosen[:, corner + 4 :]], 1)
        results.append(F.pad(chosen, (0, 0, 0, len(rows) - len(chosen)), value=-1.0))
    return torch.stack(results).reshape(x.shape)


def _surviving(boxes: Tensor, kinds: Tensor | None, overlap: float) -> Tensor:
    """The places of boxes (A, 4), best first, that no better one suppresses."""
    alive = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    for place in range(len(boxes) - 1):
        if alive[place]:
            rest = boxes[place + 1 :]
            low, high = torch.maximum(boxes[place, :2], rest[:, :2]), torch.minimum(boxes[place, 2:], rest[:, 2:])
            shared = (high - low).clamp(min=0).prod(1)
            loses = shared > overlap * (areas[place] + areas[place + 1 :] - shared)
            if kinds is not None:
                loses &= kinds[place + 1 :] == kinds[place]
            alive[place + 1 :] &= ~loses
    return alive.nonzero().squeeze(1)


def _as_corners(boxes: Tensor) -> Tensor:
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)


def _as_centres(boxes: Tensor) -> Tensor:
    low, high = boxes[:, :2], boxes[:, 2:]
    return torch.cat([(low + high) / 2, high - low], 1)


def select_boxes(
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    threshold: Tensor | None = None,
    centred: bool = False,
) -> Tensor:
    """Rows (image, class, box) of what non-maximum suppression leaves of boxes (N, A, 4) with scores (N, K, A).

    Args:
        most: how many a class may have in an image; left out, none.
        overlap: shared area over joint area, above which the lower-scored box goes.
        threshold: scores up to it count as nothing.
        centred: whether boxes are given as centre, width and height, else as two corners (rows before columns).
    """
    limit = 0 if most is None else int(most)
    share = 0.0 if overlap is None else float(overlap)
    rows: list[Tensor] = []
    for image in range(len(boxes)):
        corners = _as_corners(boxes[image]) if centred else boxes[image]
        low, high = torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])
        places = torch.cat([low, high], 1)
        for kind in range(scores.shape[1]):
            values = scores[image, kind]
            order = values.sort(descending=True, stable=True).indices
            if threshold is not None:
                order = order[values[order] > threshold]
            kept = order[_surviving(places[order], None, share)][:limit]
            head = torch.tensor([image, kind], device=boxes.device).expand(len(kept), 2)
            rows.append(torch.cat([head, kept.unsqueeze(1)], 1))
    return torch.cat(rows) if rows else torch.zeros((0, 3), dtype=torch.int64, device=boxes.device)
