"""Losses that graphs saved from training end in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family

FAMILY = family()


@FAMILY.add("NegativeLogLikelihoodLoss")
def _likelihood(call: Call, a: Attributes) -> Value:
    reduction = a.choice("reduction", ("none", "sum", "mean"), "mean")
    ignored = a.integer("ignore_index")
    return call.apply(likelihood, *(call.optional(k) for k in range(3)), reduction=reduction, ignored=ignored)


def likelihood(x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, ignored: int | None) -> Tensor:
    """The negative of the logarithms (N, C, ...) at the targets (N, ...)."""
    return F.nll_loss(x, target.long(), weight, reduction=reduction, ignore_index=-100 if ignored is None else ignored)


@FAMILY.add("SoftmaxCrossEntropyLoss")
def _entropy(call: Call, a: Attributes) -> list[Value]:
    reduction = a.choice("reduction", ("none", "sum", "mean"), "mean")
    ignored = a.integer("ignore_index")
    logs = call.apply(torch.log_softmax, call.input(0), dim=1, label="logs")
    settings: dict[str, Any] = {"reduction": reduction, "ignored": ignored}
    return [call.apply(likelihood, logs, call.input(1), call.optional(2), **settings), logs]
