"""Loaders: from a short specification to a model with its class names and its preprocessing."""

from __future__ import annotations

from pellucid.models.extension import register_operator
from pellucid.models.loaded import LoadedModel
from pellucid.models.preprocessing import Preprocessing
from pellucid.models.registry import load_model

__all__ = ["LoadedModel", "Preprocessing", "load_model", "register_operator"]
