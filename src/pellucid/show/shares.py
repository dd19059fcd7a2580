"""Shares of the output in words and in units that read well, whether they are 15 % or 26 billionths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.engine.ledger import UNACCOUNTED, Ledger

if TYPE_CHECKING:
    from pellucid.explanation import Explanation


@dataclass(frozen=True)
class Parts:
    """A unit for shares.

    Args:
        size: the share that is one of it.
        least: the share from which it is used.
        sign: behind a number.
        words: in front of "of the output".
    """

    size: float
    least: float
    sign: str
    words: str


PERCENT = Parts(1e-2, 1e-4, "%", "share")
PARTS = (
    PERCENT,
    Parts(1e-6, 1e-7, "ppm", "parts per million"),
    Parts(1e-9, 1e-10, "ppb", "parts per billion"),
    Parts(1e-12, 0.0, "ppt", "parts per trillion"),
)
MOST = 0.5
ENDS = {
    "bias": "biases",
    "baseline": "the baseline",
    "learned token": "learned tokens",
    "embedding": "other embeddings",
    "constant": "constants",
    "offset": "offsets f(0)",
    "softmax": "the remainders of softmaxes",
    "softmax and mask": "the remainders of softmaxes",
    "stabiliser": "the stabiliser",
    "lost at zero": "outputs that nothing reaches",
    "not kept": "units that were not kept",
    "taylor remainder": "the remainder of the Taylor expansion",
    UNACCOUNTED: "nothing that is accounted for",
}


def parts_of(share: float) -> Parts:
    """The unit in which ``share``, the largest of those shown, is a number without an exponent."""
    size = abs(share)
    return next((parts for parts in PARTS if size >= parts.least), PERCENT) if size > 0 else PERCENT


def in_parts(share: float) -> str:
    """A share with its unit, in three digits: "15 %", "99.4 ppm"."""
    if not math.isfinite(share):
        return str(share)
    parts = parts_of(share)
    return f"{digits(share / parts.size)} {parts.sign}"


def digits(value: float) -> str:
    """Three significant digits, without an exponent where that stays readable."""
    if value == 0:
        return "0"
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e5 else f"{value:.1e}"


def share_line(sample: Explanation) -> str:
    """ "the relevance sums to 98.2 % of the output"; empty where relevance is no part of the output."""
    share = float(sample.share[0])
    if "unit" in sample.settings or not math.isfinite(share):
        return ""
    return f"the relevance sums to {in_parts(share)} of the output"


def elsewhere_line(ledger: Ledger | None) -> str:
    """Says so where most of the output ended elsewhere than in the inputs; else empty."""
    if ledger is None or not ledger.total or not math.isfinite(ledger.total):
        return ""
    others = {source: amount for source, amount in ledger.amounts.items() if source != "input"}
    reached = ledger.share(ledger.inputs)
    source, amount = max(others.items(), key=lambda item: item[1] / ledger.total, default=("", 0.0))
    if not (abs(reached) < MOST and ledger.share(amount) > MOST):
        return ""
    return (
        f"Most of the output ({in_parts(ledger.share(amount))}) ended in {ENDS[source]}, and {in_parts(reached)} in "
        "the input: relevance compares places here, it does not add up to the output."
    )
