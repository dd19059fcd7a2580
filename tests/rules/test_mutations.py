"""The ledger catches a broken engine: whatever rule is dropped, swapped, doubled or scaled by 1.01, it turns red.

A rule that conserves in the place of another one that conserves is for the tests against the papers' formulas and
against zennit to catch; here it is caught where the books of the one meet the messages of the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import pellucid as pl
from pellucid.composites import native_gradient
from pellucid.engine.ops import Op
from tests.rules.mutated_nets import NETS, Change, base, carriers, changed, fused_norms, ledger_of

pytestmark = pytest.mark.core

TOLERANCE = 1e-6
ELSEWHERE = {Op.LEAF, Op.EMBEDDING, Op.RECURRENT}
"""What has no rule: the ends of a walk, and a node that is refused. The rules of other libraries' functions are broken
in tests/coverage."""


@pytest.fixture(autouse=True)
def _fused_norms() -> Iterator[None]:
    with fused_norms():
        yield


def broken(name: str, key: Op | str, change: Change) -> pl.Ledger:
    """The ledger of the net when every message of one operation's rule is changed."""
    return ledger_of(name, {key: changed(base(key), change)})


@pytest.mark.parametrize("name", NETS)
def test_unbroken(name: str) -> None:
    assert ledger_of(name, {}).closed(1e-10)


def test_the_nets_hold_every_operation_that_has_a_rule() -> None:
    held = {key for name in NETS for key in carriers(name)}
    assert held == {*Op, "elementwise region"} - ELSEWHERE


@pytest.mark.parametrize("name", NETS)
def test_scaled_density(name: str) -> None:
    for key in carriers(name):
        ledger = broken(name, key, lambda _, m: 1.01 * m)
        assert not ledger.closed(TOLERANCE), f"{key} scaled by 1.01 went unnoticed\n{ledger}"


@pytest.mark.parametrize("name", NETS)
def test_dropped_relevance(name: str) -> None:
    for key in carriers(name):
        ledger = broken(name, key, lambda _, m: torch.zeros_like(m))
        assert not ledger.closed(TOLERANCE), f"{key} dropped went unnoticed\n{ledger}"


@pytest.mark.parametrize("name", NETS)
def test_doubled_edge(name: str) -> None:
    """One operand's message counts twice, each operand in turn."""
    for key in carriers(name):
        met: set[int] = set()

        def note(k: int, message: Tensor, met: set[int] = met) -> Tensor:
            if bool((message != 0).any()):
                met.add(k)
            return message

        broken(name, key, note)
        for operand in met:
            ledger = broken(name, key, lambda k, m, operand=operand: 2 * m if k == operand else m)
            assert not ledger.closed(TOLERANCE), f"{key}: operand {operand} doubled went unnoticed\n{ledger}"


NOT_THEIR_GRADIENT: dict[str, tuple[Op, ...]] = {
    "convolutional": (Op.GELU, Op.SILU, Op.ACTIVATION, Op.FUNCTION, Op.GROUP_NORM),
    "attention": (Op.MATMUL, Op.LAYER_NORM, Op.SILU),
    "fused-attention": (Op.ATTENTION, Op.LAYER_NORM, Op.PRODUCT),
    "recurrent": (Op.FUNCTION,),
    "regions": (Op.ACTIVATION,),
    "alone": (Op.SIGMOID, Op.EXPONENTIAL, Op.POWER),
    "fused-norm": (Op.RMS_NORM,),
}


@pytest.mark.parametrize("name", NOT_THEIR_GRADIENT)
def test_missing_rule_replaced_by_the_gradient(name: str) -> None:
    """The mistake this library exists to avoid: the plain derivative where a rule belongs."""
    for key in NOT_THEIR_GRADIENT[name]:
        ledger = ledger_of(name, {key: native_gradient})
        assert not ledger.closed(TOLERANCE), f"{key} by its gradient went unnoticed\n{ledger}"


SWAPPED: list[tuple[str, Op | str, Op | str]] = [
    ("convolutional", Op.GELU, Op.RELU),
    ("convolutional", Op.GELU, Op.SILU),
    ("convolutional", Op.SILU, Op.GELU),
    ("convolutional", Op.FUNCTION, Op.RELU),
    ("convolutional", Op.ACTIVATION, Op.SILU),
    ("attention", Op.SILU, Op.GELU),
    ("fused-attention", Op.SILU, Op.GELU),
    ("regions", Op.ACTIVATION, Op.RELU),
    ("spectral", Op.FILL, Op.SELECT),
    ("spectral", Op.WRITE, Op.SELECT),
    ("alone", Op.SIGMOID, Op.SILU),
    ("alone", Op.EXPONENTIAL, Op.RELU),
    ("alone", Op.POWER, Op.RELU),
    ("alone", Op.STATISTIC, Op.SIGMOID),
]


@pytest.mark.parametrize(("name", "key", "other"), SWAPPED)
def test_swapped_rule(name: str, key: Op | str, other: Op | str) -> None:
    ledger = ledger_of(name, {key: base(other)})
    assert not ledger.closed(TOLERANCE), f"{key} with the rule of {other} went unnoticed\n{ledger}"
