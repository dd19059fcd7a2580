"""Results of other libraries as explanations: tensors of Captum and zennit, SHAP's and LIME's own objects.

Nothing of those libraries is imported: their objects are known by the attributes that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.explanation import Explanation
from pellucid.intake.from_lime import lime_fields
from pellucid.intake.from_shap import shap_fields
from pellucid.intake.tensors import Targets, tensor_fields, tensors_of

__all__ = ["from_attribution"]


def from_attribution(
    attribution: Any,
    x: Any = None,
    *,
    output: Any = None,
    target: Targets = None,
    method: str | None = None,
    settings: Mapping[str, object] | None = None,
    citation: str = "",
) -> Explanation:
    """See :meth:`pellucid.Explanation.from_attribution`."""
    given = None if x is None else tensors_of(x, "x")
    extra = dict(settings or {})
    if hasattr(attribution, "local_exp"):
        name, made = "lime", lime_fields(attribution, given, output, target, extra)
    elif hasattr(attribution, "values") and hasattr(attribution, "base_values"):
        name, made = "shap", shap_fields(attribution, given, output, target, extra)
    else:
        name, made = "attribution", tensor_fields(attribution, given, output, target)
    return Explanation(**{"method": method or name, "settings": extra, "citation": citation, **made})
