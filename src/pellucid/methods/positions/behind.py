"""Forwards with other values at a layer, with what lies before it run once per sample wherever that is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pellucid.engine.passes import Chunk, Pass, Scalar
from pellucid.engine.point import Point, Values
from pellucid.errors import PellucidError
from pellucid.methods.positions.choice import Site

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["FACTORS", "Change", "agrees_behind", "run_behind", "runs_behind", "scalars_behind"]

Change = Callable[[Tensor, Tensor], Tensor]
"""``change(rows, steps)``: the layer's output of n rows, changed in the way of each row's step (n,)."""


def run_behind(
    call: Call, scalar: Scalar, point: Point, values: Tensor, sample: int, *, differentiate: bool = False
) -> Pass:
    """The rest of the model on ``values``, n rows of the layer's output of one sample.

    The model is called with that sample alone; at the layer it goes on with n rows. Correct only where
    :func:`runs_behind` says so.
    """
    function = call.function
    return function.run(
        {point: values},
        torch.tensor([sample], device=values.device),
        read=[point, *map(function.layer, scalar.layers)],
        leaves=[point] if differentiate else (),
        differentiate=differentiate,
    )


def runs_behind(call: Call, scalar: Scalar, site: Site, value: Tensor) -> bool:
    """Whether the rest of the model can be run on more rows than what lies before the layer; tried once for a model.

    It cannot where something beside the layer has the batch's size: a batch size that the model's code noted, or a
    path around the layer that does not broadcast.
    """
    key = ("behind", site, scalar.layers)
    findings = call.shadow.findings
    if key not in findings:
        first = torch.zeros(3, dtype=torch.long, device=value.device)
        rows = site.layout.rows(value, first)
        channels = site.layout.unfold(rows).shape[1]
        factors = torch.tensor(FACTORS, dtype=value.dtype, device=value.device)
        values = rows * site.layout.over_channels(factors[:, None].expand(3, channels), rows)
        findings[key] = agrees_behind(call, scalar, site.point, values, site.layout.rows)
    return bool(findings[key])


FACTORS = (1.0, 0.0, 0.5)
"""Of a layer's output in the variants by which it is found out whether the rest can be run alone."""


def agrees_behind(
    call: Call, scalar: Scalar, point: Point, values: Tensor, rows: Callable[[Tensor, Tensor], Tensor]
) -> bool:
    """Whether three variants of the first sample give the same in both ways.

    Args:
        call: runs the model.
        scalar: what is computed.
        point: the output of the layer.
        values: three variants of it.
        rows: picks some of these.
    """
    function = call.function
    first = torch.zeros(3, dtype=torch.long, device=values.device)
    reading = [function.layer(name) for name in scalar.layers]
    parts = []
    for part in torch.split(torch.arange(3, device=values.device), function.most):
        done = function.run({point: rows(values, part)}, first[part], read=reading)
        parts.append(scalar.of(done, first[part]))
    expected = torch.cat(parts)
    try:
        done = run_behind(call, scalar, point, values, 0)
        found = scalar.of(done, first)
    except (PellucidError, RuntimeError, IndexError, ValueError):
        return False
    whole = scalar.target.takes_raw or len(done.logits) == 3
    tolerance = 0.05 if values.dtype in (torch.float16, torch.bfloat16) else 1e-4
    return whole and found.shape == (3,) and torch.allclose(found, expected, rtol=tolerance, atol=tolerance)


def scalars_behind(
    call: Call, scalar: Scalar, site: Site, value: Tensor, steps: int, change: Change
) -> Iterator[Chunk]:
    """Scalars of ``steps`` variants of a layer's output, for every sample, as many at once as memory allows.

    Args:
        call: what is explained.
        scalar: what is computed.
        site: the layer.
        value: its output for all samples.
        steps: how many variants.
        change: makes them.
    """
    function = call.function
    alone = runs_behind(call, scalar, site, value)
    call.progress.expect_more(steps * call.batch)
    if not alone:

        def make(numbers: Tensor, rows: Tensor) -> Values:
            return {site.point: change(site.layout.rows(value, rows), numbers)}

        yield from function.scalars(steps, make, scalar)
        return
    for sample in range(call.batch):
        for first in range(0, steps, function.most):
            numbers = torch.arange(first, min(steps, first + function.most), device=value.device)
            rows = torch.full_like(numbers, sample)
            done = run_behind(call, scalar, site.point, change(site.layout.rows(value, rows), numbers), sample)
            call.progress.advance(len(numbers) - 1)
            yield Chunk(numbers, rows, sample, call.batch).with_results(scalar.of(done, rows), {})
