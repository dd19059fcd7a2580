"""One call of ``explain``: model, input and wishes, and what methods need of them, made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from pellucid.composites import Composite
from pellucid.engine.function import ModelFunction
from pellucid.engine.inputs import Prepared
from pellucid.engine.point import Point
from pellucid.engine.shadow import Shadow
from pellucid.engine.together import seeded
from pellucid.engine.trace import Trace, run_forward
from pellucid.errors import InputError, ModelError, PellucidError
from pellucid.methods.base import Attribution, Keep
from pellucid.methods.way import Way, way_from
from pellucid.progress import Progress
from pellucid.targets import Default, Target
from pellucid.targets.base import of_samples

__all__ = ["Call"]

_VALUES_AT_ONCE = {"cpu": 2**20}
"""Input values that are run at once: on a CPU more than the caches hold costs more for every row."""
_VALUES_ELSEWHERE = 2**24
_TOKEN = 512  # values that a token id counts for, as it becomes a vector
_MOST_ROWS = 4096


class Call:
    """What methods work with.

    Args:
        shadow: the model's copy.
        prepared: the explained input.
        layers: modules at which relevance is wanted too.
        keep: the walk goes on only through these units.
        bounds: lowest and highest possible input per channel, where the model's preprocessing tells.
        tokenizer: of a text model, where it came with one.
        seed: of all random numbers.
        memory: budget in bytes, None for no limit.
        progress: told what was done.
    """

    def __init__(
        self,
        shadow: Shadow,
        prepared: Prepared,
        *,
        layers: Sequence[str] = (),
        keep: Keep | None = None,
        bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        tokenizer: Any = None,
        seed: int = 0,
        memory: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.shadow = shadow
        self.prepared = prepared
        self.layers = tuple(layers)
        self.keep = dict(keep or {})
        self.bounds = bounds
        self.tokenizer = tokenizer
        self.seed = seed
        self.memory = memory
        self.progress = progress or Progress()
        self.target: Target = Default()
        """What is explained, for those who ask beforehand (``Method.unfit``)."""
        self._ways: dict[tuple[Point, ...], Way] = {}
        self.partial: Callable[[], Attribution] | None = None
        """Set by a method during long work: the estimate so far, should Ctrl-C end it."""
        for name in (*self.layers, *self.keep):
            self.require_layer(name)

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.prepared.batch

    @cached_property
    def small(self) -> Call:
        """The same call for the first sample, to try something out; the whole where the model takes none alone."""
        one = Call(
            self.shadow,
            self.prepared.sample(0),
            layers=self.layers,
            keep=self.keep,
            bounds=self.bounds,
            seed=self.seed,
            memory=self.memory,
        )
        one.target = of_samples(self.target, torch.zeros(1, dtype=torch.long))
        try:
            one.function.start(one.target)
        except PellucidError:
            return self
        return one

    def require_layer(self, name: str) -> None:
        """Refuse a module that the model does not have.

        Raises:
            InputError: offers near matches.
        """
        available = self.shadow.modules
        if name in available:
            return
        import difflib

        near = difflib.get_close_matches(name, [known for known in available if known], n=5)
        hint = f"Near matches: {', '.join(near)}" if near else "Names are those of model.named_modules()"
        raise InputError(f"The model has no module {name!r}. {hint}.")

    def generator(self, offset: int = 0) -> torch.Generator:
        """Random numbers of this call, always drawn on the CPU, so that every device gets the same ones.

        A method draws them for one sample and uses them for all, so that a sample's result does not depend on its
        batch mates.

        Args:
            offset: another stream for each number.
        """
        return torch.Generator().manual_seed((self.seed + offset * 0x9E3779B9) % 2**63)

    @cached_property
    def function(self) -> ModelFunction:
        """The model as a function of its points."""
        return ModelFunction(
            self.shadow,
            self.prepared,
            seed=self.seed,
            most=self.rows_at_once,
            whole=None if self.memory is None else self.affordable,
            tick=self.progress.advance,
        )

    @cached_property
    def rows_at_once(self) -> int:
        """How many rows the model is run on at once.

        Raises:
            InputError: not even one fits the memory budget.
        """
        values = self.prepared.values.items()
        size = sum(tensor[:1].numel() * (_TOKEN if name in self.prepared.ids else 1) for name, tensor in values)
        usual = _VALUES_AT_ONCE.get(self._device_type(), _VALUES_ELSEWHERE) // max(size, 1)
        usual = min(max(usual, 1), _MOST_ROWS)
        return usual if self.memory is None else min(usual, self.affordable)

    @cached_property
    def affordable(self) -> int:
        """How many rows fit in the memory budget, from what one sample's forward makes.

        Raises:
            InputError: not even one.
        """
        assert self.memory is not None
        one = self.prepared.sample(0)
        trace = self._run(one, (), keep_outputs=False, keep_inputs=False)
        needed = 2 * trace.observer.bytes  # the forward's tensors, and as many densities or gradients at worst
        if needed > self.memory:
            raise InputError(
                f"memory={self.memory} bytes: one sample alone needs about {needed} bytes for this model. Raise the "
                "budget, or make the input smaller."
            )
        return max(1, self.memory // max(needed, 1))

    def way(self, points: Sequence[Point]) -> Way:
        """The way from ``points`` to the scalar of :attr:`target`; looked at once. :attr:`small` is quicker.

        Raises:
            as the model and the target do. InputError: a layer did not run, or several times.
        """
        key = tuple(points)
        if key not in self._ways:
            self._ways[key] = way_from(self.function, self.target, key)
        return self._ways[key]

    def trace(self, composite: Composite, targets: Sequence[Target], *, wanted: Sequence[str] = ()) -> Trace:
        """One observed forward, for walks with ``composite`` from ``targets``; keeps what ``wanted`` modules give."""
        for target in targets:
            target.check_layers(self.shadow.modules)
        read = {*wanted, *self.layers, *self.keep, *(name for target in targets for name in target.layers())}
        return self._run(
            self.prepared,
            read,
            keep_outputs=composite.needs_outputs(),
            keep_inputs=composite.name in self.shadow.needs_inputs,
        )

    def _run(self, prepared: Prepared, wanted: Any, *, keep_outputs: bool, keep_inputs: bool) -> Trace:
        with seeded(self.seed, self._device()) as drawn:
            trace = run_forward(
                self.shadow, prepared, wanted=frozenset(wanted), keep_outputs=keep_outputs, keep_inputs=keep_inputs
            )
            if drawn():
                trace.notes.append(self.random_note())
        return trace

    def random_note(self) -> str:
        """What to say of a forward that drew random numbers.

        Raises:
            ModelError: the model is in training mode, so that this is dropout or its like.
        """
        training = next((name for name, part in self.shadow.module.named_modules() if part.training), None)
        if training is not None:
            raise ModelError(
                f"The module {training or '(the model itself)'!r} is in training mode and the forward draws random "
                f"numbers (dropout or its like), so there is no one decision to explain. Call model.eval() first."
            )
        return f"The model's forward draws random numbers; they start from seed={self.seed}."

    def notes(self) -> tuple[str, ...]:
        """What the function noticed in its passes."""
        function = self.function
        return (*function.notes, *([self.random_note()] if function.drew else []))

    def _device(self) -> torch.device | None:
        parameter = next(self.shadow.module.parameters(), None)
        return None if parameter is None else parameter.device

    def _device_type(self) -> str:
        device = self._device()
        return "cpu" if device is None else device.type
