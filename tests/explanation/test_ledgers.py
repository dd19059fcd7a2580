"""The ledger of every sample, where it is asked for: it adds up to the batch's and is that of the sample alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trace.models import convolutional, dense, numbers

import pellucid as pl
from pellucid.engine.ledger import Entry, Ledger
from pellucid.errors import FileError, InputError

pytestmark = pytest.mark.core


def amounts(ledger: Ledger | None) -> dict[tuple[str, str], float]:
    assert ledger is not None
    found: dict[tuple[str, str], float] = {}
    for entry in ledger.entries:
        found[entry.source, entry.module] = found.get((entry.source, entry.module), 0.0) + entry.amount
    return found


@pytest.mark.parametrize("method", ["lrp", "integrated-gradients"])
def test_samples_add_up_to_the_batch(method: str) -> None:
    model, x = convolutional().double(), numbers(3, 3, 8, 8).double()
    whole = pl.explain(model, x, target=[0, 2, 1], method=method)
    found = pl.explain(model, x, target=[0, 2, 1], method=method, ledger="sample")
    assert torch.allclose(found.relevance, whole.relevance, rtol=1e-9, atol=1e-12)
    assert found.target == whole.target
    assert whole.ledgers == ()
    assert whole[0].ledger is None
    assert len(found.ledgers) == 3
    assert amounts(found.ledger) == pytest.approx(amounts(whole.ledger), rel=1e-9, abs=1e-12)
    summed: dict[tuple[str, str], float] = {}
    for ledger in found.ledgers:
        for key, amount in amounts(ledger).items():
            summed[key] = summed.get(key, 0.0) + amount
    assert summed == pytest.approx(amounts(whole.ledger), rel=1e-9, abs=1e-12)
    for i in range(3):
        alone = pl.explain(model, x[i : i + 1], target=[0, 2, 1][i], method=method).ledger
        assert found[i].ledger == found.ledgers[i] == alone
        assert found.ledgers[i].total == pytest.approx(float(whole.output[i]), rel=1e-9)
        assert found.ledgers[i].closed(1e-9) or method != "lrp"
        assert str(found[i].ledger).splitlines()[0].split() == ["source", "modules", "amount", "share"]


def test_parts_of_a_batch_have_the_sum_of_theirs(tmp_path: Path) -> None:
    found = pl.explain(dense(), numbers(4, 6), target=1, ledger="sample")
    part = found[1:3]
    assert part.ledgers == found.ledgers[1:3]
    assert amounts(part.ledger) == pytest.approx(amounts(Ledger.of_batch(found.ledgers[1:3])))
    assert part[1].ledger == found.ledgers[2]
    found.save(tmp_path / "a.pellucid")
    again = pl.load(tmp_path / "a.pellucid")
    assert again.ledgers == found.ledgers
    assert again[3].ledger == found[3].ledger


def test_inputs_that_all_samples_share_and_several_targets() -> None:
    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dense()

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> Any:
            return self.inner(x * mask)

    x = {"x": numbers(3, 6), "mask": torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])}
    found = pl.explain(Masked().eval(), x, targets=[0, [2, 1, 0]], inputs="x", ledger="sample")
    whole = pl.explain(Masked().eval(), x, targets=[0, [2, 1, 0]], inputs="x")
    for one, other in zip(found, whole, strict=True):
        assert torch.allclose(one.relevance["x"], other.relevance["x"], atol=1e-6)
        assert [ledger.total for ledger in one.ledgers] == pytest.approx(other.output.tolist(), rel=1e-5)


def test_methods_without_a_ledger_have_none_of_samples() -> None:
    found = pl.explain(dense(), numbers(2, 6), target=1, method="gradient", ledger="sample")
    assert found.ledgers == ()
    assert found[0].ledger is None


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected ledger= as 'batch' or 'sample', got 'each'"):
        pl.explain(dense(), numbers(2, 6), target=1, ledger="each")  # type: ignore[arg-type]
    one = Ledger(1.0, (Entry("input", "x", 1.0),))
    with pytest.raises(InputError, match="ledgers must hold one ledger per sample, 2 in all, or none; got 1"):
        pl.Explanation(torch.ones(2, 3), torch.ones(2), ("a", "a"), "lrp", ledgers=(one,))
    odd = pl.Explanation(torch.ones(2, 3), torch.ones(2), ("a", "a"), "lrp", ledgers=(one, one))
    object.__setattr__(odd, "ledgers", (one, one, one))
    odd.save(tmp_path / "odd.pellucid")
    with pytest.raises(FileError, match="ledgers must hold one ledger per sample"):
        pl.load(tmp_path / "odd.pellucid")
