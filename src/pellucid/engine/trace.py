"""One forward pass of a shadow, observed: everything that walks need afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.graph import Edge, Graph
from pellucid.engine.inputs import Prepared
from pellucid.engine.observer import Observer, observing
from pellucid.engine.private import EMBEDDINGS, FLATTENED, OUTPUT_GATES, sequence_number, short_name
from pellucid.engine.shadow import Shadow, forward_conditions
from pellucid.errors import InputError, ModelError, PellucidError
from pellucid.outputs import main_output
from pellucid.targets import Target

__all__ = ["Start", "Trace", "run_forward"]


@dataclass(slots=True)
class Start:
    """Where a walk starts: the density at the edge of the logits, or 1 at the scalars themselves."""

    edge: Edge
    node: torch.autograd.graph.Node | None
    """Behind it is the whole graph; None once that was handed on."""
    density: Tensor
    scalar: Tensor
    """(batch,), the explained scalars."""
    target: Target


@dataclass(slots=True)
class Trace:
    """A forward pass."""

    shadow: Shadow
    observer: Observer
    prepared: Prepared
    raw: Any
    notes: list[str]

    def start(self, target: Target) -> Start:
        """Compute the explained scalars of ``target`` and find where the walk starts.

        Raises:
            TargetError: the target cannot be computed on this output.
            ModelError: the scalar has no gradient graph.
        """
        with torch.enable_grad():
            output = self.raw if target.takes_raw else self.logits()
            target = target.fix(output)
            activations = {name: self._activation(name) for name in target.layers()}
            weights = None if target.takes_raw or target.layers() else target.weights(output)
            if weights is None:
                with observing(self.observer):
                    scalar = target.scalar(output, activations)
            else:
                with torch.no_grad():
                    scalar = target.scalar(output, activations)
        self._check_scalar(scalar)
        if weights is not None:
            node = self._node_of(output)
            return Start((0, output.output_nr), node, weights.to(output.dtype), scalar.detach(), target)
        node = self._node_of(scalar)
        return Start((0, scalar.output_nr), node, torch.ones_like(scalar), scalar.detach(), target)

    def release(self) -> None:
        """Let go of everything that holds the graph besides the graph itself."""
        self.raw = None
        self.observer.release()

    def _node_of(self, tensor: Tensor) -> torch.autograd.graph.Node:
        if tensor.grad_fn is None:
            cut = sorted({name or "(the model itself)" for name in self.observer.cuts})
            where = f" The gradient is cut by detach or no_grad in: {', '.join(cut)}." if cut else ""
            if self.prepared.ids:
                where += " Integer inputs are explained where they are looked up in an embedding."
            raise ModelError(
                f"No explained input reaches the explained scalar: it was computed without a gradient graph.{where} "
                "Check that the "
                "forward runs without torch.no_grad(), inference_mode, .detach(), .data or .numpy(), and that "
                "inputs= names an "
                f"input that the model uses."
            )
        return tensor.grad_fn

    def _check_scalar(self, scalar: Tensor) -> None:
        batch = self.prepared.batch
        if scalar.ndim != 1 or scalar.shape[0] != batch:
            raise InputError(
                f"The explained scalar must have one value per sample, shape ({batch},), but it has shape "
                f"{tuple(scalar.shape)}. "
                "The first dimension of the model's output must be the batch; otherwise give target= a callable "
                "that returns "
                f"one value per sample."
            )
        if not bool(torch.isfinite(scalar).all()):
            raise ModelError(
                f"The explained scalar is {scalar.detach().tolist()[:4]}: the model's output is NaN or infinite for "
                "this input. Check "
                f"the input's scale and the model's parameters."
            )

    def logits(self) -> Tensor:
        """What targets of classes are made from: the model's main output, before a softmax or its like."""
        output, _ = main_output(self.raw)
        return self._before_output_gate(output)

    def _before_output_gate(self, output: Tensor) -> Tensor:
        """The logits, where the output is their softmax, log-softmax or sigmoid."""
        node = output.grad_fn
        for _ in range(4):
            if node is None or node.name() not in FLATTENED:
                break
            node = node.next_functions[0][0]
        if node is None or node.name() not in OUTPUT_GATES:
            return output
        kept = self.observer.gate_inputs.get(sequence_number(node))
        if kept is None or kept.numel() != output.numel():
            return output
        name = short_name(node.name()).lower()
        note = f"The model ends in {name}; the explained scalar is made from its input, the logits."
        if note not in self.notes:
            self.notes.append(note)
        return kept.reshape(output.shape) if kept.shape != output.shape else kept

    def _activation(self, name: str) -> Tensor:
        found = self.observer.outputs.get(name)
        if not found:
            raise InputError(f"The module {name!r} did not run, or returned no tensor with a gradient graph.")
        return found[-1].tensor


def run_forward(
    shadow: Shadow, prepared: Prepared, *, wanted: frozenset[str], keep_outputs: bool, keep_inputs: bool
) -> Trace:
    """Run the shadow on the prepared input.

    Args:
        shadow: the copy to run.
        prepared: leaves and arguments.
        wanted: modules whose outputs are asked for.
        keep_outputs: rules will ask for the outputs of dense layers.
        keep_inputs: rules will ask for their inputs.

    Raises:
        InputError: the model's forward raised; the cause is chained.
    """
    observer = Observer(prepared.leaves, prepared.ids, keep_outputs=keep_outputs)
    observer.wanted = wanted
    module = shadow.module
    shadow.save_dense_inputs(keep_inputs)
    with torch.enable_grad(), forward_conditions(shadow), observing(observer):
        positional, named = prepared.arguments()
        try:
            raw = module(*positional, **named)
        except PellucidError:
            raise
        except Exception as error:
            shapes = {name: (tuple(t.shape), str(t.dtype)) for name, t in prepared.values.items()}
            raise InputError(
                f"The model {type(module).__name__} raised {type(error).__name__} on this input: {error}. The input "
                f"was {shapes}; check "
                f"that shapes and dtypes are what the model expects (a batch dimension first)."
            ) from error
        finally:
            shadow.tidy()  # what the forward kept would keep its whole graph
    return Trace(shadow, observer, prepared, raw, [])


def source_nodes(graph: Graph, trace: Trace) -> dict[int, str]:
    """Nodes at which explained inputs enter: their leaves, and the embedding look-ups of explained ids."""
    leaves = {id(leaf): name for name, leaf in trace.prepared.leaves.items()}
    found: dict[int, str] = {}
    for i, node in enumerate(graph.nodes):
        variable = getattr(node, "variable", None)
        if variable is not None:
            if id(variable) in leaves:
                found[i] = leaves[id(variable)]
        elif graph.names[i] in EMBEDDINGS:
            name = trace.observer.embeddings.get(graph.sequence(i))
            if name is not None:
                found[i] = name
    return found
