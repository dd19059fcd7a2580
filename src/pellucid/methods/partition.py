"""Partition trees of features: what belongs together, and the coalitions that orders along a tree pass through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.methods.features import Features

__all__ = ["Paths", "Tree", "leaves", "paths", "pruned", "tree_of"]

Tree = Any
"""``int | tuple[Tree, ...]``: a feature, or what belongs together."""


def tree_of(spec: Any, features: Features, sample: int) -> Tree:
    """The tree that ``tree=`` means, of the features of a sample.

    Raises:
        InputError: it does not hold every feature once.
    """
    there = (features.sizes[sample] > 0).nonzero()[:, 0].tolist()
    if spec is None:
        return _by_place(features, sample, there)
    tree = _read(spec, features)
    found = leaves(tree)
    twice = sorted({feature for feature in found if found.count(feature) > 1})
    missing, unknown = sorted(set(there) - set(found)), sorted(set(found) - set(range(features.count)))
    if twice or missing or unknown:
        raise InputError(
            f"tree= must hold each of the {len(there)} features once, numbered from 0; twice: {twice[:5]}, missing: "
            f"{missing[:5]}, unknown: {unknown[:5]}."
        )
    return tree


def leaves(tree: Tree) -> list[int]:
    """Its features from left to right."""
    return [tree] if isinstance(tree, int) else [leaf for child in tree for leaf in leaves(child)]


def pruned(tree: Tree, players: Sequence[int]) -> Tree:
    """The same tree of players (places in ``players``) instead of features, without the features that are none."""
    places = {feature: place for place, feature in enumerate(players)}

    def kept(node: Tree) -> Tree:
        if isinstance(node, int):
            return places.get(node)
        below = [child for child in map(kept, node) if child is not None]
        return (tuple(below) if len(below) > 1 else below[0]) if below else None

    return kept(tree)


def _read(spec: Any, features: Features) -> Tree:
    if isinstance(spec, str):
        if spec not in features.names:
            raise InputError(f"tree= names {spec!r}, which is no feature. Those are: {', '.join(features.names)}.")
        return features.names.index(spec)
    if isinstance(spec, (tuple, list)) and spec:
        return tuple(_read(child, features) for child in spec)
    if isinstance(spec, int) and not isinstance(spec, bool):
        return spec
    raise InputError(f"Expected tree= as nested lists of the features' numbers or names, got {spec!r} in it.")


def _by_place(features: Features, sample: int, there: Sequence[int]) -> Tree:
    """Every input a branch, halved along its longer side until features are alone."""
    left = set(there)
    branches = []
    for numbers in features.maps.values():
        own = numbers[sample if len(numbers) > 1 else 0]
        mine = sorted(left & set(torch.unique(own).tolist()))
        left -= set(mine)
        if mine:
            centres = _centres(own, features.count)
            branches.append(_halved(mine, centres))
    return branches[0] if len(branches) == 1 else tuple(branches)


def _centres(numbers: Tensor, count: int) -> Tensor:
    """(F, axes) mean places of features in a map without its first dimension."""
    flat = numbers.reshape(-1) % (count + 1)
    size = torch.zeros(count + 1, dtype=torch.float64, device=flat.device)
    size.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.float64))
    found = []
    for axis, length in enumerate(numbers.shape):
        shape = [-1 if k == axis else 1 for k in range(numbers.ndim)]
        along = torch.arange(length, dtype=torch.float64, device=flat.device).view(shape).expand(numbers.shape)
        found.append(torch.zeros_like(size).scatter_add_(0, flat, along.reshape(-1)) / size.clamp(min=1))
    return torch.stack(found, 1).cpu() if found else torch.zeros(count + 1, 1, dtype=torch.float64)


def _halved(features: Sequence[int], centres: Tensor) -> Tree:
    if len(features) == 1:
        return features[0]
    places = centres[list(features)]
    axis = int((places.amax(0) - places.amin(0)).argmax())
    order = places[:, axis].argsort(stable=True).tolist()
    half = (len(order) + 1) // 2
    return tuple(_halved([features[k] for k in part], centres) for part in (order[:half], order[half:]))


@dataclass(frozen=True)
class Paths:
    """The coalitions that matter for a tree.

    Args:
        coalitions: (U, F) boolean, without the empty and the full one.
        weights: (2 + U, F), float64: what the value of the empty one, the full one and each of these counts for every
            player.
    """

    coalitions: Tensor
    weights: Tensor


def paths(tree: Tree, count: int, *, most: int) -> Paths | None:
    """Coalitions and weights of the exact values: a player's gain, averaged at every level over the orders of siblings.

    ``phi_i = sum over T_1, ..., T_d of prod_l |T_l|! (k_l - |T_l| - 1)! / k_l! (v(T + i) - v(T))``, T_l being a set of
    siblings of the node at level l on the way to i, k_l their number with the node itself, T all their players.

    Args:
        tree: of players.
        count: how many there are.
        most: give up where there are more coalitions than these.
    """
    if _contexts(tree, 1) > 8 * most:  # what players share is counted for each of them
        return None
    gains = _gains(tree, torch.zeros(1, count, dtype=torch.bool), torch.ones(1, dtype=torch.float64))
    before, players, weights = zip(*gains, strict=True)
    absent, player, weight = torch.cat(before), torch.cat(players), torch.cat(weights)
    present = absent.clone()
    present[torch.arange(len(player)), player] = True
    unique, place = torch.unique(torch.cat([absent, present]), dim=0, return_inverse=True)
    table = torch.zeros(len(unique), count, dtype=torch.float64)
    table.index_put_((place, torch.cat([player, player])), torch.cat([-weight, weight]), accumulate=True)
    size = unique.sum(1)
    between = (size > 0) & (size < count)
    if int(between.sum()) > most:
        return None
    return Paths(unique[between], torch.cat([table[size == 0], table[size == count], table[between]]))


def _contexts(tree: Tree, above: int) -> int:
    if isinstance(tree, int):
        return 2 * above
    return sum(_contexts(child, above * 2 ** (len(tree) - 1)) for child in tree)


def _gains(tree: Tree, contexts: Tensor, weights: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For every leaf the coalitions (K, F) that it can join, itself (K,), and their weights (K,)."""
    if isinstance(tree, int):
        return [(contexts, torch.full((len(contexts),), tree), weights)]
    members = torch.zeros(len(tree), contexts.shape[1], dtype=torch.bool)
    for k, child in enumerate(tree):
        members[k, leaves(child)] = True
    others = len(tree) - 1
    chosen = (torch.arange(2**others)[:, None] >> torch.arange(others)) % 2 == 1
    each = torch.tensor([1 / (len(tree) * math.comb(others, k)) for k in range(others + 1)], dtype=torch.float64)
    weight = each[chosen.sum(1)]
    found = []
    for k, child in enumerate(tree):
        siblings = members[[j for j in range(len(tree)) if j != k]]
        joined = (chosen.float() @ siblings.float()) > 0
        below = (contexts[:, None] | joined).flatten(0, 1)
        found += _gains(child, below, (weights[:, None] * weight).flatten())
    return found
