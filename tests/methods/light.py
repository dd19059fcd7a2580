"""Settings that keep a method's tests quick, and the models that a method is for."""

from __future__ import annotations

from typing import Any

from pellucid.methods import Method, method_named

LIGHT: dict[str, dict[str, Any]] = {
    "conductance": {"steps": 8},
    "expected-gradients": {"samples": 8, "background": ["zero", "mean"]},
    "gradient-shap": {"samples": 8, "noise": 0.1},
    "integrated-gradients": {"steps": 8},
    "internal-influence": {"steps": 8},
    "smoothgrad": {"samples": 6},
    "smoothgrad-squared": {"samples": 6},
    "vargrad": {"samples": 6, "noise": 0.5},
}
"""Settings by method; the defaults where none are given. One line for a new method that is slow."""

FITTING: dict[str, list[str]] = {
    "deep-taylor": ["convolutional"],
}
"""The models of tests.trace.models that a method is for, where it is not for all."""


def lightened(name: str) -> Method:
    """The method with light settings."""
    return method_named(name).with_settings(**LIGHT.get(name, {}))
