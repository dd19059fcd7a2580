"""What all methods of attention share: layers that attend, the token that is read, the way of tokens to the input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from pellucid.errors import InputError, ModelError, TargetError, reason
from pellucid.methods.attention.finding import Attentions, SelfAttention, attentions_for
from pellucid.methods.attention.seen import Seen, see
from pellucid.methods.base import Attribution, Cost, Family, Method
from pellucid.methods.positions.choice import Site
from pellucid.methods.positions.layout import Field, Layout
from pellucid.methods.positions.resize import spread
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["AttentionMethod", "Flow", "over_heads"]

Heads = Literal["mean", "max", "min"]


@dataclass(frozen=True)
class Flow:
    """What a method found for the tokens.

    Args:
        tokens: (N, tokens), of the class token and registers too.
        layers: the same as of single layers, by their numbers.
        details: further tensors, the first dimension the batch.
        settings: what was found on the way.
    """

    tokens: Tensor
    layers: Mapping[int, Tensor] = field(default_factory=dict)
    details: Mapping[str, Tensor] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class AttentionMethod(Method):
    """A method that reads the attention weights of a model.

    Args:
        read: the token whose attention is read: its number, from the end if negative, or "mean" of all; None: those
            that the explained scalar is made from behind the last attention, such as the class token.
    """

    read: int | Literal["mean"] | None = field(default=None, kw_only=True)

    family: ClassVar[Family] = "attention"
    needs: ClassVar[str] = "softmax attention among the tokens of the input"
    unit: ClassVar[str] = "attention"
    walks: ClassVar[bool] = True

    @abstractmethod
    def flow(self, call: Call, seen: Seen, layers: Sequence[SelfAttention], rows: Tensor) -> Flow:
        """What each token gets.

        Args:
            call: what is explained.
            seen: a recorded pass.
            layers: the attentions, in running order.
            rows: (N, tokens), the tokens that are read, of weights that sum to 1.
        """

    def blocks(self, layers: Sequence[SelfAttention]) -> list[Site]:  # noqa: ARG002
        """Modules whose outputs are wanted of the pass too."""
        return []

    def attribute(self, call: Call, target: Target) -> Attribution:
        """See the class."""
        target.check_layers(call.shadow.modules)
        found = self.attentions(call, target)
        named = {name: inside(found, name) for name in call.layers}
        seen = see(call, target, found, read=[site.point for site in self.blocks(found.layers)])
        flow = self.flow(call, seen, found.layers, self._rows(seen, found.layers[-1]))
        last = {name: flow.layers[several[-1].number] for name, several in named.items()}
        return self._dressed(call, seen, found, flow, last)

    def attentions(self, call: Call, target: Target) -> Attentions:
        """The attentions that the method looks at.

        Raises:
            ModelError: there is none, or they do not suit the method.
        """
        return attentions_for(call, target)

    def _rows(self, seen: Seen, layer: SelfAttention) -> Tensor:
        if self.read is None:
            return seen.rows(layer)
        rows = torch.zeros(len(seen.scalars), layer.tokens, dtype=seen.scalars.dtype, device=seen.scalars.device)
        if self.read == "mean":
            return rows + 1 / layer.tokens
        if not -layer.tokens <= self.read < layer.tokens:
            raise InputError(
                f"read={self.read} is out of range: {layer.name!r} has {layer.tokens} tokens, so it must lie between "
                f"{-layer.tokens} and {layer.tokens - 1}."
            )
        rows[:, self.read] = 1
        return rows

    def _dressed(
        self, call: Call, seen: Seen, found: Attentions, flow: Flow, layers: Mapping[str, Tensor]
    ) -> Attribution:
        layout = found.layers[-1].layout
        relevance: dict[str, Tensor] = {}
        for name, given in found.inputs.items():
            like = call.prepared.values[name]
            dtype = like.dtype if like.is_floating_point() else flow.tokens.dtype
            grid = next((one for one in layout.fields if name in one.inputs), None)
            shown = None if grid is None else spread(_map(flow.tokens, layout, grid), grid, name, given)
            relevance[name] = (
                torch.zeros(like.shape, dtype=dtype, device=like.device) if shown is None else shown.to(dtype)
            )
        return Attribution(
            relevance=relevance,
            output=seen.scalar.output,
            target=seen.scalar.target,
            layers={name: _shaped(tokens, layout) for name, tokens in layers.items()},
            details={"token relevance": flow.tokens, **flow.details},
            notes=(*call.notes(), *_notes(found, relevance, layout)),
            settings={
                "attention layers": [layer.name for layer in found.layers],
                "tokens": found.layers[-1].tokens,
                **flow.settings,
            },
        )

    def unfit(self, call: Call) -> str | None:
        """Why it does not suit the model."""
        try:
            self.attentions(call, call.target)
        except TargetError:
            return None  # which attentions there are depends on the target
        except (ModelError, InputError) as error:
            return reason(error)
        return None

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One."""
        return Cost(0, 1)


def inside(found: Attentions, name: str) -> list[SelfAttention]:
    """The attentions in a module.

    Raises:
        InputError: it has none.
    """
    layers = [one for one in found.layers if one.name == name or one.name.startswith(f"{name}.") or not name]
    if not layers:
        raise InputError(
            f"The module {name!r} holds no attention among the tokens of the input. There is one in each of: "
            f"{', '.join(one.name for one in found.layers)}."
        )
    return layers


def over_heads(weights: Tensor, heads: Heads) -> Tensor:
    """(N, heads, tokens, tokens) to (N, tokens, tokens)."""
    return weights.mean(1) if heads == "mean" else weights.amax(1) if heads == "max" else weights.amin(1)


def check_heads(heads: object) -> None:
    """Refuse another word for how heads are joined.

    Raises:
        InputError: lists them.
    """
    if heads not in ("mean", "max", "min"):
        raise InputError(f"Expected heads as 'mean', 'max' or 'min', got {heads!r}.")


def _map(tokens: Tensor, layout: Layout, grid: Field) -> Tensor:
    """The map of a grid's positions, from the values of all tokens."""
    kept = tokens if layout.kept is None else tokens.index_select(1, layout.kept.to(tokens.device))
    return kept[:, grid.part].reshape(-1, *grid.grid)


def _shaped(tokens: Tensor, layout: Layout) -> Tensor:
    """A layer's map: the grid of its positions, or all positions in a row where they form several."""
    if len(layout.fields) == 1:
        return _map(tokens, layout, layout.fields[0])
    return tokens if layout.kept is None else tokens.index_select(1, layout.kept.to(tokens.device))


def _notes(found: Attentions, relevance: Mapping[str, Tensor], layout: Layout) -> list[str]:
    notes = []
    if found.others:
        others = ", ".join(dict.fromkeys(name for _, name in found.others))
        notes.append(
            f"Attention in {others} is left out: it is over windows, across sequences, or its weights are mixed "
            "afterwards."
        )
    without = [name for name in relevance if not any(name in one.inputs for one in layout.fields)]
    if without:
        notes.append(f"The input {', '.join(without)} has no tokens of its own; its relevance is left at 0.")
    return notes
