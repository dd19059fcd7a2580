"""The verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.composites import Composite, composite_named
from pellucid.engine.inputs import Prepared, check_model, prepare, samples
from pellucid.engine.ledger import Ledger
from pellucid.engine.shadow import Shadow, shadow_of
from pellucid.engine.together import seeded
from pellucid.engine.trace import Trace, run_forward
from pellucid.errors import InputError, ModelError
from pellucid.explanation import Explanation
from pellucid.flightcheck import Check, check_trace
from pellucid.methods.citations import citation
from pellucid.methods.lrp import Explained, Keep, explain_trace
from pellucid.models import LoadedModel
from pellucid.rules.maps import InputNotSavedError
from pellucid.targets import Target, resolve_targets

__all__ = ["check", "explain"]


def explain(
    model: nn.Module | LoadedModel,
    x: Any,
    *,
    target: Any = None,
    method: str = "lrp",
    composite: str | Composite | None = None,
    layer: str | Sequence[str] | None = None,
    keep: Keep | None = None,
    inputs: str | int | Iterable[str | int] | None = None,
    targets: Sequence[Any] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    memory: int | str | None = None,
    seed: int = 0,
) -> Any:
    """Explain a decision: how much each input feature contributed to one scalar of the output.

    The model runs once, as a copy that shares its weights: the model, its flags and its gradients are never touched.
    Forward hooks are part of what a model computes, so they run, on the copy's modules; hooks for gradients do not.

    Args:
        model: any module in evaluation mode, or a LoadedModel.
        x: tensor (N, ...), or a tuple or dict of tensors; integer tensors are token ids.
        target: what is explained (see ``pellucid.targets``), one for all samples or a list with one per sample; None:
            on a
            classifier the top class against the rest, on a one-output model the output.
        method: "lrp".
        composite: the rules, by name or as a Composite; None: ``auto``.
        layer: modules at which relevance is read too.
        keep: module -> units; the walk goes on only through these (Achtibat 2023).
        inputs: which inputs are explained; None: all floating ones but masks, and token ids.
        targets: several targets of every sample, from one forward; then a list of explanations is returned.
        dtype: compute in this floating dtype ("float64").
        device: compute there.
        memory: budget in bytes, or text such as "2GB"; the batch is split to fit.
        seed: seeds the random numbers of a forward that draws any; the caller's random state stays.

    Returns:
        Explanation, or a list of them where ``targets`` was given.

    Raises:
        InputError: something given cannot be used. TargetError: the target cannot.
        ModelError: the model cannot be explained as it is. UnknownOpError: an operation has no rule.
    """
    if method != "lrp":
        raise InputError(f"No method is called {method!r}. Expected: 'lrp'.")
    if target is not None and targets is not None:
        raise InputError("Give target= (one explanation) or targets= (a list of them), not both.")
    request = _Request(model, composite, layer, keep, inputs, dtype, device, seed)
    specs = [target] if targets is None else list(targets)
    if not specs:
        raise InputError("targets= is empty: expected at least one target.")
    with torch.inference_mode(False):  # in inference mode no graph is recorded, whatever enable_grad says
        size = None if memory is None else request.affordable(x, parse_bytes(memory))
        results = request.run(x, specs) if size is None else request.run_split(x, specs, size)
    return results if targets is not None else results[0]


class _Request:
    """Everything of a call but the input and the targets."""

    def __init__(
        self,
        model: nn.Module | LoadedModel,
        composite: str | Composite | None,
        layer: str | Sequence[str] | None,
        keep: Keep | None,
        inputs: str | int | Iterable[str | int] | None,
        dtype: torch.dtype | str | None,
        device: torch.device | str | None,
        seed: int,
    ) -> None:
        self.names = model.class_names if isinstance(model, LoadedModel) else None
        self.model = check_model(model.module if isinstance(model, LoadedModel) else model)
        prepared_by = model.preprocessing if isinstance(model, LoadedModel) else None
        pairs = None if prepared_by is None else prepared_by.bounds
        bounds = None if pairs is None else (tuple(low for low, _ in pairs), tuple(high for _, high in pairs))
        self.composite = composite_named(composite, bounds=bounds)
        self.layers = (layer,) if isinstance(layer, str) else tuple(layer or ())
        self.keep = dict(keep or {})
        self.inputs = inputs if inputs is None or isinstance(inputs, (str, int)) else tuple(inputs)
        self.dtype = parse_dtype(dtype)
        self.device = parse_device(device)
        self.seed = seed

    def trace(self, x: Any, targets: Sequence[Target]) -> Trace:
        """One forward."""
        shadow = shadow_of(self.model, dtype=self.dtype, device=self.device)
        available = shadow.modules
        wanted = {*self.layers, *self.keep}
        for name in wanted:
            if name not in available:
                raise InputError(_unknown_layer(name, available))
        for target in targets:
            target.check_layers(available)
            wanted.update(target.layers())
        with seeded(self.seed, _device(shadow)) as drawn:
            trace = run_forward(
                shadow,
                self.prepare(x, shadow),
                wanted=frozenset(wanted),
                keep_outputs=self.composite.needs_outputs(),
                keep_inputs=self.composite.needs_inputs() or self.composite.name in shadow.needs_inputs,
            )
            if drawn():
                trace.notes.append(self._random_note())
        return trace

    def _random_note(self) -> str:
        """What to say of a forward that drew random numbers.

        Raises:
            ModelError: the model is in training mode, so that this is dropout or its like.
        """
        training = next((name for name, part in self.model.named_modules() if part.training), None)
        if training is not None:
            raise ModelError(
                f"The module {training or '(the model itself)'!r} is in training mode and the forward draws random "
                f"numbers (dropout or its like), so there is no one decision to explain. Call model.eval() first."
            )
        return f"The model's forward draws random numbers; they start from seed={self.seed}."

    def prepare(self, x: Any, shadow: Shadow) -> Prepared:
        """The input, checked."""
        like = next((p for p in shadow.module.parameters() if p.is_floating_point()), None)
        return prepare(x, inputs=self.inputs, dtype=self.dtype, device=self.device, like=like)

    def run(self, x: Any, specs: Sequence[Any]) -> list[Explanation]:
        """Explain the whole batch, all targets from one forward."""
        batch = samples(x, self.inputs)
        resolved = [resolve_targets(spec, batch, class_names=self.names) for spec in specs]
        trace = self.trace(x, resolved)
        try:
            return self._walks(trace, resolved, batch)
        except InputNotSavedError:
            trace.shadow.needs_inputs.add(self.composite.name)
            return self._walks(self.trace(x, resolved), resolved, batch)

    def _walks(self, trace: Trace, resolved: Sequence[Target], batch: int) -> list[Explanation]:
        results = []
        for target in resolved:
            start = trace.start(target)
            explained = explain_trace(trace, start, self.composite, layers=self.layers, keep=self.keep)
            labels = tuple(start.target.describe(self.names, i) for i in range(batch))
            results.append(self._explanation(trace, explained, start.scalar, labels))
        return results

    def _explanation(self, trace: Trace, explained: Explained, output: Tensor, labels: tuple[str, ...]) -> Explanation:
        settings: dict[str, object] = {"composite": self.composite.name, "rules": dict(self.composite.table())}
        if self.keep:
            settings["keep"] = {
                name: [units] if isinstance(units, int) else list(units) for name, units in self.keep.items()
            }
        if not self.composite.conserving:
            settings["unit"] = "gradient"
        return Explanation(
            relevance=_structured(trace.prepared, explained.relevance),
            output=output,
            target=labels,
            method="lrp",
            settings=settings,
            citation=citation(self.composite.name),
            warnings=tuple(dict.fromkeys([*trace.notes, *_cut_notes(trace), *self.composite.notes])),
            input=trace.prepared.original,
            ledger=explained.ledger,
            layers=explained.layers,
        )

    def affordable(self, x: Any, budget: int) -> int:
        """How many samples fit in ``budget`` bytes, from what one sample's forward makes."""
        one = _rows(x, 0, 1)
        trace = self.trace(one, [])
        # The forward's tensors, and as many densities at worst.
        needed = 2 * trace.observer.bytes
        if needed > budget:
            raise InputError(
                f"memory={budget} bytes: one sample alone needs about {needed} bytes for this model. Raise the "
                "budget, or make "
                f"the input smaller."
            )
        return max(1, budget // max(needed, 1))

    def run_split(self, x: Any, specs: Sequence[Any], size: int) -> list[Explanation]:
        """The same in parts of ``size`` samples, put together again."""
        total = samples(x, self.inputs)
        if size >= total:
            return self.run(x, specs)
        parts: list[list[Explanation]] = []
        for begin in range(0, total, size):
            end = min(begin + size, total)
            here = [spec[begin:end] if isinstance(spec, (list, tuple)) else spec for spec in specs]
            parts.append(self.run(_rows(x, begin, end), here))
        return [_joined([part[k] for part in parts], x) for k in range(len(specs))]


def check(
    model: nn.Module | LoadedModel, x: Any, *, target: Any = None, composite: str | Composite | None = None
) -> Check:
    """Look before explaining: which operations the model runs, which rule each gets, what is unknown or cut.

    Args:
        model: any module in evaluation mode, or a LoadedModel.
        x: tensor, tuple or dict of tensors.
        target: what would be explained.
        composite: the rules.

    Returns:
        Check, which prints as a table.

    Raises:
        InputError, ModelError: as :func:`explain`, but never for unknown operations, which are listed.
    """
    request = _Request(model, composite, None, None, None, None, None, 0)
    batch = samples(x, None)
    resolved = resolve_targets(target, batch, class_names=request.names)
    with torch.inference_mode(False):
        trace = request.trace(x, [resolved])
        start = trace.start(resolved)
        labels = [start.target.describe(request.names, i) for i in range(batch)]
        return check_trace(trace, start, request.composite, labels)


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A floating dtype from itself or its name.

    Raises:
        InputError: not a floating dtype.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(
            f"Expected dtype as a floating torch.dtype or its name ('float32', 'float64', 'bfloat16'), got {dtype!r}."
        )
    return found


def parse_device(device: torch.device | str | None) -> torch.device | None:
    """A device from itself or its name.

    Raises:
        InputError: no such device.
    """
    if device is None:
        return None
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {device!r} cannot be used here ({str(error).splitlines()[0]}). Try device='cpu'."
        ) from error
    return found


