"""The toy arithmetic of Arras et al. 2019: a net reads a sequence and adds or subtracts the two marked numbers in it.

A step is (noise, n_a, n_b): noise everywhere but at the two marked steps; n_a at step a, n_b at a later step b.
Numbers and noise are uniform in [-1, 1], lengths 4 to 10.

`python -m tests.oracles.arithmetic` trains the nets (one LSTM unit and a linear readout, nine seeds a task) and
writes their weights.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("arithmetic_weights.json")
SEEDS = range(9)
SIGNS = {"add": 1.0, "subtract": -1.0}
LENGTHS = range(4, 11)
GOAL = 2e-4
log = logging.getLogger(__name__)


class Arithmetic(nn.Module):
    """One-unit `nn.LSTM` and a linear readout of its last state; (N, T, 3) -> (N, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 1, batch_first=True)
        self.readout = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.readout(states[:, -1])


@dataclass(frozen=True)
class Sequences:
    """Sequences of one length: `x` (N, T, 3), steps `a` and `b` (N,), numbers `n_a` and `n_b` (N,)."""

    x: Tensor
    a: Tensor
    b: Tensor
    n_a: Tensor
    n_b: Tensor

    @classmethod
    def draw(cls, count: int, length: int, generator: torch.Generator) -> Sequences:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1

        a, b = torch.rand(count, length, generator=generator).argsort(1)[:, :2].sort(1).values.T
        n_a, n_b, rows = uniform(count), uniform(count), torch.arange(count)
        x = torch.zeros(count, length, 3, dtype=torch.float64)
        x[:, :, 0] = uniform(count, length)
        x[rows, a] = torch.stack([torch.zeros(count, dtype=torch.float64), n_a, torch.zeros_like(n_a)], 1)
        x[rows, b] = torch.stack([torch.zeros(count, dtype=torch.float64), torch.zeros_like(n_b), n_b], 1)
        return cls(x, a, b, n_a, n_b)


def held_out_set() -> list[Sequences]:
    """The sequences every net is judged on, one batch a length."""
    generator = torch.Generator().manual_seed(20190625)
    return [Sequences.draw(200, length, generator) for length in LENGTHS]


def error(net: nn.Module, sign: float, sets: list[Sequences]) -> Tensor:
    """Mean squared error of `net` against n_a + sign * n_b."""
    return torch.stack([(net(s.x)[:, 0] - s.n_a - sign * s.n_b).square().mean() for s in sets]).mean()


def load(task: str, seed: int) -> Arithmetic:
    """A trained net, float64, eval mode."""
    net = Arithmetic().double().eval()
    stored = json.loads(WEIGHTS.read_text())[task][seed]
    net.load_state_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in stored.items()})
    return net


def train(task: str, seed: int) -> Arithmetic:
    """Quasi-Newton steps from random starts until the error on held-out sequences is below `GOAL`."""
    sign = SIGNS[task]
    generator = torch.Generator().manual_seed(1000 + seed)
    training = [Sequences.draw(150, length, generator) for length in LENGTHS]
    for attempt in range(20):
        torch.manual_seed(100 * seed + attempt)
        net = Arithmetic().double()
        _descend(net, sign, training)
        with torch.no_grad():
            held_out = float(error(net, sign, held_out_set()))
        log.info("%s seed %d attempt %d: %.2e", task, seed, attempt, held_out)
        if held_out <= GOAL:
            return net.eval()
    raise RuntimeError(f"no start of {task} seed {seed} reached {GOAL}")


def _descend(net: Arithmetic, sign: float, training: list[Sequences]) -> None:
    optimiser = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=25, history_size=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = error(net, sign, training)
        loss.backward()
        return loss

    best = math.inf
    for _ in range(40):
        loss = float(optimiser.step(closure).detach())
        if loss < GOAL or not loss < 0.98 * best:
            return
        best = loss


def main() -> None:
    nets = {task: [train(task, seed) for seed in SEEDS] for task in SIGNS}
    stored = {
        task: [{name: value.tolist() for name, value in net.state_dict().items()} for net in of_task]
        for task, of_task in nets.items()
    }
    WEIGHTS.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
