"""Branches and loops whose bodies are graphs of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.models.graph.module import GraphModule


def results(made: Any) -> tuple[Any, ...]:
    """What a module returned, as a tuple."""
    return made if isinstance(made, tuple) else (made,)


class Branch(nn.Module):
    """One of two graphs, as a condition says.

    Args:
        then: what runs where it holds.
        otherwise: what runs where it does not.
        taken: how many of the values that follow the condition are the first one's inputs; the rest are the other's.
    """

    def __init__(self, then: GraphModule, otherwise: GraphModule, taken: int) -> None:
        super().__init__()
        self.then, self.otherwise = then, otherwise
        self.taken = taken

    def forward(self, condition: Tensor, *values: Any) -> tuple[Any, ...]:
        """The results of the graph that ran."""
        holds = bool(condition)
        return results(self.then(*values[: self.taken]) if holds else self.otherwise(*values[self.taken :]))


class Loop(nn.Module):
    """Runs a graph as often as a number and a condition say, handing states on.

    Args:
        body: from the count so far, the condition, the states and what else it needs to the condition, the states and
            values that are collected.
        states: how many there are.
    """

    def __init__(self, body: GraphModule, states: int) -> None:
        super().__init__()
        self.body = body
        self.states = states

    def forward(self, most: Tensor | None, condition: Tensor | None, *values: Any) -> tuple[Any, ...]:
        """The last states, then the collected values along a new first axis."""
        states, others = list(values[: self.states]), values[self.states :]
        device = next((value.device for value in (most, condition, *values) if isinstance(value, Tensor)), None)
        going = torch.tensor(True, device=device) if condition is None else condition
        limit = None if most is None else int(most)
        collected: list[tuple[Any, ...]] = []
        while bool(going) and (limit is None or len(collected) < limit):
            count = torch.tensor(len(collected), device=device)
            going, *made = results(self.body(count, going, *states, *others))
            states = made[: self.states]
            collected.append(tuple(made[self.states :]))
        if not collected:
            empty = len(self.body.output_names) - 1 - self.states
            return (*states, *(torch.empty(0, device=device) for _ in range(empty)))
        return (*states, *(torch.stack(parts) for parts in zip(*collected, strict=True)))


class Scan(nn.Module):
    """Runs a graph once for each step of its sequences, handing states on.

    Args:
        body: from the states, a step of each sequence and what else it needs to the states and values that are
            collected.
        states: how many there are.
        axes: along which each sequence is stepped through.
        backwards: whether from its end.
        made_axes: along which each result is put together.
        made_backwards: whether from its end.
    """

    def __init__(
        self,
        body: GraphModule,
        states: int,
        axes: Sequence[int],
        backwards: Sequence[bool],
        made_axes: Sequence[int],
        made_backwards: Sequence[bool],
    ) -> None:
        super().__init__()
        self.body = body
        self.states = states
        self.axes, self.backwards = tuple(axes), tuple(backwards)
        self.made_axes, self.made_backwards = tuple(made_axes), tuple(made_backwards)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The last states, then the collected values."""
        states = list(values[: self.states])
        end = self.states + len(self.axes)
        sequences = [
            value.unbind(axis)[:: -1 if back else 1]
            for value, axis, back in zip(values[self.states : end], self.axes, self.backwards, strict=True)
        ]
        collected: list[tuple[Tensor, ...]] = []
        for step in zip(*sequences, strict=True):
            made = results(self.body(*states, *step, *values[end:]))
            states = list(made[: self.states])
            collected.append(made[self.states :])
        stacked = [
            torch.stack(parts[:: -1 if back else 1], axis)
            for parts, axis, back in zip(zip(*collected, strict=True), self.made_axes, self.made_backwards, strict=True)
        ]
        return (*states, *stacked)