def parse_bytes(memory: int | str) -> int:
    """Bytes from a number or text such as "2GB" or "512 MiB".

    Raises:
        InputError: no such amount.
    """
    text = str(memory).strip().lower().replace(" ", "")
    units = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9, "b": 1, "": 1}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if text.endswith(unit) and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return int(float(number) * factor)
    raise InputError(
        f"Expected memory as a positive number of bytes or text such as '2GB' or '512MiB', got {memory!r}."
    )


def _structured(prepared: Prepared, relevance: Mapping[str, Tensor]) -> Any:
    if isinstance(prepared.original, Tensor):
        return relevance["x"]
    if isinstance(prepared.original, Mapping):
        return {str(key): relevance[str(key)] for key in prepared.original if str(key) in relevance}
    return tuple(relevance.get(str(k)) for k in range(len(prepared.original)))


def _cut_notes(trace: Trace) -> list[str]:
    modules = sorted({name or "(the model itself)" for name in trace.observer.cuts})
    if not modules:
        return []
    return [
        f"detach or no_grad cuts part of the paths from the input in: {', '.join(modules)}. What those values bring "
        "is booked as constant."
    ]


def _unknown_layer(name: str, available: Mapping[str, nn.Module]) -> str:
    import difflib

    near = difflib.get_close_matches(name, [known for known in available if known], n=5)
    hint = f"Near matches: {', '.join(near)}" if near else "Names are those of model.named_modules()"
    return f"The model has no module {name!r}. {hint}."


