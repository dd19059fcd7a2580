"""An observer of the forward pass that changes nothing: it notes constants, dead operands and module boundaries.

The autograd graph says which node consumed which, but not which number was added, what a mask filled in, or which
module was running. A dispatch mode sees every operation just after its node was made; its sequence number ties both
together. References are kept only to what the graph does not hold: operands with no path to an explained input
(biases, position embeddings, constants), inputs of functions whose node saves nothing but the result, and outputs of
dense layers where a rule will ask for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from pellucid.engine.private import next_sequence_number, sequence_number, version
from pellucid.engine.record import Live, ModuleOutput, Record, leaves

__all__ = ["Observer", "observing", "unwatched", "watch_modules"]

aten = torch.ops.aten

_KEEP_INPUT = frozenset(
    getattr(aten, name)
    for name in (
        "tanh tanh_ sigmoid sigmoid_ exp exp_ hardsigmoid hardsigmoid_ mish elu elu_ softplus clamp clamp_ clamp_min"
        " clamp_min_ clamp_max"
        " log_sigmoid_forward celu abs sin cos erf expm1 log1p pow square sqrt rsqrt reciprocal log threshold"
        " _prelu_kernel softshrink hardshrink tan atan asinh sinh cosh exp2 log2 log10 round floor ceil trunc"
        " sign special_ndtr logit erfc linalg_vector_norm norm var std var_mean std_mean prod logsumexp glu"
        " remainder fmod sinc selu celu_ rrelu_with_noise threshold_"
    ).split()
    if hasattr(aten, name)
)
"""Functions whose node does not save what they were given, or may have it overwritten."""
_KEEP_OUTPUT = frozenset((aten.addmm, aten.mm, aten.bmm, aten.baddbmm, aten.linear))
_UNSAFE_SPLITS = frozenset((aten.unsafe_split, aten.unsafe_split_with_sizes, aten.unsafe_chunk))
_OUTPUT_GATES = frozenset((aten._softmax, aten._log_softmax, aten.sigmoid))
_RENUMBERING = frozenset((aten.mul, aten.add, aten.sub, aten.remainder, aten.fmod, aten.bitwise_xor, aten.bitwise_and))
_EMBEDDINGS = frozenset((aten.embedding, aten._embedding_bag))


_NESTING = (Tensor, list, tuple)  # most lists that operations take hold nothing but numbers


@dataclass(frozen=True, slots=True)
class _Facts:
    """What has to be known of an operation each time that it runs."""

    packet: Any
    mutable: bool
    embedding: bool
    keeps_input: bool
    gate: bool


_FACTS: dict[Any, _Facts] = {}


def _learn(func: Any) -> _Facts:
    packet = func._overloadpacket
    facts = _Facts(
        packet, func._schema.is_mutable, packet in _EMBEDDINGS, packet in _KEEP_INPUT, packet in _OUTPUT_GATES
    )
    _FACTS[func] = facts
    return facts


class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what the graph does not hold, for one forward pass in one thread.

    Args:
        sources: explained floating inputs by name; these very tensors must be what the model is called with.
        ids: explained integer inputs by name; embedding look-ups of exactly these become sources.
        keep_outputs: hold the outputs of dense layers, for rules that ask for them.
    """

    def __init__(
        self, sources: Mapping[str, Tensor], ids: Mapping[str, Tensor] | None = None, *, keep_outputs: bool = False
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.records: dict[int, Record] = {}
        self.embeddings: dict[int, str] = {}
        self.scopes: list[tuple[int, int, str]] = []
        self.outputs: dict[str, list[ModuleOutput]] = {}
        self.cuts: list[str] = []
        self.gate_inputs: dict[int, Tensor] = {}
        self.bytes = 0
        self._live: dict[int, bool] = {}
        self._sources = {id(tensor) for tensor in sources.values()}
        self._ids = dict(ids or {})
        self._keep_outputs = keep_outputs
        self._held: dict[int, Record] = {}
        self._stack: list[tuple[str, int]] = []
        self._cut: Any = WeakIdKeyDictionary()
        self._derived: Any = WeakIdKeyDictionary()
        self.wanted: frozenset[str] = frozenset()

    # -- operations ---------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        facts = _FACTS.get(func) or _learn(func)
        packet, mutable = facts.packet, facts.mutable
        if packet is aten.detach or not torch.is_grad_enabled():
            return self._without_grad(func, args, kwargs)
        if self._ids and packet in _RENUMBERING and isinstance(args[0], Tensor) and not args[0].is_floating_point():
            return self._renumber(func, args, kwargs)
        number = next_sequence_number() - 1
        if mutable and number in self.records and number - 1 not in self.records:
            number -= 1  # before it overwrites its input, an operation that saves it clones it: a node of its own
        if number in self.records:  # no node was made for this operation: a comparison, an index, a shape
            return self._followed(func, args, kwargs)
        found: list[Tensor] = []
        recorded = self._record(args, found)
        recorded_kwargs = {key: self._record(value, found) for key, value in kwargs.items()} if kwargs else kwargs
        if not found and not facts.embedding and not _requires_grad(args):
            return self._followed(func, args, kwargs)
        record = Record(func, recorded, recorded_kwargs)
        self.records[number] = record
        live = bool(found)
        if facts.embedding:
            live = self._look_up(number, args) or live
        self._live[number] = live
        if live:
            if self._keeps_inputs(facts):
                record.inputs = tuple(
                    tensor.clone() if mutable and k == 0 else tensor for k, tensor in enumerate(found)
                )
            if facts.gate:
                self.gate_inputs = {number: found[0]}
        if mutable and isinstance(args[0], Tensor):
            target = args[0]
            base = target._base if target._is_view() and target._base is not None else target
            if base is not target:
                record.view = (
                    tuple(target.shape),
                    tuple(target.stride()),
                    int(target.storage_offset() - base.storage_offset()),
                )
            if not (found and found[0] is target):
                record.base = base.detach().clone()
        output = func(*args, **kwargs)
        if mutable and isinstance(args[0], Tensor) and args[0]._is_view():
            self._live[number + 1] = live  # the CopySlices node that re-bases the view
            self.records[number + 1] = record
        if live and self._keep_outputs:
            self._hold_output(record, packet, found, output)
        if isinstance(output, Tensor):
            self.bytes += output.nbytes
        return output

    def _keeps_inputs(self, facts: _Facts) -> bool:
        """Whether the live operands of such an operation are held."""
        return facts.keeps_input

    def _hold_output(self, record: Record, packet: Any, found: list[Tensor], output: object) -> None:
        holder: Record | None = record if packet in _KEEP_OUTPUT else None
        if packet in _UNSAFE_SPLITS and found[0].grad_fn is not None:
            # Parts that may be written without the whole's version counter telling.
            whole = self.records.get(sequence_number(found[0].grad_fn))
            if whole is not None:
                whole.output = None
        if packet is aten._unsafe_view and found[0].grad_fn is not None:
            # It shares memory but no version counter: only the view tells whether the product was changed in place.
            made = self.records.get(sequence_number(found[0].grad_fn))
            holder = made if made is not None and made.output is not None else None
        if packet is aten.clone and isinstance(output, Tensor):
            self._hold_copy(found[0], output)
        if holder is not None and isinstance(output, Tensor):
            holder.output, holder.version = output, version(output)
            self._held[output.untyped_storage().data_ptr()] = holder

    def _hold_copy(self, copied: Tensor, copy: Tensor) -> None:
        """Hold a rearranged copy in the place of the output that it was made of, which nobody else may need any more.

        So do fused attention's queries, keys and values in nn.MultiheadAttention, which are a third of what is held.
        """
        holder = self._held.get(copied.untyped_storage().data_ptr())
        whole = None if holder is None else holder.output
        if holder is None or whole is None or whole.numel() != copied.numel() or not whole.is_contiguous():
            return
        if version(copied) == holder.version and holder.copied is None and whole.storage_offset() == 0:
            holder.copied = (whole.shape, (copied.shape, copied.stride(), int(copied.storage_offset())))
            holder.output, holder.version = copy, version(copy)

    def _followed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation on values without a gradient; what it makes of one that was cut off is cut off as well."""
        output = func(*args, **kwargs)
        if len(self._cut) and isinstance(output, Tensor) and output.is_floating_point():
            tensors = (leaf for leaf in leaves(args) if isinstance(leaf, Tensor))
            place = next((self._cut[tensor] for tensor in tensors if tensor in self._cut), None)
            if place is not None and not func._overloadpacket.__name__.endswith("_like"):
                self._cut[output] = place
        return output

    def _without_grad(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Follow values that lose their gradient, so that the part they carry is named and not just missing."""
        cut = any(
            isinstance(leaf, Tensor) and (leaf in self._cut or (leaf.requires_grad and self._is_live(leaf)))
            for leaf in leaves(args)
        )
        output = func(*args, **kwargs)
        if cut:
            for leaf in leaves(output):
                if isinstance(leaf, Tensor) and leaf.is_floating_point():
                    self._cut[leaf] = self._stack[-1][0] if self._stack else ""
        return output

    def _record(self, value: Any, found: list[Tensor]) -> Any:
        if isinstance(value, Tensor):
            if value.requires_grad:
                if self._is_live(value):
                    found.append(value)
                    return Live(len(found) - 1)
            elif len(self._cut) and value in self._cut:
                self.cuts.append(self._cut[value])
            return value
        if isinstance(value, (list, tuple)) and any(isinstance(item, _NESTING) for item in value):
            return type(value)(self._record(item, found) for item in value)
        return value

    def _is_live(self, tensor: Tensor) -> bool:
        node = tensor.grad_fn
        return id(tensor) in self._sources if node is None else self._reaches_source(node)

    def _reaches_source(self, node: Node) -> bool:
        number = sequence_number(node)
        known = self._live.get(number)
        if known is None:
            # Made outside our sight (a custom function, a view made again): ask what it was made from.
            variable = getattr(node, "variable", None)
            if variable is not None:
                return id(variable) in self._sources
            known = any(self._reaches_source(child) for child, _ in node.next_functions if child is not None)
            self._live[number] = known
        return known

    def _look_up(self, number: int, args: tuple[Any, ...]) -> bool:
        indices = args[1]
        if indices in self._derived:
            self.embeddings[number] = self._derived[indices]
            return True
        for name, ids in self._ids.items():
            same = indices.data_ptr() == ids.data_ptr() and indices.numel() == ids.numel()
            if same or (indices.shape == ids.shape and torch.equal(indices, ids)):
                self.embeddings[number] = name
                return True
        return False

    def _renumber(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Follow explained ids through arithmetic per token, as models do that look up hashes of them."""
        output = func(*args, **kwargs)
        name = self._derived.get(args[0]) or next(
            (name for name, ids in self._ids.items() if args[0].data_ptr() == ids.data_ptr()), None
        )
        if name is not None and isinstance(output, Tensor) and output.shape == args[0].shape:
            self._derived[output] = name
        return output

    def release(self) -> None:
        """Let go of all tensors that hold the graph, but for those of the records."""
        self.gate_inputs.clear()
        self.outputs.clear()
        self._held.clear()

    # -- modules ------------------------------------------------------------------------------------------------

    def enter(self, name: str) -> None:
        """A module starts."""
        self._stack.append((name, next_sequence_number()))

    def leave(self, name: str, output: object) -> None:
        """A module ended; where its output is wanted, note which node made it."""
        while self._stack:
            opened, start = self._stack.pop()
            self.scopes.append((start, next_sequence_number(), opened))
            if opened == name:
                break
        if name in self.wanted:
            tensor = next(
                (leaf for leaf in leaves(output) if isinstance(leaf, Tensor) and leaf.grad_fn is not None), None
            )
            if tensor is not None:
                with torch.no_grad():
                    value = tensor.detach().clone()
                assert tensor.grad_fn is not None
                self.outputs.setdefault(name, []).append(ModuleOutput(tensor.grad_fn, tensor.output_nr, value, tensor))

    def module_of(self, numbers: Sequence[int]) -> list[str]:
        """The innermost module that was running when each of these sequence numbers was given."""
        spans = sorted(self.scopes, key=lambda span: (span[0], -span[1]))
        owners: dict[int, str] = {}
        for start, end, name in spans:
            for number in range(start, end):
                owners[number] = name
        return [owners.get(number, "") for number in numbers]


def _requires_grad(args: Sequence[Any]) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves(args))


_active = threading.local()


@contextmanager
def observing(observer: Observer) -> Iterator[Observer]:
    """Run the forward pass of this thread under ``observer``."""
    previous = getattr(_active, "observer", None)
    _active.observer = observer
    try:
        with observer:
            yield observer
    finally:
        _active.observer = previous


def watch_modules(shadow: nn.Module) -> None:
    """Let the modules of a shadow tell this thread's observer when they start and end."""

    def starts(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any) -> None:
            observer = getattr(_active, "observer", None)
            if observer is not None:
                observer.enter(name)

        return hook

    def ends(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: object) -> None:
            observer = getattr(_active, "observer", None)
            if observer is not None:
                observer.leave(name, output)

        return hook

    placed: list[tuple[dict[int, Any], int, Any]] = []
    for name, module in shadow.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        before = module.register_forward_pre_hook(starts(name))
        after = module.register_forward_hook(ends(name), always_call=True)
        tables = ((module._forward_pre_hooks, before), (module._forward_hooks, after))
        placed += [(table, handle.id, table[handle.id]) for table, handle in tables]
    _placed[shadow] = placed


_placed: WeakKeyDictionary[nn.Module, list[tuple[dict[int, Any], int, Any]]] = WeakKeyDictionary()
"""The hooks of watched shadows: the table that holds each, its number there, the hook."""


@contextmanager
def unwatched(shadow: nn.Module) -> Iterator[None]:
    """Forwards of a watched shadow that no observer looks at, without its hooks: they cost more than small modules."""
    if getattr(_active, "observer", None) is not None:
        yield
        return
    placed = _placed.get(shadow, [])
    try:
        for table, number, _ in placed:
            table.pop(number, None)
        yield
    finally:
        for table, number, hook in placed:
            table[number] = hook
