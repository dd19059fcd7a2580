"""The layer of a map: the one that was asked for, or the last one with positions on the way to the explained scalar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pellucid.engine.graph import Edge
from pellucid.engine.ops import Kind as OpKind
from pellucid.engine.ops import Op
from pellucid.engine.point import Kind, Point
from pellucid.engine.private import GLU, short_name
from pellucid.errors import InputError, ModelError
from pellucid.methods.positions.layout import InputShape, Layout
from pellucid.methods.positions.survey import Made, Survey, kind_of, nonzero_positions
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Site", "Sites", "sites_for"]

_MOST = 16
"""Layers with positions that are looked at before one is taken that others run beside."""
_AFFINE = frozenset((OpKind.LEAF, OpKind.MOVE, OpKind.MIX, OpKind.AFFINE, OpKind.LINEAR, OpKind.PRODUCT))


@dataclass(frozen=True, eq=False)
class Site:
    """A layer at which a map is made.

    Args:
        point: its output.
        name: as told to the user.
        layout: of the output.
        channels: how many it has.
        blame: what keeps the scalar from being affine in the output: an operation and its module; None if it is.
        whole: whether all ways from its inputs to the scalar lead through it, but for what class tokens carry.
        once: the module, or the last one with positions that runs once in a forward if it runs several times; None:
            there is none.
    """

    point: Point
    name: str
    layout: Layout
    channels: int
    blame: str | None
    whole: bool
    once: str | None = None


@dataclass(frozen=True, eq=False)
class Sites:
    """Where maps are made.

    Args:
        sites: in the order asked for, or one for each input that has positions.
        inputs: what is known of the explained inputs.
        without: names of the explained inputs whose positions no site shows.
    """

    sites: tuple[Site, ...]
    inputs: dict[str, InputShape]
    without: tuple[str, ...]


def sites_for(call: Call, target: Target) -> Sites:
    """The layers of the call: those that were named, else chosen; found out once for a model and kind of input.

    Raises:
        ModelError: there is no layer with positions; says which layers there are.
        InputError: a named layer has none, or did not run, or several times.
    """
    key = ("sites", call.layers, *kind_of(call, target))
    findings = call.shadow.findings
    if key not in findings:
        survey = Survey(call, target)
        sites = [_named(survey, name) for name in call.layers] or _chosen(survey)
        shown = {name for site in sites for field in site.layout.fields for name in field.inputs}
        findings[key] = Sites(
            tuple(sites), survey.inputs, tuple(name for name in survey.inputs if name not in shown)
        )  # fmt: skip
    found: Sites = findings[key]
    return found


def _named(survey: Survey, name: str) -> Site:
    """The site of a layer that was asked for."""
    made = [one for one in survey.made if one.name == name]
    if not made:
        raise InputError(
            f"The layer {name!r} did not run on the explained input, or what it gave does not depend on it. "
            f"{_listing(survey)}"
        )
    if len(made) > 1:
        raise InputError(
            f"The layer {name!r} runs {len(made)} times in one forward, so its output is not one value. Name a module "
            "inside or around it that runs once."
        )
    edge = survey.edge(made[0].node, made[0].output)
    if edge is None:
        raise InputError(f"The explained scalar does not depend on the layer {name!r}. {_listing(survey)}")
    layout = survey.layout(edge)
    if layout is None:
        raise InputError(
            f"The layer {name!r} gives {made[0].shape[1:]} per sample, in which no positions of the input can be told "
            f"apart. {_listing(survey)}"
        )
    return Site(survey.point(made[0]), name, layout, layout.channels(made[0].shape), _blame(survey, edge), True, name)


def _chosen(survey: Survey) -> list[Site]:
    """For every input the last layer with its positions; inputs may share one."""
    found: dict[Edge, Site] = {}
    for name in survey.inputs:
        best = _last(survey, survey.made, name) or _last(survey, survey.calls, name)
        if best is not None:
            edge, whole = best
            layout = survey.layout(edge)
            assert layout is not None
            point, channels = _point_at(survey, edge), layout.channels(survey.graph.shape(edge))
            run = f" (run {point.index})" if point.index else ""
            site = Site(
                point, point.name + run, layout, channels, _blame(survey, edge), whole, _once(survey, name, edge)
            )
            found.setdefault(edge, site)
    if not found:
        raise ModelError(
            "No layer with positions lies on the way to the explained scalar: expected a map with more than one "
            "position, or a sequence of tokens, of which more than one counts. "
            f"{_listing(survey)} Name a layer with layer=, or use a method for models without positions."
        )
    return list(found.values())


def _once(survey: Survey, source: str, chosen: Edge) -> str | None:
    """The module that made the value on ``chosen`` where it runs once; else the last with positions that does."""
    runs = Counter(one.name for one in survey.made)
    single = [one for one in survey.made if runs[one.name] == 1]
    names = {survey.edge(one.node, one.output): one.name for one in single}
    if chosen not in names:
        best = _last(survey, single, source)
        return None if best is None else names[best[0]]
    return names[chosen]


def _last(survey: Survey, candidates: Sequence[Made], source: str) -> tuple[Edge, bool] | None:
    """The last layer with positions of an input of which more than one counts, and whether all ways lead through it.

    All ways must, or parallel branches would be left out. Behind the last such layer, one that takes all that its
    positions bring will do as well: the norm before the attention in which a class token gathers what patches hold.
    What is inside an attention (queries, keys, values) is no layer of its own.
    """
    later: list[Edge] = []
    for edge in _positional(survey, candidates, source):
        if survey.cuts(edge, source):
            behind = (other for other in later if _takes_all(survey, other, edge))
            return next(behind, edge), True
        later.append(edge)
        if len(later) == _MOST:
            break
    return (later[0], False) if later else None


def _positional(survey: Survey, candidates: Sequence[Made], source: str) -> Iterator[Edge]:
    """Values with more than one position of an input that counts, the last one first, each once."""
    seen: set[Edge | None] = {None, survey.output}
    for made in reversed(candidates):
        edge = survey.edge(made.node, made.output)
        if edge in seen or edge is None or len(made.shape) < 2 or source not in survey.origins.reaches[edge[0]]:
            continue
        seen.add(edge)
        if made.kind is Kind.LAYER and _inside_attention(survey, made.name):
            continue
        gradient = survey.gradient(edge)
        if gradient is None or not (survey.constant or bool(gradient.any())):
            continue
        layout = survey.layout(edge)
        if layout is None:
            continue
        counting = range(layout.count) if survey.constant else nonzero_positions(layout, gradient)
        parts = [field.part for field in layout.fields if source in field.inputs]
        if counting is not None and sum(part.start <= at < part.stop for at in counting for part in parts) > 1:
            yield edge


def _inside_attention(survey: Survey, name: str) -> bool:
    return any(module and name.startswith(f"{module}.") for module in survey.attending_modules)


def _takes_all(survey: Survey, edge: Edge, before: Edge) -> bool:
    """Whether all that the positions of the value on ``before`` bring to the scalar goes through that on ``edge``."""
    layout = survey.layout(before)
    whole, arriving = survey.gradient(before), survey.gradient(edge)
    if layout is None or whole is None or arriving is None:
        return False
    through = survey.gradient(before, of=(edge, arriving))
    if through is None:
        return False
    expected, found = layout.unfold(whole), layout.unfold(through)
    tolerance = 0.05 if expected.dtype in (torch.float16, torch.bfloat16) else 1e-3
    return bool((expected - found).abs().max() <= tolerance * expected.abs().max())


def _point_at(survey: Survey, edge: Edge) -> Point:
    """The point of the outermost module that made the value on ``edge``, if possible one that runs once."""
    here = [one for one in (*survey.made, *survey.calls) if survey.edge(one.node, one.output) == edge]
    points = [(survey.point(one), one) for one in here]
    best = min(
        reversed(points),
        key=lambda pair: (
            pair[1].kind is Kind.CALL,
            pair[0].index,
            not pair[1].own,
            not pair[1].bare,
            pair[1].name.count("."),
        ),
    )
    return best[0]


def _blame(survey: Survey, edge: Edge) -> str | None:
    """The first operation behind the layer that is not affine in it."""
    graph = survey.graph
    depends = [False] * len(graph.nodes)
    depends[edge[0]] = True
    for i in reversed(range(edge[0])):
        live = [source for source, _ in graph.edges[i] if source >= 0 and depends[source]]
        depends[i] = bool(live)
        op = graph.ops[i]
        if live and not _is_affine(op, len(live), same=len(set(live)) < len(live), name=graph.names[i]):
            module = survey.module_of(i)
            place = f"the module {module!r}" if module else "the model"
            return f"{short_name(graph.names[i])} in {place}"
    return None


def _is_affine(op: Op | None, live: int, *, same: bool, name: str) -> bool:
    if op is None:
        return False
    if op in (Op.BATCH_NORM, Op.SCALE, Op.DIVISION) or op.kind in (OpKind.PRODUCT, OpKind.LINEAR):
        return live == 1 and (op is not Op.PRODUCT or not same) and name != GLU
    return op.kind in _AFFINE and op is not Op.FOURIER


def _listing(survey: Survey) -> str:
    """What the last layers give, for error texts."""
    shapes = {one.name: one.shape[1:] for one in survey.made}
    last = list(shapes.items())[-8:]
    if not last:
        return "The model has no module whose output can be read (TorchScript modules give none)."
    listed = ", ".join(f"{name} {shape}" for name, shape in last)
    more = f", and {len(shapes) - len(last)} before them" if len(shapes) > len(last) else ""
    return f"The layers that ran, with what each gives per sample: {listed}{more}."
