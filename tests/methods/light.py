"""Settings that keep a method's tests quick, and the models that a method is for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from pellucid.methods import Method, method_named
from pellucid.methods.activation import ACTIVATION_MAPS
from pellucid.methods.attention import ATTENTION_METHODS
from tests.trace.models import pooled

LIGHT: dict[str, dict[str, Any]] = {
    "conductance": {"steps": 8},
    "deep-shap": {"background": ["zero", "mean"]},
    "expected-gradients": {"samples": 8, "background": ["zero", "mean"]},
    "feature-permutation": {"background": ["zero", "mean"], "permutations": 2},
    "gradient-shap": {"samples": 8, "noise": 0.1},
    "integrated-gradients": {"steps": 8},
    "hsic": {"samples": 50},
    "internal-influence": {"steps": 8},
    "kernel-shap": {"samples": 200},
    "lime": {"samples": 100},
    "owen-values": {"samples": 200},
    "permutation-shapley": {"samples": 200},
    "rise": {"samples": 50},
    "smoothgrad": {"samples": 6},
    "smoothgrad-squared": {"samples": 6},
    "sobol": {"samples": 50},
    "vargrad": {"samples": 6, "noise": 0.5},
    "xrai": {"steps": 8},
}
"""Settings by method; the defaults where none are given. One line for a new method that is slow."""

POSITIONS = ["convolutional", "transformer", "series", "volumes"]
FITTING: dict[str, list[str]] = {
    "deep-taylor": ["convolutional", "series"],
    "exact-shapley": ["dense", "recurrent", "transformer"],
    "cam": ["pooled", "pooled-series", "pooled-volumes"],
    "clrp": ["convolutional", "series"],
    "crp": POSITIONS,
    **dict.fromkeys((method.name for method in ACTIVATION_MAPS if method.name != "cam"), POSITIONS),
    **{method.name: ["transformer"] for method in ATTENTION_METHODS},
}
"""The models, of MODELS and of MORE, that a method is for, where it is not for all of MODELS."""

MORE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pooled": (pooled, (2, 3, 8, 8)),
    "pooled-series": (partial(pooled, 1), (2, 3, 9)),
    "pooled-volumes": (partial(pooled, 3), (2, 3, 4, 4, 4)),
}
"""Models for methods that none of MODELS is for."""


def lightened(name: str) -> Method:
    """The method with light settings."""
    return method_named(name).with_settings(**LIGHT.get(name, {}))
