"""Process-wide switches that several threads hold at once, and random numbers that leave no trace."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np
import torch

__all__ = ["Together", "seeded"]


class Together:
    """A switch of the whole process: the first thread in turns it, the last one out turns it back.

    Were each thread to restore what it found, one could find what another had set, and leave it behind.
    """

    def __init__(self, switch: Callable[[], AbstractContextManager[object]]) -> None:
        self._switch = switch
        self._lock = threading.Lock()
        self._inside = 0
        self._held: AbstractContextManager[object] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the switch."""
        with self._lock:
            if self._inside == 0:
                self._held = self._switch()
                self._held.__enter__()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._held is not None:
                    held, self._held = self._held, None
                    held.__exit__(None, None, None)


@contextmanager
def _random_states() -> Iterator[None]:
    mine, others, plain = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(mine)
        np.random.set_state(others)
        random.setstate(plain)


@contextmanager
def _random_state_of(device: torch.device) -> Iterator[None]:
    state = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        torch.cuda.set_rng_state(state, device)


_kept = Together(_random_states)
_kept_on: dict[torch.device, Together] = {}


@contextmanager
def seeded(seed: int, device: torch.device | None) -> Iterator[Callable[[], bool]]:
    """Random numbers of torch, numpy and Python start from ``seed`` inside, and go on outside as if none was drawn.

    Only the generators of the CPU and of ``device`` are touched: torch.manual_seed would seed those of every GPU, also
    of ones not used yet. They belong to the process: threads that explain at the same time draw from the same ones.

    Yields a function that tells whether any of torch's numbers was drawn since.
    """
    with ExitStack() as stack:
        stack.enter_context(_kept())
        generators = [torch.default_generator]
        np.random.seed(seed % 2**32)
        random.seed(seed)
        if device is not None and device.type == "cuda":
            switch = _kept_on.setdefault(device, Together(lambda: _random_state_of(device)))
            stack.enter_context(switch())
            index = torch.cuda.current_device() if device.index is None else device.index
            generators.append(torch.cuda.default_generators[index])
        started = [generator.manual_seed(seed).get_state() for generator in generators]

        def drawn() -> bool:
            return any(
                not torch.equal(state, generator.get_state())
                for state, generator in zip(started, generators, strict=True)
            )

        yield drawn
