"""The toy arithmetic of Arras et al. 2019 through a plain `nn.LSTM`: relevance finds the numbers that were added."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.rules import Zero
from tests.oracles import arithmetic, lstm
from tests.rules.helpers import one_rule, weighted

pytestmark = pytest.mark.core


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


@pytest.mark.parametrize("composite", ["epsilon", "auto"])
@pytest.mark.parametrize("seed", arithmetic.SEEDS)
@pytest.mark.parametrize("task", arithmetic.SIGNS)
def test_numbers_recovered(task: str, seed: int, composite: str) -> None:
    net, sign = arithmetic.load(task, seed), arithmetic.SIGNS[task]
    sets = arithmetic.held_out_set()
    with torch.no_grad():
        assert float(arithmetic.error(net, sign, sets)) <= 5e-4
    at_a, at_b, outputs = [], [], []
    for s in sets:
        result = pl.explain(net, s.x, target=lambda y: y[:, 0], composite=composite)
        relevance, rows = result.relevance.sum(2), torch.arange(len(s.x))
        at_a.append(relevance[rows, s.a])
        at_b.append(relevance[rows, s.b])
        outputs.append(result.output)
        assert result.ledger is not None
        assert result.ledger.closed(1e-8), str(result.ledger)
    r_a, r_b, y = torch.cat(at_a), torch.cat(at_b), torch.cat(outputs)
    n_a, n_b = (torch.cat([getattr(s, name) for s in sets]) for name in ("n_a", "n_b"))
    assert _correlation(r_a, n_a) >= 0.997
    assert _correlation(r_b, sign * n_b) >= 0.997
    assert float((r_a + r_b - y).square().mean()) <= 1e-4


@pytest.mark.parametrize("hidden", [1, 7])
def test_equals_lrp_all_by_hand(hidden: int) -> None:
    torch.manual_seed(0)
    recurrent = nn.LSTM(3, hidden, batch_first=True).double()
    readout = nn.Linear(hidden, 1).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.readout = recurrent, readout

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(self.recurrent(x)[0][:, -1])

    x = torch.randn(4, 6, 3, dtype=torch.float64)
    expected, y = lstm.explain(recurrent, readout, x, epsilon=0.0)
    result = pl.explain(
        Net().eval(), x, target=weighted(torch.ones(4, 1, dtype=torch.float64)), composite=one_rule(Zero())
    )
    torch.testing.assert_close(result.output, y)
    torch.testing.assert_close(result.relevance, expected, atol=1e-10 * float(expected.abs().max()), rtol=0.0)
