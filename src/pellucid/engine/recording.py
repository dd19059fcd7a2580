"""Runs of the model function whose graph is recorded, for walks that compare one run with another.

The parameters are frozen, so that the graph holds nothing but paths from the points: whatever needs a gradient is live,
and a linear node's own backward computes what goes to its signal and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from pellucid.engine.function import ModelFunction
from pellucid.engine.observer import Observer, observing
from pellucid.engine.passes import Pass, Scalar
from pellucid.engine.point import Point
from pellucid.engine.record import Record
from pellucid.errors import ModelError

__all__ = ["Recorder", "Run", "run_recorded"]

aten = torch.ops.aten

_UNASKED = frozenset(
    getattr(aten, name)
    for name in (
        "convolution addmm mm bmm baddbmm mv linear _grouped_mm add add_ sub sub_ rsub mul mul_ neg neg_ lerp addcmul"
        " view _unsafe_view _reshape_alias permute transpose t expand slice select split split_with_sizes unbind cat"
        " stack clone copy_ _to_copy alias unsqueeze squeeze mean sum index index_select gather constant_pad_nd"
        " avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d upsample_nearest2d upsample_bilinear2d"
        " native_batch_norm cudnn_batch_norm _native_batch_norm_legit_no_training roll flip as_strided unfold"
        " pixel_shuffle repeat embedding cumsum fill_ zero_ _scaled_dot_product_flash_attention_for_cpu"
        " _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention"
        " _scaled_dot_product_cudnn_attention _scaled_dot_product_fused_attention_overrideable"
    ).split()
    if hasattr(aten, name)
)
"""Operations whose operands no rule asks for, or whose node saves them."""


class Recorder(Observer):  # type: ignore[no-untyped-call]
    """Holds the operands of every operation that is not linear in them, as they were when it ran."""

    def __init__(self, wanted: Sequence[str]) -> None:
        super().__init__({})
        self.wanted = frozenset(wanted)
        self._holders: dict[int, list[Record]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func._schema.is_mutable and args and isinstance(args[0], Tensor):
            self._keep_before_write(args[0])
        known = len(self.records)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if len(self.records) > known:
            record = self.records[next(reversed(self.records))]
            for operand in record.inputs:
                self._holders.setdefault(_storage(operand), []).append(record)
        return result

    def _keeps_inputs(self, facts: Any) -> bool:
        return facts.packet not in _UNASKED

    def _is_live(self, tensor: Tensor) -> bool:  # noqa: ARG002
        return True  # asked of tensors that need a gradient, which only those behind a point do

    def _keep_before_write(self, target: Tensor) -> None:
        """Operands that share memory with ``target``, which is about to be written, are copied."""
        place = _storage(target)
        for record in self._holders.pop(place, ()):
            record.inputs = tuple(
                operand.detach().clone() if _storage(operand) == place else operand for operand in record.inputs
            )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@dataclass(frozen=True, slots=True)
class Run:
    """One recorded run.

    Args:
        recorder: what was seen.
        done: the pass; its values at the points are the leaves of the graph.
        points: where the graph begins.
    """

    recorder: Recorder
    done: Pass
    points: tuple[Point, ...]

    def leaves(self) -> dict[Point, Tensor]:
        """The leaf at every point, of ids that several embeddings look up one for each."""
        names = {(point.kind, point.name) for point in self.points}
        return {point: value for point, value in self.done.values.items() if (point.kind, point.name) in names}

    def root(self, scalar: Scalar, rows: Tensor | None) -> tuple[Node, int, Tensor, Tensor]:
        """Where a walk begins: node, output, what arrives there, and the scalars (n,).

        Raises:
            ModelError: the scalars depend on none of the points.
        """
        if scalar.weights is not None:
            tensor = self.done.logits
            weights = scalar.weights if rows is None else scalar.weights.index_select(0, rows)
            with torch.no_grad():
                scalars = scalar.of(self.done, rows)
            arriving = weights.to(tensor.dtype)
        else:
            with torch.enable_grad(), observing(self.recorder):
                tensor = scalar.of(self.done, rows)
            scalars, arriving = tensor.detach(), torch.ones_like(tensor)
        if tensor.grad_fn is None:
            raise ModelError(
                f"The explained scalar does not depend on {', '.join(map(str, self.points))}: it was computed without "
                "a gradient graph. Check detach() and no_grad inside the model, and that inputs= names what it uses."
            )
        return tensor.grad_fn, tensor.output_nr, arriving, scalars


def run_recorded(
    function: ModelFunction,
    values: Mapping[Point, Tensor],
    rows: Tensor | None,
    points: Sequence[Point],
    *,
    read: Sequence[Point] = (),
    wanted: Sequence[str] = (),
) -> Run:
    """Run the model with ``values`` at its points and record the graph behind them.

    Args:
        function: the model.
        values: what to put where, each (n, ...).
        rows: (n,) the sample of each row; None: row i is sample i.
        points: where the graph begins.
        read: further points that the scalar needs.
        wanted: modules whose outputs are asked for.
    """
    recorder = Recorder(wanted)
    with observing(recorder):
        done = function.run(values, rows, read=[*points, *read], leaves=list(points), differentiate=True)
    return Run(recorder, done, tuple(points))