def _device(shadow: Shadow) -> torch.device | None:
    parameter = next(shadow.module.parameters(), None)
    return None if parameter is None else parameter.device


def _rows(x: Any, begin: int, end: int) -> Any:
    if isinstance(x, Tensor):
        return x[begin:end]
    if isinstance(x, Mapping):
        return {key: value[begin:end] if isinstance(value, Tensor) else value for key, value in x.items()}
    return tuple(value[begin:end] if isinstance(value, Tensor) else value for value in x)


def _joined(parts: Sequence[Explanation], x: Any) -> Explanation:
    def cat(pick: Any) -> Any:
        first = pick(parts[0])
        if isinstance(first, Tensor):
            return torch.cat([pick(part) for part in parts])
        if isinstance(first, Mapping):
            return {key: torch.cat([pick(part)[key] for part in parts]) for key in first}
        return tuple(
            None if value is None else torch.cat([pick(part)[k] for part in parts]) for k, value in enumerate(first)
        )

    ledgers = [part.ledger for part in parts if part.ledger is not None]
    first = parts[0]
    return Explanation(
        relevance=cat(lambda part: part.relevance),
        output=torch.cat([part.output for part in parts]),
        target=tuple(label for part in parts for label in part.target),
        method=first.method,
        settings=first.settings,
        citation=first.citation,
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        input=x,
        ledger=_summed(ledgers) if ledgers else None,
        layers=cat(lambda part: part.layers) if first.layers else {},
    )


def _summed(ledgers: Sequence[Ledger]) -> Ledger:
    from pellucid.engine.ledger import Entry

    amounts: dict[tuple[str, str], float] = {}
    for ledger in ledgers:
        for entry in ledger.entries:
            amounts[entry.source, entry.module] = amounts.get((entry.source, entry.module), 0.0) + entry.amount
    entries = tuple(Entry(source, module, amount) for (source, module), amount in amounts.items())
    return Ledger(total=sum(ledger.total for ledger in ledgers), entries=entries)
