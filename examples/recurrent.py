"""An LSTM explained as it is: no recurrent code in the library, gates are coefficients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import pellucid as pl


class LastStep(nn.Module):
    """An LSTM whose last state is read by a linear layer: one number per sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Output (N, 1) of sequences (N, L, 3)."""
        states, _ = self.rnn(x)
        output: Tensor = self.head(states[:, -1])
        return output


torch.manual_seed(0)
model = LastStep().eval()
x = torch.randn(2, 6, 3)
explanation = pl.explain(model, x)  # one output: the output itself is explained
per_step = explanation.pool("sum")
print("relevance per step:", [[round(value, 3) for value in row] for row in per_step.tolist()])
print(explanation.ledger)
assert explanation.ledger.closed(1e-4)
