"""A rule of your own for one layer, on top of a composite."""

from __future__ import annotations

import torch
from torch import nn

import pellucid as pl
from pellucid.composites import COMPOSITES, Composite
from pellucid.rules import Box, Gamma
from pellucid.selection import select

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
).eval()
mine = (
    Composite([(select("convolution", first=True), Box(0, 1)), (select(name="2"), Gamma(0.1))])
    + COMPOSITES["epsilon"]()
)
print(mine)

explanation = pl.explain(model, torch.rand(1, 1, 8, 8), target="1~0", composite=mine)
print(explanation)
print(explanation.ledger)
