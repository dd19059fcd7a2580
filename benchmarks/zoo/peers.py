"""Other tools on the same conditioned models: the sum of the relevance that reaches the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.registry import Case, Inputs

EMBEDDED = {"input_ids": "inputs_embeds", "decoder_input_ids": "decoder_inputs_embeds"}


def embedded(case: Case) -> Inputs:
    """The inputs with word vectors in place of token ids: these tools start at floating tensors."""
    if not isinstance(case.x, dict):
        return case.x
    inner: Any = (
        getattr(case.model, "model", case.model) if type(case.model).__name__ in ("Pooled", "Field") else case.model
    )
    made = {}
    for key, value in case.x.items():
        if key in EMBEDDED:
            with torch.no_grad():
                made[EMBEDDED[key]] = inner.get_input_embeddings()(value)
        else:
            made[key] = value
    return made


def autolrp(case: Case) -> float:
    """autoLRP with its default rules (epsilon), the input wrapped, the model as it is; it seeds 1, not the scalar."""
    import autolrp as tool

    wrapped: list[Any] = []

    def wrap(value: Tensor) -> Any:
        if not value.is_floating_point():
            return value
        wrapped.append(tool.tensor(value.detach().clone()))
        return wrapped[-1]

    x = embedded(case)
    if isinstance(x, Mapping):
        inputs: Any = {key: wrap(value) for key, value in x.items()}
    else:
        inputs = tuple(wrap(value) for value in x) if isinstance(x, tuple) else wrap(x)
    scalar: Any = Case(case.model, inputs, case.target).scalar()
    scalar.sum().lrp()
    return sum(float(value.relevance.sum()) for value in wrapped) * float(case.scalar().detach())


def zennit(case: Case) -> float:
    """zennit's epsilon rule on every linear map, batch-norms merged where its canonizer finds them; tensors only."""
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon, Norm, Pass
    from zennit.types import Activation, AvgPool, Convolution, Linear

    if not isinstance(case.x, Tensor) or not case.x.is_floating_point():
        raise TypeError("takes one floating tensor")
    layers = [(Activation, Pass()), (AvgPool, Norm()), (Convolution, Epsilon()), (Linear, Epsilon())]
    composite = LayerMapComposite(layer_map=layers, canonizers=[SequentialMergeBatchNorm()])
    x = case.x.clone().requires_grad_()

    def scalar(output: Tensor) -> Tensor:
        return torch.autograd.grad(case.scalar_of(output).sum(), output, retain_graph=True)[0] * output.detach()

    with Gradient(model=_FirstTensor(case), composite=composite) as attributor:
        _, relevance = attributor(x, scalar)
    return float(relevance.sum())


class _FirstTensor(nn.Module):
    """The model up to the tensor that the target refers to."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.model, self.case = case.model, case

    def forward(self, x: Tensor) -> Tensor:
        return Case(self.model, x, self.case.target).output()


def captum(case: Case) -> float:
    """captum's LRP with its default rules; tensors only."""
    from captum.attr import LRP

    if not isinstance(case.x, Tensor) or not case.x.is_floating_point():
        raise TypeError("takes one floating tensor")

    class Scalar(_FirstTensor):
        def forward(self, x: Tensor) -> Tensor:
            return self.case.scalar_of(super().forward(x))

    return float(LRP(Scalar(case)).attribute(case.x.clone().requires_grad_()).sum())


PEERS: dict[str, Callable[[Case], float]] = {"autoLRP": autolrp, "zennit": zennit, "captum": captum}
