"""Attention and rotary positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family

FAMILY = family()


@FAMILY.add("Attention")
def _attention(call: Call, a: Attributes) -> list[Value]:
    """The precision of the softmax is that of the model."""
    return call.apply_many(
        attention,
        *(call.optional(index) for index in range(7)),
        heads=a.integer("q_num_heads", 0),
        key_heads=a.integer("kv_num_heads", 0),
        causal=a.flag("is_causal"),
        scale=a.number("scale"),
        cap=a.number("softcap", 0.0),
        stage=a.integer("qk_matmul_output_mode", 0),
        window=(a.integer("left_window_size", -1), a.integer("right_window_size", -1)),
        outputs=4,
    )


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    lengths: Tensor | None,
    *,
    heads: int,
    key_heads: int,
    causal: bool,
    scale: float | None,
    cap: float,
    stage: int,
    window: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scaled dot products, softmax, and means of values, with groups of queries sharing keys.

    Args:
        query: (N, heads, T, d), or (N, T, heads * d); key and value likewise.
        mask: true where attended, or numbers that are added.
        past_key: (N, heads, S, d), put before the keys; ``past_value`` likewise.
        lengths: (N,), how many keys count.
        causal: whether a step attends to itself and earlier ones alone.
        cap: bound that the scores approach, or 0.
        stage: which scores are given as fourth output: 0 raw, 1 capped, 2 with the mask, 3 after the softmax.
        window: how far before and after itself a step attends; -1 for any distance.

    Returns:
        In the form of the query; keys and values with what was put before; scores.
    """
    flat = query.ndim == 3
    if flat:
        query, key, value = _by_head(query, heads), _by_head(key, key_heads), _by_head(value, key_heads)
    before = 0 if past_key is None else past_key.shape[2]
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    group = query.shape[1] // key.shape[1]
    keys, values = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = (query * root) @ (keys * root).mT
    capped = cap * torch.tanh(scores / cap) if cap else scores
    left, right = window[0], 0 if causal else window[1]
    bias = _bias(scores, mask, before, left, right, lengths)
    masked = capped if bias is None else capped + bias
    attended = masked.softmax(-1)
    if bias is not None:  # a step that attends to nothing gets nothing
        attended = attended.masked_fill(torch.isneginf(bias).all(-1, keepdim=True), 0.0)
    made = attended @ values
    made = made.transpose(1, 2).flatten(2) if flat else made
    return made, key, value, (scores, capped, masked, attended)[stage]


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _bias(
    scores: Tensor, mask: Tensor | None, before: int, left: int, right: int, lengths: Tensor | None
) -> Tensor | None:
    """What is added to scores (N, heads, T, S), or None."""
    steps, keys = scores.shape[-2:]
    bias = mask
    if mask is not None and mask.dtype == torch.bool:
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -torch.inf)
    if bias is not None and bias.shape[-1] < keys:
        bias = F.pad(bias, (0, keys - bias.shape[-1]), value=-torch.inf)
    places = torch.arange(keys, device=scores.device)
    own = torch.arange(steps, device=scores.device).unsqueeze(1) + before
    if lengths is not None and not before:
        own = own + lengths.reshape(-1, 1, 1, 1) - steps
    hidden = []
    if right >= 0:
        hidden.append(places > own + right)
    if left >= 0:
        hidden.append(places < own - left)
    if lengths is not None:
        hidden.append(places >= lengths.reshape(-1, 1, 1, 1))
    for part in hidden:
        bias = torch.where(part, -torch.inf, scores.new_zeros(()) if bias is None else bias)
    return bias


@FAMILY.add("RotaryEmbedding")
def _rotary(call: Call, a: Attributes) -> Value:
    return call.apply(
        rotary,
        *(call.optional(index) for index in range(4)),
        heads=a.integer("num_heads", 0),
        width=a.integer("rotary_embedding_dim", 0),
        interleaved=a.flag("interleaved"),
    )


def rotary(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, heads: int, width: int, interleaved: bool
) -> Tensor:
    """Pairs of numbers turned by an angle for each position.

    Args:
        x: (N, heads, T, d), or (N, T, heads * d).
        cos: of the angles, for each position (P, d / 2), or for each step (N, T, d / 2) without ``positions``.
        positions: (N, T).
        heads: of an ``x`` with three axes.
        width: how many numbers of each head are turned; 0 for all.
        interleaved: whether pairs lie side by side, else in two halves.
    """
    shape = x.shape
    y = x.transpose(1, 2) if x.ndim == 4 else x.reshape(*shape[:2], heads, -1)
    width = width or y.shape[-1]
    turned, kept = y[..., :width], y[..., width:]
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos[..., : width // 2].unsqueeze(2), sin[..., : width // 2].unsqueeze(2)
    one, two = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = cos * one - sin * two, sin * one + cos * two
    made = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    made = torch.cat([made, kept], -1)
    return made.transpose(1, 2) if x.ndim == 4 else made.reshape(shape)


@FAMILY.add("TensorScatter")
def _written(call: Call, a: Attributes) -> Value:
    circular = a.choice("mode", ("linear", "circular"), "linear") == "circular"
    return call.apply(
        write_steps, *(call.optional(index) for index in range(3)), axis=a.integer("axis", -2), circular=circular
    )


def write_steps(x: Tensor, update: Tensor, start: Tensor | None, axis: int, circular: bool) -> Tensor:
    """A cache with new steps written into an axis, from a place of each sample's own on."""
    axis %= x.ndim
    steps = torch.arange(update.shape[axis], device=x.device)
    places = steps.unsqueeze(0) + (0 if start is None else start.reshape(-1, 1))
    if circular:
        places = places % x.shape[axis]
    shape = [-1 if place == axis else len(places) if place == 0 else 1 for place in range(x.ndim)]
    return x.scatter(axis, places.reshape(shape).expand(update.shape), update)
