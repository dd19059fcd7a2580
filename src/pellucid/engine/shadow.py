"""A shadow: a copy of a model that shares every parameter's storage and makes each of them a leaf.

The walk needs values that PyTorch saves only when the weights require gradients, so frozen models would hide them.
Flipping the user's flags would leave a trace; copying the structure and not the numbers does not.
"""

from __future__ import annotations

import copy
import io
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pellucid.engine.numerics import all_finite
from pellucid.engine.observer import watch_modules
from pellucid.engine.private import mkldnn_enabled, python_dispatcher, set_mkldnn_enabled, version
from pellucid.engine.together import Together
from pellucid.errors import ModelError

__all__ = ["Shadow", "forward_conditions", "frozen", "shadow_of", "unwrap"]

_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
_PLAIN = frozenset((bool, int, float, str, type(None)))
_lock = threading.RLock()
_forward_lock = threading.RLock()
_shadows: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Shadow]] = WeakKeyDictionary()
_uncompiled = Together(lambda: torch.compiler.set_stance("force_eager"))


class Shadow:
    """The copy, the buffers to refresh before each use, and the conditions that its forward needs."""

    def __init__(self, model: nn.Module, module: nn.Module, fingerprint: tuple[Any, ...]) -> None:
        self.module = module
        self.fingerprint = fingerprint
        self.recurrent = any(isinstance(part, _RECURRENT) for part in model.modules()) or (_mentions_recurrence(model))
        self.scripted = any(isinstance(part, torch.jit.ScriptModule) for part in model.modules())
        self.modules = dict(module.named_modules())
        self._aligned = [name for name, _ in model.named_modules()] == list(self.modules)
        self.module_types = {name: type(part).__name__ for name, part in self.modules.items()}
        self.parameter_names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._dense = _dense_weights(module)
        self.needs_inputs: set[str] = set()
        """Composites that turned out to need the inputs of this model's dense layers."""
        self.findings: dict[object, Any] = {}
        """What methods found out about the model, such as which layer suits them, by all that it depends on."""
        self._versions: dict[tuple[int, str], tuple[int, int]] = {}
        self._seen: dict[tuple[int, str], int] = {}
        self._attributes = [
            (part, dict(vars(part))) for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)
        ]

    def refresh(self, model: nn.Module) -> None:
        """Bring the shadow up to the user's model, and undo what an earlier forward left in the shadow.

        Raises:
            ModelError: a parameter holds NaN or infinite values.
        """
        self.tidy()
        self._refresh_tensors(model)

    def tidy(self) -> None:
        """Undo what a forward assigned to attributes of modules: counters, kept activations with all their graph."""
        for part, attributes in self._attributes:
            now = vars(part)
            if len(now) != len(attributes) or not all(map(is_, now.values(), attributes.values())):
                vars(part).clear()
                vars(part).update(attributes)

    def save_dense_inputs(self, wanted: bool) -> None:
        """Whether the next forward saves the inputs of dense layers: PyTorch does where their weights need gradients.

        On a transformer these are a third of all that is saved, and rules that share by the output alone never look.
        """
        for weight in self._dense:
            weight.requires_grad_(wanted)

    def _refresh_tensors(self, model: nn.Module) -> None:
        """Bring over what changed: parameters that were moved or converted, buffers that either side wrote.

        Parameters share storage otherwise, and are checked when new or written; buffers are copies, so that a forward
        may write them.
        """
        for number, (theirs, own) in enumerate(self._pairs(model)):
            for name, parameter in theirs._parameters.items():
                if parameter is not None and self._seen.get((number, name)) != _version(parameter):
                    # A scripted module's parameters and buffers are no dictionaries: they have no get.
                    copy = own._parameters[name] if name in own._parameters else None  # noqa: SIM401
                    self._refresh_parameter(model, parameter, copy, (number, name))
            for name, buffer in theirs._buffers.items():
                mine = own._buffers[name] if name in own._buffers else None  # noqa: SIM401
                if buffer is None or mine is None or mine is buffer:
                    continue
                if self._versions.get((number, name)) != (_version(buffer), version(mine)):
                    with torch.no_grad():
                        mine.copy_(buffer)
                    self._versions[number, name] = (_version(buffer), version(mine))

    def _pairs(self, model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Every module with its copy."""
        if not self._aligned:
            theirs = dict(model.named_modules())
            return ((theirs[name], own) for name, own in self.modules.items() if name in theirs)
        return zip(model.modules(), self.modules.values(), strict=True)

    def _refresh_parameter(self, model: nn.Module, theirs: Tensor, own: Tensor | None, place: tuple[int, str]) -> None:
        if own is not None and place in self._seen and own.data_ptr() != theirs.data_ptr():
            with torch.no_grad():
                own.copy_(theirs)
        if not all_finite(theirs.detach()):
            name = next((name for name, each in model.named_parameters() if each is theirs), place[1])
            bad = int((~torch.isfinite(theirs.detach())).sum())
            raise ModelError(
                f"The parameter {name!r} of {type(model).__name__} holds {bad} values that are NaN or infinite, of "
                f"{theirs.numel()}. Relevance would be NaN: load the weights again, or look at the training "
                "that made them."
            )
        self._seen[place] = _version(theirs)


def _dense_weights(module: nn.Module) -> list[nn.Parameter]:
    """Weights of plain dense layers, none where values are overwritten in place or looked up as embeddings too."""
    parts = list(module.modules())
    if any(getattr(part, "inplace", False) for part in parts):
        return []
    looked_up = {id(part.weight) for part in parts if isinstance(part, nn.Embedding)}
    weights = [part._parameters.get("weight") for part in parts if type(part) is nn.Linear]
    return [weight for weight in weights if weight is not None and id(weight) not in looked_up]


def _version(tensor: Tensor) -> int:
    """How often ``tensor`` was written in place; tensors made in inference mode do not count."""
    return 0 if tensor.is_inference() else version(tensor)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DataParallel, DistributedDataParallel and ``torch.compile`` wrappers."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod") and isinstance(model._orig_mod, nn.Module):
            model = model._orig_mod
        else:
            return model


def shadow_of(model: nn.Module, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Shadow:
    """The shadow of ``model`` for this thread, made once and again whenever its structure or tensors were replaced.

    Each thread has its own: modules that write buffers or attributes in their forward must not meet another's.

    Raises:
        ModelError: the model holds meta or quantised tensors, or cannot be copied.
    """
    model = unwrap(model)
    fingerprint = _fingerprint(model)
    key = (threading.get_ident(), dtype, device)
    with _lock:
        kept = _shadows.setdefault(model, {})
        shadow = kept.get(key)
        if shadow is None or shadow.fingerprint != fingerprint:
            _refuse(model)
            running = {thread.ident for thread in threading.enumerate()} | {key[0]}
            for stale in [other for other in kept if other[0] not in running]:
                del kept[stale]
            shadow = Shadow(model, _copy(model, dtype, device), fingerprint)
            watch_modules(shadow.module)
            kept[key] = shadow
        shadow.refresh(model)
        return shadow


@contextmanager
def forward_conditions(shadow: Shadow) -> Iterator[None]:
    """Turn off, for one forward, the backends that hide a computation in one opaque node.

    Backend switches are process-wide, so models that need them run their forward under a lock.
    """
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # nothing can be compiled where the compiler was never loaded
            stack.enter_context(_uncompiled())
        if shadow.scripted:
            stack.enter_context(_unoptimised())
        if shadow.recurrent:
            stack.enter_context(_forward_lock)
            stack.enter_context(_without_mkldnn())
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            if _has_fused_cells(shadow):
                stack.enter_context(python_dispatcher())
        yield


def _has_fused_cells(shadow: Shadow) -> bool:
    """Whether recurrent layers run in fused cells without cuDNN too, as on GPUs.

    PyTorch's own decompositions in Python, which its dispatcher takes where it is told to, have no such cells.
    """
    return any(parameter.device.type != "cpu" for parameter in shadow.module.parameters())


@contextmanager
def _without_mkldnn() -> Iterator[None]:
    """``torch.backends.mkldnn.flags`` would also set a TF32 switch, which warns where the hardware has none."""
    before = mkldnn_enabled()
    set_mkldnn_enabled(False)
    try:
        yield
    finally:
        set_mkldnn_enabled(before)


def _copy(model: nn.Module, dtype: torch.dtype | None, device: torch.device | None) -> nn.Module:
    def fresh(tensor: Tensor) -> nn.Parameter:
        detached = tensor.detach().clone() if tensor.is_inference() else tensor.detach()
        if tensor.is_floating_point() or tensor.is_complex():
            detached = detached.to(dtype=dtype if tensor.is_floating_point() else None, device=device)
            return nn.Parameter(detached, requires_grad=True)
        return nn.Parameter(detached.to(device=device), requires_grad=False)

    if isinstance(model, torch.jit.ScriptModule):
        return _copy_scripted(model, dtype, device)
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = fresh(parameter)
    for part in model.modules():
        for value in part.__dict__.values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()  # a state that an earlier forward left behind
        for kept in (part._forward_hooks, part._forward_pre_hooks):
            for hook in kept.values():
                memo[id(hook)] = hook  # a hook may hold anything; it is called, never copied
    trainer = getattr(model, "_trainer", None)
    if trainer is not None:
        memo[id(trainer)] = None  # Lightning's trainer is no part of the forward
    try:
        module = copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"The model {type(model).__name__} could not be copied ({type(error).__name__}: {error}). Pellucid runs "
            "a copy "
            f"of the structure, sharing all weights, so that the model itself is not touched: make it work with "
            f"copy.deepcopy (tensors kept as plain attributes must be leaves; open files and locks must go)."
        ) from error
    for part in module.modules():
        for kind in ("_backward_hooks", "_backward_pre_hooks"):
            vars(part).get(kind, {}).clear()  # they change no output, and put functions of their own in the graph
    if dtype is not None or device is not None:
        for buffers in (part._buffers for part in module.modules()):
            for name, buffer in buffers.items():
                if buffer is not None:
                    buffers[name] = buffer.to(dtype=dtype if buffer.is_floating_point() else None, device=device)
    return module


def _unoptimised() -> AbstractContextManager[None]:
    """Scripted code as ordinary operations: optimised, it is one opaque node."""
    script: Any = torch.jit
    context: AbstractContextManager[None] = script.optimized_execution(False)
    return context


def _copy_scripted(model: torch.jit.ScriptModule, dtype: torch.dtype | None, device: torch.device | None) -> nn.Module:
    file = io.BytesIO()
    with _unoptimised(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)  # that TorchScript is no longer worked on
        torch.jit.save(model, file)
        file.seek(0)
        loading: Any = torch.jit.load
        module: nn.Module = loading(file)
    module.to(dtype=dtype, device=device)
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return module


def _mentions_recurrence(model: nn.Module) -> bool:
    """Whether scripted or exported code calls a recurrent layer without its module."""
    if isinstance(model, torch.jit.ScriptModule):
        called = str(model.inlined_graph)
    else:
        graphs = [part.graph for part in model.modules() if isinstance(part, torch.fx.GraphModule)]
        called = " ".join(f"aten::{str(node.target).removeprefix('aten.')}" for graph in graphs for node in graph.nodes)
    return any(f"aten::{name}" in called for name in ("lstm", "gru", "rnn"))


def _refuse(model: nn.Module) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise ModelError(
                f"The tensor {name!r} of {type(model).__name__} is on the 'meta' device: it has a shape but no values. "
                f"Load the weights first (for example model.to_empty(device='cpu') and load_state_dict)."
            )
        if tensor.is_quantized:
            raise ModelError(
                f"The tensor {name!r} of {type(model).__name__} is quantised ({tensor.dtype}). Quantised operations "
                "record "
                f"no gradient graph: explain the model it was made from, or dequantise it."
            )
    for name, part in model.named_modules():
        if type(part).__module__.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")):
            raise ModelError(
                f"The module {name!r} ({type(part).__name__}) is quantised. Quantised operations record no gradient "
                f"graph: explain the model it was made from, or dequantise it."
            )


def _fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """What would make a kept copy stale: other tensors, other parts, other plain attributes, other hooks."""
    if isinstance(model, torch.jit.ScriptModule):
        # The copy owns its storage, so the numbers themselves count.
        return tuple((name, id(p), version(p)) for name, p in [*model.named_parameters(), *model.named_buffers()])
    found: list[Any] = []
    add, seen = found.append, set[int]()
    for part in model.modules():
        attributes = part.__dict__
        add(type(part))
        add(tuple(attributes))
        for key, value in attributes.items():
            kind = type(value)
            if kind in _PLAIN:
                add(value)
            elif kind is dict and not value:
                continue  # most of what a module has are empty tables of hooks
            elif key == "_parameters":
                found.extend((name, *_place(item)) for name, item in value.items())
            elif key in ("_buffers", "_modules"):
                found.extend((name, id(item)) for name, item in value.items())
            elif isinstance(value, dict) and not value:
                continue
            elif isinstance(value, Tensor):
                add((*_place(value), _version(value)))
            else:
                add(id(value))
                if id(value) not in seen:  # a configuration that all modules share
                    seen.add(id(value))
                    found.extend(_content(value))
    return tuple(found)


def _place(tensor: Tensor | None) -> tuple[Any, ...]:
    """Which tensor it is, and its storage: ``module.double()`` gives the same parameter another one."""
    if tensor is None or tensor.layout is not torch.strided:
        return (id(tensor),)
    return (id(tensor), tensor.data_ptr(), tensor.dtype, tensor.device, tensor.stride())


def _content(value: object) -> list[Any]:
    """What a container or a configuration object holds, one level deep."""
    if isinstance(value, dict):
        items: list[Any] = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = list(value)
    elif isinstance(value, (nn.Module, type)) or callable(value):
        items = []
    else:
        items = list(getattr(value, "__dict__", {}).values())
    return [
        item if type(item) in _PLAIN else (*_place(item), _version(item)) if isinstance(item, Tensor) else id(item)
        for item in items
    ]


@contextmanager
def frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """No parameter of a shadow needs a gradient inside."""
    flipped = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in flipped:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in flipped:
            parameter.requires_grad_(True)
