"""Composites equal zennit 0.5.1's on torchvision's VGG-11, VGG-11-BN and ResNet-18, random weights, float64, to 1e-6.

Same stabilisers: 1e-6 in the layers on both sides. What differs and is taken out, see `tests.oracles`:
- zennit's Norm adds 1e-6 to sums and average pools, ours are exact: zennit runs with 1e-15 there;
- zennit's batch-norm merge applies 1 / sqrt(1 + eps) twice: the models have eps 0;
- zennit starts from the relevance it is given: it gets the logit.
Gamma means the same on both sides: the form for signed inputs (Andeol 2021), where messages of the output's own sign
count 1 + gamma times. It equals Montavon 2019's printed form wherever that is defined (a >= 0, z > 0): both are right.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.composites import COMPOSITES
from tests.oracles import conditioned, zennit_composites

pytest.importorskip("zennit")

NETS = ("vgg11", "vgg11-bn", "resnet18")
NAMES = (
    "epsilon",
    "epsilon-plus",
    "epsilon-alpha2-beta1",
    "epsilon-gamma-box",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1-flat",
    "excitation-bp",
    "deep-taylor",
    "guided-backprop",
    "deconvnet",
)


@cache
def _model(net: str) -> nn.Module:
    return conditioned.model(net)


def _agree(net: str, name: str, x: Tensor) -> None:
    model = _model(net)
    bounded = name in ("epsilon-gamma-box", "deep-taylor")
    make = COMPOSITES[name]
    composite = make(low=zennit_composites.LOW, high=zennit_composites.HIGH) if bounded else make()
    ours = pl.explain(model, x, target=3, composite=composite).relevance
    theirs = zennit_composites.explain(model, x, name, 3, resnet=net == "resnet18")
    torch.testing.assert_close(ours, theirs, atol=1e-6 * float(theirs.abs().max()), rtol=0.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", NETS)
def test_equals_zennit(net: str, name: str) -> None:
    _agree(net, name, conditioned.images(2 if net == "resnet18" else 1, 32))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", NETS)
def test_equals_zennit_on_larger_images(net: str, name: str) -> None:
    _agree(net, name, conditioned.images(2, 96, seed=7))
