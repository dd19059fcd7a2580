"""What a call might change behind a caller's back, as named items that can be compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.engine.private import SETTINGS, saved_tensors_hooks, version
from pellucid.structures import named_tensors

__all__ = ["Snapshot"]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


class _Held:
    """An object by identity; the reference keeps its id from being given to another object."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class _Numbers:
    """The values of a tensor at one moment, NaN equal to NaN."""

    def __init__(self, tensor: Tensor) -> None:
        plain = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
        self.values = plain.int_repr().clone() if plain.is_quantized else plain.clone()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Numbers):
            return False
        a, b = self.values, other.values
        if a.dtype != b.dtype or a.device != b.device or a.shape != b.shape:
            return False
        return a.is_meta or bool(((a == b) | ((a != a) & (b != b))).all())

    def __hash__(self) -> int:
        return 0


class Snapshot:
    """Model, input, random states and global settings at one moment.

    Args:
        model: any module.
        x: its input: a tensor, or a tuple or dict that holds tensors.
    """

    def __init__(self, model: nn.Module, x: Any) -> None:
        self.items: dict[str, object] = {
            **dict(_model(model)),
            **dict(_input(x)),
            **dict(_random_states()),
            **dict(_settings()),
        }

    def changes(self, later: Snapshot) -> list[str]:
        """Names of the items that are not the same in ``later``, in the order of the snapshot."""
        names = dict.fromkeys([*self.items, *later.items])
        missing = object()
        return [name for name in names if not _same(self.items.get(name, missing), later.items.get(name, missing))]


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def _tensor(name: str, tensor: Tensor) -> Iterator[tuple[str, object]]:
    yield f"values of {name}", _Numbers(tensor)
    yield f"version of {name}", None if tensor.is_inference() else version(tensor)
    yield f"requires_grad of {name}", tensor.requires_grad
    yield f"gradient of {name}", None if not tensor.is_leaf else _gradient(tensor)
    yield f"hooks of {name}", len(tensor._backward_hooks or ())
    yield (
        f"layout of {name}",
        (tuple(tensor.shape), *(tensor.stride() if tensor.layout is torch.strided else (str(tensor.layout),))),
    )


def _gradient(tensor: Tensor) -> object:
    return None if tensor.grad is None else (_Held(tensor.grad), _Numbers(tensor.grad))


def _model(model: nn.Module) -> Iterator[tuple[str, object]]:
    for path, part in model.named_modules():
        where = f"module {path!r}" if path else "the model"
        yield f"class of {where}", _Held(type(part))
        yield f"forward of {where}", _Held(type(part).forward)
        for key, value in vars(part).items():
            if key in ("_parameters", "_buffers"):
                for name, tensor in value.items():
                    full = f"{'parameter' if key == '_parameters' else 'buffer'} {f'{path}.{name}'.lstrip('.')!r}"
                    yield f"identity of {full}", _Held(tensor)
                    if tensor is not None:
                        yield from _tensor(full, tensor)
            elif isinstance(value, Tensor):
                yield f"identity of attribute {key!r} of {where}", _Held(value)
                yield from _tensor(f"attribute {key!r} of {where}", value)
            elif key == "training":
                yield f"training flag of {where}", value
            elif "hooks" in key and isinstance(value, Mapping):
                yield f"hooks of {where} ({key})", tuple((number, _Held(hook)) for number, hook in value.items())
            else:
                yield f"attribute {key!r} of {where}", _content(value)


def _content(value: object) -> object:
    """Plain values as they are, containers by what they hold, anything else by identity."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return (_Held(value), tuple((key, _shallow(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return (_Held(value), tuple(map(_shallow, value)))
    if isinstance(value, (set, frozenset)):
        return (_Held(value), len(value))
    return _Held(value)


def _shallow(value: object) -> object:
    return value if isinstance(value, _PLAIN) else _Held(value)


def _input(x: Any) -> Iterator[tuple[str, object]]:
    if isinstance(x, Mapping):
        yield "the input's keys", tuple(x)
    tensors = named_tensors(x) if isinstance(x, (Tensor, Mapping, tuple, list)) else {}
    for name, tensor in tensors.items():
        yield f"identity of input {name!r}", _Held(tensor)
        yield from _tensor(f"input {name!r}", tensor)


def _random_states() -> Iterator[tuple[str, object]]:
    yield "the random state of torch", _Numbers(torch.get_rng_state())
    cuda: Any = torch.cuda
    if cuda.is_available() and cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            yield f"the random state of cuda:{device}", _Numbers(torch.cuda.get_rng_state(device))
    kind, keys, *rest = np.random.get_state(legacy=True)
    yield "the random state of numpy", (str(kind), np.asarray(keys).tobytes(), *rest)
    yield "the random state of Python", random.getstate()


def _settings() -> Iterator[tuple[str, object]]:
    hooks: Any = nn.modules.module
    readers: dict[str, Callable[[], object]] = {
        "grad mode": torch.is_grad_enabled,
        "inference mode": torch.is_inference_mode_enabled,
        "anomaly mode": torch.is_anomaly_enabled,
        "default dtype": torch.get_default_dtype,
        "default device": torch.get_default_device,
        "number of threads": torch.get_num_threads,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
        "deterministic warnings": torch.is_deterministic_algorithms_warn_only_enabled,
        "matrix product precision": torch.get_float32_matmul_precision,
        "cudnn benchmark": lambda: torch.backends.cudnn.benchmark,
        "cudnn deterministic": lambda: torch.backends.cudnn.deterministic,
        "flash attention": torch.backends.cuda.flash_sdp_enabled,
        "memory-efficient attention": torch.backends.cuda.mem_efficient_sdp_enabled,
        "plain attention": torch.backends.cuda.math_sdp_enabled,
        "cudnn attention": torch.backends.cuda.cudnn_sdp_enabled,
        "autocast on the CPU": lambda: (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "autocast on the GPU": lambda: (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")),
        "autocast's cache": torch.is_autocast_cache_enabled,
        "compiler stance": _compiler_stance,
        **SETTINGS,
        "hooks for saved tensors": lambda: _Held(saved_tensors_hooks()),
        "forward hooks of all modules": lambda: len(hooks._global_forward_hooks),
        "forward pre-hooks of all modules": lambda: len(hooks._global_forward_pre_hooks),
        "backward hooks of all modules": lambda: len(hooks._global_backward_hooks),
    }
    for name, read in readers.items():
        yield f"the setting: {name}", read()


def _compiler_stance() -> object:
    import sys

    frames: Any = sys.modules.get("torch._dynamo.eval_frame")
    stance = getattr(frames, "_stance", None)
    return "default" if stance is None else str(stance.stance)
