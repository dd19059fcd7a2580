"""One explanation of one conditioned model, measured: what the coverage table says of it."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.methods import explained_by
from benchmarks.zoo.peers import PEERS
from benchmarks.zoo.registry import Case, Inputs, Row, prepare, recast

TOLERANCE = {"float64": 1e-6, "float32": 1e-4}
OUTPUT_TOLERANCE = {"float64": 1e-6, "float32": 1e-3}
MOST_ENTRIES = 100.0
CONSERVED = 1e-4
SHORT = 0.5  # seconds: calls that take less are timed three times more, and the median of these counts


@dataclass(frozen=True, order=True)
class Job:
    """One cell of the table for a model: in which mode and dtype, by which composite."""

    mode: str  # "biases" or "zeroed"
    dtype: str
    composite: str = ""
    method: str = ""  # by this method instead of by relevance propagation with the composite


def measure(row: Row, jobs: list[Job], *, timed: bool = True) -> Iterator[tuple[Job, dict[str, Any], str]]:
    """The columns of each job, and the traceback where it raised ("" where not); one model per mode and dtype.

    ``timed`` False explains each job once and times the first call, not the plain gradient.
    """
    case: Case | None = None
    made: tuple[str, str] | None = None
    failed = ""
    plain = math.nan
    for job in sorted(jobs, key=lambda job: (job.mode, job.dtype == "float32", job.composite, job.method)):
        if made != (job.mode, job.dtype):
            before = case if made is not None and made[0] == job.mode and row.convert is None else None
            made, case, failed = (job.mode, job.dtype), None, ""
            try:
                case = _case(row, job, before)
                plain = _timed(lambda case=case: _gradient(case)) if timed else math.nan
            except Exception as error:  # the table says why a row could not be made
                failed = traceback.format_exc()
                reason = f"plain forward and gradient: {_line(error)}"
        if case is None:
            yield job, {"ran": False, "passed": False, "reason": reason}, failed
            continue
        try:
            if job.method:
                yield job, explained_by(case, job.method, job.dtype), ""
            elif job.composite in PEERS:
                yield job, _by_peer(case, job, plain), ""
            else:
                yield job, _explained(case, job, plain, timed=timed), ""
        except Exception as error:
            yield job, {"ran": False, "passed": False, "reason": _line(error)}, traceback.format_exc()


def _case(row: Row, job: Job, before: Case | None) -> Case:
    """The case of a job; ``before`` is the same one in another dtype."""
    dtype = getattr(torch, job.dtype)
    if before is not None:
        return recast(row, before, dtype)
    return prepare(row, additive=job.mode == "biases", dtype=dtype)


def _explained(case: Case, job: Job, plain: float, *, timed: bool) -> dict[str, Any]:
    import pellucid

    def explain() -> Any:
        return pellucid.explain(
            case.model, case.x, target=case.target, composite=job.composite, dtype=getattr(torch, job.dtype)
        )

    started = time.perf_counter()
    explanation = explain()
    first = time.perf_counter() - started
    seconds = _timed(explain) if timed and first < SHORT else first
    with torch.no_grad():
        scalar = float(case.scalar().double().sum())
    ledger = explanation.ledger
    amounts = [entry.amount for entry in ledger.entries]
    maps = _tensors(explanation.relevance)
    relevance = math.fsum(float(map_.double().sum()) for map_ in maps)
    largest = max((abs(amount) for amount in amounts), default=0.0)
    found: dict[str, Any] = {
        "ran": True,
        "finite": all(bool(torch.isfinite(map_).all()) for map_ in maps) and math.isfinite(ledger.unaccounted),
        "output": ledger.total,
        "inputs_share": ledger.inputs / ledger.total,
        "unaccounted": ledger.unaccounted,
        "tolerance_ratio": abs(ledger.unaccounted) / max(abs(ledger.total), largest),
        "entries_over_output": math.fsum(abs(amount) for amount in amounts) / abs(ledger.total),
        "output_error": abs(ledger.total - scalar) / abs(scalar),
        "map_error": abs(relevance - ledger.inputs) / max(abs(ledger.total), largest),
        "conservation_error": abs(relevance - scalar) / abs(scalar) if job.mode == "zeroed" else "",
        "seconds": seconds,
        "gradient_ratio": seconds / plain,
    }
    found["reason"] = "; ".join(misses(found, job.dtype))
    found["passed"] = not found["reason"]
    return _written(found)


def _by_peer(case: Case, job: Job, plain: float) -> dict[str, Any]:
    """What another tool's relevance sums to, against the scalar; all additive parameters are zero."""
    with torch.no_grad():
        scalar = float(case.scalar().double().sum())
    started = time.perf_counter()
    error = abs(PEERS[job.composite](case) - scalar) / abs(scalar)
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {"ran": True, "finite": math.isfinite(error), "output": scalar, "conservation_error": error}
    found |= {"seconds": seconds, "gradient_ratio": seconds / plain, "passed": error < CONSERVED}
    found["reason"] = "" if found["passed"] else f"relevance off by {error:.1e} of the output"
    return _written(found)


def _written(found: dict[str, Any]) -> dict[str, Any]:
    return {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in found.items()}


def misses(found: dict[str, Any], dtype: str) -> Iterator[str]:
    """What keeps a row from passing."""
    if not found["finite"]:
        yield "not finite"
    if not found["output_error"] <= OUTPUT_TOLERANCE[dtype]:
        yield f"explains another output than the model's (off by {found['output_error']:.1e})"
    if not found["tolerance_ratio"] <= TOLERANCE[dtype]:
        yield f"unaccounted {found['tolerance_ratio']:.1e} over {TOLERANCE[dtype]:.0e}"
    if not found["map_error"] <= TOLERANCE[dtype]:
        yield f"the map does not sum to the ledger's inputs (off by {found['map_error']:.1e})"
    if not found["entries_over_output"] <= MOST_ENTRIES:
        yield f"entries sum to {found['entries_over_output']:.0f} times the output"


def _gradient(case: Case) -> None:
    """Forward and gradient of the scalar with respect to the floating inputs, or to the embeddings' tables."""
    x, leaves = _leaves(case.x)
    if not leaves:
        leaves = [m.weight for m in case.model.modules() if isinstance(m, nn.Embedding) and m.weight.requires_grad]
        leaves = leaves or [parameter for parameter in case.model.parameters() if parameter.requires_grad]
    scalar = Case(case.model, x, case.target).scalar().sum()
    torch.autograd.grad(scalar, leaves, allow_unused=True)


def _leaves(x: Inputs) -> tuple[Inputs, list[Tensor]]:
    leaves: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        leaves.append(value.detach().clone().requires_grad_())
        return leaves[-1]

    if isinstance(x, dict):
        return {key: leaf(value) for key, value in x.items()}, leaves
    if isinstance(x, tuple):
        return tuple(leaf(value) for value in x), leaves
    return leaf(x), leaves


def _timed(call: Callable[[], object]) -> float:
    """Seconds of a call: the median of three if it is short, else of one."""
    times: list[float] = []
    while len(times) < 3:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
        if times[0] > SHORT:
            break
    return sorted(times)[len(times) // 2]


def _tensors(relevance: Any) -> list[Tensor]:
    if isinstance(relevance, Tensor):
        return [relevance]
    values = relevance.values() if isinstance(relevance, dict) else relevance
    return [value for value in values if value is not None]


def _line(error: BaseException) -> str:
    """The error in one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
