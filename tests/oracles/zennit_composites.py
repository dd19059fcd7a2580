"""zennit 0.5.1's composites, started at the logit and with its sums and pools as exact as ours.

zennit starts from the relevance it is given (a one-hot means 1); here it gets the explained logit itself. Its `Norm` on
sums and average pools adds the composite's stabiliser, 1e-6; here 1e-15. It has no plain epsilon and no deep Taylor
composite: both are built of its rules.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LOW, HIGH = -1.0, 1.0
GRADIENTS = ("guided-backprop", "deconvnet")
"""Composites whose result is a modified gradient (seed 1), not a relevance."""


def build(name: str, *, resnet: bool = False) -> Any:
    """zennit's composite of our name."""
    from zennit import composites, layer, rules, types
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.torchvision import ResNetCanonizer

    exact: list[Any] = [(layer.Sum, rules.Norm(1e-15)), (types.AvgPool, rules.Norm(1e-15))]
    canonizers = [ResNetCanonizer() if resnet else SequentialMergeBatchNorm()]
    options = {"layer_map": exact, "canonizers": canonizers}
    plain = [*exact, (types.Activation, rules.Pass()), (types.BatchNorm, rules.Pass())]
    match name:
        case "epsilon":
            return composites.LayerMapComposite([*plain, (types.Linear, rules.Epsilon())], canonizers=canonizers)
        case "deep-taylor":
            return composites.SpecialFirstLayerMapComposite(
                [*plain, (types.Linear, rules.ZPlus())],
                [(types.Linear, rules.ZBox(LOW, HIGH))],
                canonizers=canonizers,
            )
        case "epsilon-plus":
            return composites.EpsilonPlus(**options)
        case "epsilon-alpha2-beta1":
            return composites.EpsilonAlpha2Beta1(**options)
        case "epsilon-gamma-box":
            return composites.EpsilonGammaBox(LOW, HIGH, **options)
        case "epsilon-plus-flat":
            return composites.EpsilonPlusFlat(**options)
        case "epsilon-alpha2-beta1-flat":
            return composites.EpsilonAlpha2Beta1Flat(**options)
        case "excitation-bp":
            return composites.ExcitationBackprop(**options)
        case "guided-backprop":
            return composites.GuidedBackprop()
        case "deconvnet":
            return composites.DeconvNet()
    raise ValueError(f"zennit has no {name!r}")


def explain(model: nn.Module, x: Tensor, name: str, unit: int, *, resnet: bool = False) -> Tensor:
    """zennit's relevance (or modified gradient) of logit `unit`, shaped like `x`."""
    from zennit.attribution import Gradient

    def seed(output: Tensor) -> Tensor:
        one_hot = torch.zeros_like(output)
        one_hot[:, unit] = 1.0
        return one_hot if name in GRADIENTS else one_hot * output.detach()

    with Gradient(model=model, composite=build(name, resnet=resnet)) as attributor:
        _, relevance = attributor(x.clone(), seed)
    return relevance.detach()
