"""One explanation by a method of one conditioned model: whether it is defined there, ran, and is finite."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.zoo.registry import Case, Inputs

METHODS = ("gradient", "grad-cam", "deeplift", "guided-backprop", "attention-relevance", "occlusion")
"""What ``--methods`` runs where none is named."""
ALIASES = {"chefer": "attention-relevance"}
SAMPLES = 8
"""Samples, steps or masks of the methods that have so many: whether they run does not depend on it."""


def light(name: str, x: Inputs) -> Any:
    """The method with settings that make it quick: few samples, windows of a quarter of a picture."""
    import pellucid

    method = pellucid.methods.method_named(ALIASES.get(name, name))
    known = method.settings()
    few: dict[str, object] = {key: SAMPLES for key in ("samples", "steps", "masks") if isinstance(known.get(key), int)}
    if method.name == "occlusion":
        sides = [size for value in _floating(x) if value.ndim > 3 for size in value.shape[2:]]
        few |= {"window": max(1, max(sides) // 4), "stride": max(1, max(sides) // 4)} if sides else {}
    return method.with_settings(**few)


def explained_by(case: Case, name: str, dtype: str) -> dict[str, Any]:
    """The columns of a row of the table of methods."""
    import pellucid
    from pellucid._api import Request
    from pellucid.targets import resolve_targets

    method = light(name, case.x)
    call = Request(case.model, dtype=dtype).call(case.x)
    call.target = resolve_targets(case.target, call.batch)
    reason = method.unfit(call)
    if reason is not None:
        return {"defined": False, "ran": False, "passed": True, "reason": " ".join(reason.split())}
    started = time.perf_counter()
    explanation = pellucid.explain(case.model, case.x, target=case.target, method=method, dtype=dtype)
    seconds = time.perf_counter() - started
    maps = list(explanation.named().values())
    finite = all(bool(torch.isfinite(map_).all()) for map_ in maps)
    zero = not any(bool(map_.any()) for map_ in maps)
    found: dict[str, Any] = {"defined": True, "ran": True, "finite": finite, "zero": zero, "seconds": f"{seconds:.4g}"}
    with torch.no_grad():
        scalar = float(case.scalar().double().sum())
    output = float(explanation.output.double().sum())
    misses = ["not finite"] if not finite else []
    if not math.isclose(output, scalar, rel_tol=1e-3, abs_tol=1e-4):
        misses.append(f"explains another output than the model's ({output:.4g} for {scalar:.4g})")
    found["reason"] = "; ".join(misses) or ("zero everywhere" if zero else "")
    found["passed"] = not misses
    return found


def _floating(x: Inputs) -> list[Tensor]:
    values = x.values() if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)
    return [value for value in values if value.is_floating_point()]
