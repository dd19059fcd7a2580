"""LRP through an LSTM by hand (Arras et al. 2017, 2019: "LRP-all"): the signal of a gated product takes all.

Relevance runs backwards over time: a sum shares it by contribution (with `epsilon`), tanh passes it on, gates get none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _share(a: Tensor, w: Tensor, total: Tensor, r: Tensor, epsilon: float) -> Tensor:
    """R_i = a_i sum_j w_ij r_j / stab(total_j); a (N, I), w (I, J), total and r (N, J)."""
    return a * ((r / torch.where(total >= 0, total + epsilon, total - epsilon)) @ w.T)


@torch.no_grad()
def explain(lstm: nn.LSTM, readout: nn.Linear, x: Tensor, *, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Relevance (N, T, I) and output (N,) of `readout(lstm(x)[0][:, -1])`; one layer, batch first, one output."""
    hidden = lstm.hidden_size
    w_x, w_h = lstm.weight_ih_l0.T, lstm.weight_hh_l0.T
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0
    candidate = slice(2 * hidden, 3 * hidden)
    h = x.new_zeros(len(x), hidden)
    c = x.new_zeros(len(x), hidden)
    steps = []
    for t in range(x.shape[1]):
        before_h, before_c = h, c
        z = x[:, t] @ w_x + h @ w_h + bias
        i, f, o = (torch.sigmoid(z[:, k * hidden : (k + 1) * hidden]) for k in (0, 1, 3))
        g = torch.tanh(z[:, candidate])
        c = f * before_c + i * g
        h = o * torch.tanh(c)
        steps.append((before_h, before_c, z[:, candidate], i * g, f * before_c, c))
    y = readout(h)
    r_h = _share(h, readout.weight.T, y, y, epsilon)
    r_c = torch.zeros_like(c)
    relevance = torch.zeros_like(x)
    for t in reversed(range(x.shape[1])):
        before_h, _, z, fresh, kept, c = steps[t]
        r_c = r_c + r_h
        stabilised = torch.where(c >= 0, c + epsilon, c - epsilon)
        r_g = fresh * r_c / stabilised
        r_c = kept * r_c / stabilised
        relevance[:, t] = _share(x[:, t], w_x[:, candidate], z, r_g, epsilon)
        r_h = _share(before_h, w_h[:, candidate], z, r_g, epsilon)
    return relevance, y[:, 0]
