"""Attention: what tokens look at, and what that brings to the explained scalar."""

from __future__ import annotations

from pellucid.methods.attention.base import AttentionMethod
from pellucid.methods.attention.legrad import LeGrad
from pellucid.methods.attention.maps import AttentionMaps
from pellucid.methods.attention.relevance import AttentionRelevance
from pellucid.methods.attention.rollout import AttentionRollout

ATTENTION_METHODS: tuple[type[AttentionMethod], ...] = (AttentionMaps, AttentionRollout, AttentionRelevance, LeGrad)
"""All of them."""

__all__ = [
    "ATTENTION_METHODS",
    "AttentionMaps",
    "AttentionMethod",
    "AttentionRelevance",
    "AttentionRollout",
    "LeGrad",
]
