"""The attentions of a model among the tokens of its input: found out once, in a survey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.engine.private import BADDBMM
from pellucid.errors import ModelError
from pellucid.methods.positions.attending import Attending
from pellucid.methods.positions.choice import Site
from pellucid.methods.positions.layout import InputShape, Layout
from pellucid.methods.positions.survey import Made, Survey, kind_of
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Attentions", "SelfAttention", "attentions_for", "followable", "same_tokens"]


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """An attention in which tokens of the input look at each other.

    Args:
        number: which of all attentions behind the scalar, in running order.
        name: the innermost module that attends.
        layout: of what it gives; its positions are the tokens of the input, without class token and registers.
        tokens: how many tokens there are in all.
        block: the largest module around it that has no other attention and gives tokens, if there is one.
    """

    number: int
    name: str
    layout: Layout
    tokens: int
    block: Site | None


@dataclass(frozen=True, eq=False)
class Attentions:
    """The attentions behind the explained scalar.

    Args:
        total: how many there are, of any kind.
        layers: those among the input's tokens.
        others: numbers and modules of the rest: over windows, across sequences, or with weights mixed afterwards.
        inputs: what is known of the explained inputs.
    """

    total: int
    layers: tuple[SelfAttention, ...]
    others: tuple[tuple[int, str], ...]
    inputs: dict[str, InputShape]


def attentions_for(call: Call, target: Target) -> Attentions:
    """The attentions of the call's model, found out once for a kind of input.

    Raises:
        ModelError: none is among the input's tokens; says which there are.
    """
    key = ("attentions", *kind_of(call, target))
    findings = call.shadow.findings
    if key not in findings:
        findings[key] = _found(Survey(call, target))
    found: Attentions = findings[key]
    if not found.layers:
        there = ", ".join(name for _, name in found.others[-6:])
        raise ModelError(
            "No attention among the tokens of the explained input lies on the way to the explained scalar: "
            + (
                f"those in {there} are over windows, across sequences, or mixed afterwards. "
                if found.others
                else "nothing in the model attends (a softmax that weighs rows, or scaled_dot_product_attention). "
            )
            + "Use a method of another family, such as grad-cam."
        )
    return found


def _found(survey: Survey) -> Attentions:
    layers, others = [], []
    for number, (one, name) in enumerate(zip(survey.attending, survey.attending_modules, strict=True)):
        layout = _among_tokens(survey, one)
        if layout is None:
            others.append((number, name or "the model itself"))
            continue
        shape = survey.graph.shape((one.product, 0))
        block = _block(survey, one, name, layout)
        layers.append(SelfAttention(number, name, layout, shape[-2], block))
    return Attentions(len(survey.attending), tuple(layers), tuple(others), survey.inputs)


def _among_tokens(survey: Survey, one: Attending) -> Layout | None:
    """The layout of what an attention gives, if its rows are tokens of the input that look at the same tokens."""
    graph = survey.graph
    shape = graph.shape((one.product, 0))
    layout = survey.layout((one.product, 0))
    if layout is None or len(layout.positions) != 1:
        return None
    looked_at = graph.edges[one.product][2 if one.fused or graph.names[one.product] == BADDBMM else 1]
    if looked_at[0] < 0 or graph.shape(looked_at)[-2] != shape[-2]:
        return None
    values = survey.layout(looked_at)
    if values is None or not _same_tokens(values, layout):
        return None
    split = 0 if layout.split is None else 1
    return layout if layout.positions[0] == len(shape) - 2 + split else None


def _block(survey: Survey, one: Attending, name: str, layout: Layout) -> Site | None:
    """The largest module around an attention, and around no other, that gives as many tokens."""
    modules = survey.attending_modules
    best: tuple[Made, Layout] | None = None
    for made in survey.made:
        around = name == made.name or name.startswith(f"{made.name}.")
        if not around or sum(each == made.name or each.startswith(f"{made.name}.") for each in modules) != 1:
            continue
        edge = survey.edge(made.node, made.output)
        there = None if edge is None or edge[0] > one.product else survey.layout(edge)
        if there is not None and _same_tokens(there, layout) and (best is None or len(made.name) < len(best[0].name)):
            best = made, there
    if best is None:
        return None
    made, layout = best
    return Site(survey.point(made), made.name, layout, layout.channels(made.shape), None, True)


def _same_tokens(one: Layout, other: Layout) -> bool:
    """Whether both hold the same positions at the same places of their tokens."""
    if (one.kept is None) != (other.kept is None):
        return False
    same = one.kept is None or other.kept is None or one.kept.equal(other.kept)
    grids = ([(field.grid, *field.inputs) for field in layout.fields] for layout in (one, other))
    return same and next(grids) == next(grids)


def followable(attentions: Attentions) -> None:
    """Refuse layers that cannot be followed from the input's tokens to the last ones.

    Raises:
        ModelError: names the layer to blame.
    """
    same_tokens(attentions)
    last = attentions.layers[-1]
    before = [name for number, name in attentions.others if number < last.number]
    if before:
        raise ModelError(
            f"The attention in {before[-1]!r} is over windows, across sequences, or its weights are mixed afterwards, "
            f"so attention cannot be followed through it to {last.name!r}. Use attention-maps for one layer, or "
            "grad-cam."
        )


def same_tokens(attentions: Attentions) -> None:
    """Refuse layers among different tokens, of which no flow from first to last can be told.

    Raises:
        ModelError: names two of them.
    """
    first = attentions.layers[0]
    for layer in attentions.layers[1:]:
        if layer.tokens != first.tokens or not _same_tokens(layer.layout, first.layout):
            grids = [" x ".join(map(str, one.layout.fields[0].grid)) for one in (first, layer)]
            raise ModelError(
                f"The attention in {first.name!r} is among {first.tokens} tokens ({grids[0]}) and that in "
                f"{layer.name!r} among {layer.tokens} ({grids[1]}), so attention cannot be followed through the "
                "layers. Use attention-maps for one of them, or grad-cam."
            )
