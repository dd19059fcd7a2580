"""A transformer explained from its token ids: words and positions get their shares, softmax under two rules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import pellucid as pl


class Reader(nn.Module):
    """Two encoder layers over word and position embeddings, mean-pooled into three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(100, 32), nn.Embedding(16, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (N, 3) of token ids (N, L)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        states: Tensor = self.encoder(self.words(ids) + self.positions(places))
        logits: Tensor = self.head(states.mean(1))
        return logits


torch.manual_seed(0)
model = Reader().eval()
ids = torch.randint(0, 100, (1, 7))
for composite in ("attn-lrp", "cp-lrp"):
    explanation = pl.explain(model, ids, target=1, composite=composite)
    print(composite, [round(value, 3) for value in explanation.relevance[0].tolist()])
    print(explanation.ledger)
