"""A loop over time whose body is a graph of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.models.graph.module import GraphModule


class Foreach(nn.Module):
    """Runs a body once for each step of its sequences' first axis, handing states on from step to step.

    Args:
        body: takes a step of each sequence, the states and what else it needs; gives outputs and then new states.
        sequences: places among the inputs of what is stepped through.
        states: places of the first states.
        others: places of what every step gets as it is.
        outputs: how many of the body's results are collected; the rest are the new states.
    """

    def __init__(
        self, body: GraphModule, sequences: Sequence[int], states: Sequence[int], others: Sequence[int], outputs: int
    ) -> None:
        super().__init__()
        self.body = body
        self.sequences, self.states, self.others = tuple(sequences), tuple(states), tuple(others)
        self.outputs = outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The collected outputs, then the last states."""
        given: list[Any] = list(inputs)
        collected: list[tuple[Tensor, ...]] = []
        for step in zip(*(inputs[place].unbind(0) for place in self.sequences), strict=True):
            for place, value in zip(self.sequences, step, strict=True):
                given[place] = value
            made = self.body(*given)
            results = made if isinstance(made, tuple) else (made,)
            collected.append(results[: self.outputs])
            for place, value in zip(self.states, results[self.outputs :], strict=True):
                given[place] = value
        stacked = (torch.stack(parts) for parts in zip(*collected, strict=True))
        return (*stacked, *(given[place] for place in self.states))
