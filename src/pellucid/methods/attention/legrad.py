"""LeGrad (Bousselham 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.passes import Scalar
from pellucid.errors import ModelError
from pellucid.methods.attention.base import AttentionMethod, Flow
from pellucid.methods.attention.finding import Attentions, SelfAttention, same_tokens
from pellucid.methods.attention.seen import Seen
from pellucid.methods.base import Cost
from pellucid.methods.positions.behind import run_behind, runs_behind
from pellucid.methods.positions.choice import Site
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["LeGrad"]

_CITATION = """@inproceedings{bousselham2024,
  author = {Bousselham, Walid and Boggust, Angie and Chaybouti, Sofian and Strobelt, Hendrik and Kuehne, Hilde},
  title = {LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity},
  journal = {arXiv preprint arXiv:2404.03214}, year = {2024}
}"""


@dataclass(frozen=True)
class LeGrad(AttentionMethod):
    """LeGrad: how every layer's own prediction would grow with its attention (Bousselham 2024, equations 6 to 9).

    The tokens Z_l that block l gives are read as the last block's would be, by all that lies behind it, which gives a
    score s_l. The map of the layer is ``mean_h mean_i ReLU(ds_l / dA_l)_ij`` for token j, and the result the mean over
    layers. The paper scales it to [0, 1] for display. ``explanation.layers`` holds the maps of single layers.
    """

    name: ClassVar[str] = "legrad"
    cost: ClassVar[str] = "1 forward + gradient, and 1 from the last block on for each layer"
    advice: ClassVar[str] = "Sharp maps of what forms a class in a vision transformer."
    citation: ClassVar[str] = _CITATION

    def attentions(self, call: Call, target: Target) -> Attentions:
        """All, among the same tokens, each in a block of its own."""
        found = super().attentions(call, target)
        same_tokens(found)
        bare = [layer.name for layer in found.layers if layer.block is None]
        if bare:
            raise ModelError(
                f"legrad reads the tokens that each block gives, but around the attention in {bare[0]!r} there is no "
                "module that gives tokens and holds no other attention. Use attention-relevance."
            )
        return found

    def blocks(self, layers: Sequence[SelfAttention]) -> list[Site]:
        """All of them."""
        return [layer.block for layer in layers if layer.block is not None]

    def flow(self, call: Call, seen: Seen, layers: Sequence[SelfAttention], rows: Tensor) -> Flow:  # noqa: ARG002
        """Every layer on its own."""
        blocks = self.blocks(layers)
        tokens = [seen.done.values[block.point] for block in blocks]
        arriving = _read(call, seen.scalar, blocks[-1], [one.detach() for one in tokens])
        found: dict[int, Tensor] = {}
        for layer, made, gradient in zip(layers, tokens, arriving, strict=True):
            (there,) = torch.autograd.grad(
                [made], [seen.gradient_edge(layer)], [gradient], retain_graph=True, allow_unused=True
            )
            found[layer.number] = seen.weights_gradient(layer, there).clamp(min=0).mean((1, 2))
        return Flow(torch.stack(list(found.values())).mean(0), found)

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One, and a part of one for every layer."""
        return Cost(None, 1)


def _read(call: Call, scalar: Scalar, last: Site, tokens: Sequence[Tensor]) -> list[Tensor]:
    """For the tokens of every block, the gradient of the score that all behind the last block gives them."""
    function = call.function
    if last.layout.split is not None or not runs_behind(call, scalar, last, tokens[-1]):
        return [function.gradient({last.point: one}, None, scalar, [last.point])[1][last.point] for one in tokens]
    dim = last.layout.batch
    found: list[list[Tensor]] = [[] for _ in tokens]
    for sample in range(call.batch):
        values = torch.cat([one.narrow(dim, sample, 1) for one in tokens], dim)
        done = run_behind(call, scalar, last.point, values, sample, differentiate=True)
        with torch.enable_grad():
            scores = scalar.of(done, torch.full((len(tokens),), sample, device=values.device))
        gradient = function.differentiate(scores, done, [last.point])[1][last.point]
        for place, parts in enumerate(found):
            parts.append(gradient.narrow(dim, place, 1))
    return [torch.cat(parts, dim) for parts in found]
