"""Where the models and operators made by real MXNet lie, and how far a result is from them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parents[2] / "data" / "mxnet"
MODELS = sorted(folder.name for folder in (DATA / "models").iterdir())


def symbol(name: str) -> Path:
    return DATA / "models" / name / f"{name}-symbol.json"


@cache
def io(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / "models" / name / "io.npz") as archive:
        return dict(archive)


@cache
def meta(name: str) -> dict[str, Any]:
    return json.loads((DATA / "models" / name / "meta.json").read_text())


def relative(found: Tensor, expected: np.ndarray | Tensor) -> float:
    """The largest difference over the largest expected value; infinite where shapes or places of NaN differ."""
    expected = torch.as_tensor(expected)
    if found.shape != expected.shape or not torch.equal(found.isnan(), expected.isnan()):
        return float("inf")
    found, expected = found.nan_to_num(nan=0.0), expected.nan_to_num(nan=0.0)
    if not expected.numel():
        return 0.0
    difference = (found.detach().double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max().clamp(min=1e-30))
