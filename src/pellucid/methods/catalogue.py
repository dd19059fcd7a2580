"""Every method by name: the library's own and what users register."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from pellucid.errors import InputError
from pellucid.methods.activation import ACTIVATION_MAPS
from pellucid.methods.attention import ATTENTION_METHODS
from pellucid.methods.base import Method
from pellucid.methods.clrp import CLRP
from pellucid.methods.conductance import Conductance
from pellucid.methods.crp import CRP
from pellucid.methods.deep_shap import DeepSHAP
from pellucid.methods.deeplift import DeepLIFT
from pellucid.methods.expected_gradients import ExpectedGradients
from pellucid.methods.feature_ablation import FeatureAblation
from pellucid.methods.feature_permutation import FeaturePermutation
from pellucid.methods.fullgrad import FullGrad
from pellucid.methods.gradient import Gradient, GradientTimesInput
from pellucid.methods.gradient_shap import GradientSHAP
from pellucid.methods.hsic import HSIC
from pellucid.methods.integrated_gradients import IntegratedGradients
from pellucid.methods.internal_influence import InternalInfluence
from pellucid.methods.kernel_shap import KernelSHAP
from pellucid.methods.lime import LIME
from pellucid.methods.named import CPLRP, AttnLRP, Deconvnet, DeepTaylor, ExcitationBackprop, GuidedBackprop
from pellucid.methods.occlusion import Occlusion
from pellucid.methods.owen_values import OwenValues
from pellucid.methods.permutation_shapley import PermutationShapley
from pellucid.methods.relevance import LRP
from pellucid.methods.rise import RISE
from pellucid.methods.shapley import ExactShapley
from pellucid.methods.smoothgrad import SmoothGrad, SmoothGradSquared, VarGrad
from pellucid.methods.sobol import Sobol
from pellucid.methods.xrai import XRAI

__all__ = ["method_named", "methods", "register", "unregister"]

_OWN: tuple[type[Method], ...] = (
    LRP,
    AttnLRP,
    CPLRP,
    DeepTaylor,
    ExcitationBackprop,
    GuidedBackprop,
    Deconvnet,
    CRP,
    CLRP,
    DeepLIFT,
    DeepSHAP,
    Gradient,
    GradientTimesInput,
    SmoothGrad,
    SmoothGradSquared,
    VarGrad,
    IntegratedGradients,
    ExpectedGradients,
    GradientSHAP,
    Conductance,
    InternalInfluence,
    FullGrad,
    *ACTIVATION_MAPS,
    *ATTENTION_METHODS,
    Occlusion,
    FeatureAblation,
    FeaturePermutation,
    RISE,
    LIME,
    KernelSHAP,
    ExactShapley,
    PermutationShapley,
    OwenValues,
    Sobol,
    HSIC,
    XRAI,
)
_registered: dict[str, type[Method]] = {method.name: method for method in _OWN}


def register(method: type[Method]) -> type[Method]:
    """Make a method of one's own known by its name; works as a decorator of its class.

    Raises:
        TypeError: it is no subclass of Method with a name.
        ValueError: the name is taken.
    """
    if not (isinstance(method, type) and issubclass(method, Method) and isinstance(getattr(method, "name", None), str)):
        raise TypeError(f"Expected a subclass of pellucid.methods.Method with a 'name', got {method!r}.")
    if method.name in _registered:
        raise ValueError(f"The name {method.name!r} is taken by {_registered[method.name].__qualname__}.")
    _registered[method.name] = method
    return method


def unregister(name: str) -> None:
    """Take a registered method of one's own away again.

    Raises:
        ValueError: the name is unknown, or one of the library's own.
    """
    if name not in _registered or _registered[name] in _OWN:
        raise ValueError(f"No method of a user's own is registered as {name!r}.")
    del _registered[name]


def methods() -> dict[str, type[Method]]:
    """Every method by name, the library's own first, by family."""
    return dict(_registered)


def method_named(spec: str | Method | type[Method]) -> Method:
    """The method that ``spec`` means: a name (with its default settings), a class, or a method itself.

    Raises:
        InputError: no method has that name; offers near matches.
    """
    if isinstance(spec, Method):
        return spec
    if isinstance(spec, type) and issubclass(spec, Method):
        make: Callable[[], Method] = spec
        return make()
    if isinstance(spec, str):
        name = spec.strip().lower().replace("_", "-")
        if name in _registered:
            make = _registered[name]
            return make()
        near = difflib.get_close_matches(name, _registered, n=3)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise InputError(f"No method is called {spec!r}. {hint}Expected one of: {', '.join(_registered)}.")
    raise InputError(f"Expected a method's name or a Method, got {spec!r} ({type(spec).__name__}).")
