"""One model under every composite: how much of the output reaches the input, and where the rest goes."""

from __future__ import annotations

import torch
from torch import nn

import pellucid as pl
from pellucid.composites import COMPOSITES

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
).eval()
x = torch.rand(1, 3, 12, 12) * 2 - 1

for name in COMPOSITES:
    explanation = pl.explain(model, x, target=3, composite=name)
    if explanation.ledger is None:
        print(f"{name:28} promises no conservation, so it has no ledger")
        continue
    largest = max(explanation.ledger.amounts.items(), key=lambda item: abs(item[1]) if item[0] != "input" else 0)
    share = explanation.ledger.inputs / explanation.ledger.total
    print(f"{name:28} {100 * share:7.1f} % at the input; most of the rest: {largest[0]} {largest[1]:+.3f}")
