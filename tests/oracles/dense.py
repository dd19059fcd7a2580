"""The rules for linear maps as their papers print them: one dense matrix, one message z_ij = a_i w_ij per connection.

Notation: `a` inputs of one sample (I,), `w` matrix (I, J), `b` bias (J,), `r` relevance of the outputs (J,). The bias
is an extra row of the message table (a = 1), so that what it takes can be read off. Every rule returns
`(relevance (I,), bias's share: float)`.

References: Bach et al. 2015 (0, epsilon, alpha-beta), Montavon et al. 2017 (zB, w2), Montavon et al. 2019 (gamma,
flat), Andeol et al. 2021 (gamma for inputs of both signs), Kohlbrenner et al. 2020 (z+ and flat in composites).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Messages = tuple[Tensor, float]
DenseRule = Callable[["Dense", Tensor, Tensor], Messages]


@dataclass(frozen=True)
class Dense:
    """A linear map of one sample: matrix `w` (I, J), `b` (J,), `connected` (I, J), 1 where a connection exists."""

    w: Tensor
    b: Tensor
    connected: Tensor
    out_shape: torch.Size

    @classmethod
    def of(cls, module: nn.Module, x: Tensor) -> Dense:
        """The matrix of `module` for samples shaped like `x[0]`; `module` is evaluated one sample at a time."""

        def matrix(m: nn.Module) -> Tensor:
            jacobian = torch.autograd.functional.jacobian(lambda v: m(v), torch.zeros_like(x[:1]))
            outputs = m(torch.zeros_like(x[:1])).numel()
            return jacobian.reshape(outputs, x[0].numel()).T.detach()

        with torch.no_grad():
            at_zero = module(torch.zeros_like(x[:1]))
        ones = copy.deepcopy(module)
        with torch.no_grad():
            for name, parameter in ones.named_parameters():
                parameter.fill_(0.0 if name.split(".")[-1] == "bias" else 1.0)
        return cls(matrix(module), at_zero.flatten(), (matrix(ones) != 0).to(x.dtype), at_zero.shape[1:])

    def z(self, a: Tensor) -> Tensor:
        """Messages (I + 1, J); the last row is the bias."""
        return torch.cat([a.flatten()[:, None] * self.w, self.b[None]])


def stabilised(v: Tensor, epsilon: float) -> Tensor:
    """v + epsilon * sign(v) with sign(0) = +1."""
    return torch.where(v >= 0, v + epsilon, v - epsilon)


def _share(messages: Tensor, denominator: Tensor, r: Tensor) -> Messages:
    """R_i = sum_j messages_ij / denominator_j * r_j; the last row apart. An output without messages gives nothing."""
    relevance = (messages * torch.where(denominator == 0, 0.0, r / denominator)).sum(1)
    return relevance[:-1], float(relevance[-1])


def zero(dense: Dense, a: Tensor, r: Tensor) -> Messages:
    """LRP-0, Bach 2015 eq. 56 without a stabiliser."""
    z = dense.z(a)
    return _share(z, z.sum(0), r)


def epsilon(eps: float = 1e-6) -> DenseRule:
    """LRP-epsilon, Bach 2015 eq. 58."""

    def rule(dense: Dense, a: Tensor, r: Tensor) -> Messages:
        z = dense.z(a)
        return _share(z, stabilised(z.sum(0), eps), r)

    return rule


def gamma(g: float = 0.25, eps: float = 1e-6) -> DenseRule:
    """LRP-gamma for inputs of both signs: messages of the output's own sign count (1 + g) times.

    For a >= 0 and z >= 0 this is Montavon 2019's z_ij + g * a_i max(w_ij, 0).
    """

    def rule(dense: Dense, a: Tensor, r: Tensor) -> Messages:
        z = dense.z(a)
        favoured = torch.where(z.sum(0) >= 0, z + g * z.clamp(min=0), z + g * z.clamp(max=0))
        total = favoured.sum(0)
        return _share(favoured, torch.where(z.sum(0) >= 0, total + eps, total - eps), r)

    return rule


def gamma_montavon(g: float = 0.25, eps: float = 1e-6) -> DenseRule:
    """LRP-gamma as printed in Montavon 2019, for a >= 0: weights w + g w+, whatever the sign of z_j."""

    def rule(dense: Dense, a: Tensor, r: Tensor) -> Messages:
        w = torch.cat([dense.w, dense.b[None]])
        messages = torch.cat([a.flatten(), torch.ones(1, dtype=a.dtype)])[:, None] * (w + g * w.clamp(min=0))
        return _share(messages, stabilised(messages.sum(0), eps), r)

    return rule


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-6) -> DenseRule:
    """Alpha-beta, Bach 2015 eq. 60: positive and negative messages normalised apart."""

    def rule(dense: Dense, a: Tensor, r: Tensor) -> Messages:
        z = dense.z(a)
        up, down = z.clamp(min=0), z.clamp(max=0)
        positive, positive_bias = _share(up, up.sum(0) + eps, r)
        negative, negative_bias = _share(down, down.sum(0) - eps, r)
        return alpha * positive - beta * negative, alpha * positive_bias - beta * negative_bias

    return rule


def z_plus(eps: float = 1e-6) -> DenseRule:
    """z+ (Montavon 2017; Kohlbrenner 2020): alpha-beta with alpha 1, beta 0; positive biases take their share."""
    return alpha_beta(1.0, 0.0, eps)


def box(low: float | Tensor, high: float | Tensor, eps: float = 1e-6) -> DenseRule:
    """zB, Montavon 2017: x_i w_ij - l_i w_ij+ - h_i w_ij-; it has no bias term."""

    def rule(dense: Dense, a: Tensor, r: Tensor) -> Messages:
        lo = torch.as_tensor(low, dtype=a.dtype).expand_as(a).flatten()[:, None]
        hi = torch.as_tensor(high, dtype=a.dtype).expand_as(a).flatten()[:, None]
        w = dense.w
        messages = a.flatten()[:, None] * w - lo * w.clamp(min=0) - hi * w.clamp(max=0)
        messages = torch.cat([messages, torch.zeros_like(dense.b[None])])
        return _share(messages, stabilised(messages.sum(0), eps), r)

    return rule


def w_square(dense: Dense, a: Tensor, r: Tensor) -> Messages:
    """w2, Montavon 2017: shares by squared weight, no bias."""
    messages = torch.cat([dense.w.square(), torch.zeros_like(dense.b[None])])
    return _share(messages, messages.sum(0), r)


def flat(dense: Dense, a: Tensor, r: Tensor) -> Messages:
    """Flat: equal shares along the connections that exist."""
    messages = torch.cat([dense.connected, torch.zeros_like(dense.b[None])])
    return _share(messages, messages.sum(0), r)


def passed(dense: Dense, a: Tensor, r: Tensor) -> Messages:
    """Pass: output j's relevance goes to input j (only where the shapes agree)."""
    if r.numel() != a.numel():
        raise ValueError(f"pass needs as many inputs as outputs, got {a.numel()} and {r.numel()}")
    return r.clone(), 0.0


def explain(
    rule: DenseRule, module: nn.Module, x: Tensor, density: Tensor, *, dense: Dense | None = None
) -> tuple[Tensor, float]:
    """Relevance like `x` (N, ...) of `(module(x) * density).sum()`, and the biases' share summed over samples.

    `dense` is `Dense.of(module, x)`, if it is at hand.
    """
    dense = Dense.of(module, x) if dense is None else dense
    with torch.no_grad():
        y = torch.cat([module(sample[None]) for sample in x])
    relevance, bias = torch.zeros_like(x), 0.0
    for n in range(len(x)):
        mine, share = rule(dense, x[n], (y[n] * density[n]).flatten())
        relevance[n] = mine.reshape(x[n].shape)
        bias += share
    return relevance, bias
