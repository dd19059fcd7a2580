"""The verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pellucid.arguments import parse_bytes, parse_device, parse_dtype
from pellucid.composites import Composite
from pellucid.engine.inputs import Prepared, check_model, prepare, samples
from pellucid.engine.ledger import Ledger
from pellucid.engine.shadow import shadow_of
from pellucid.engine.trace import Start
from pellucid.errors import InputError, Interrupted, ModelError, reason
from pellucid.explanation import Explanation
from pellucid.flightcheck import Check, check_methods, check_trace
from pellucid.methods.base import Attribution, Keep, Method
from pellucid.methods.call import Call
from pellucid.methods.catalogue import method_named
from pellucid.methods.relevance import LRP
from pellucid.models import LoadedModel
from pellucid.progress import Progress, Report
from pellucid.targets import resolve_targets

__all__ = ["check", "explain"]

_INTERRUPTED = "Interrupted; what there is so far is in .partial."
_EARLY = "Interrupted: this is the estimate so far, not the final one."


def explain(
    model: nn.Module | LoadedModel,
    x: Any,
    *,
    target: Any = None,
    method: str | Method = "lrp",
    composite: str | Composite | None = None,
    layer: str | Sequence[str] | None = None,
    keep: Keep | None = None,
    inputs: str | int | Iterable[str | int] | None = None,
    targets: Sequence[Any] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    memory: int | str | None = None,
    ledger: Literal["batch", "sample"] = "batch",
    seed: int = 0,
    progress: Report | None = None,
) -> Any:
    """Explain a decision: how much each input feature contributed to one scalar of the output.

    The model runs as a copy that shares its weights: the model, its flags and its gradients are never touched.
    Forward hooks are part of what a model computes, so they run, on the copy's modules; hooks for gradients do not.

    Args:
        model: any module in evaluation mode, or a LoadedModel.
        x: tensor (N, ...), or a tuple or dict of tensors; integer tensors are token ids.
        target: what is explained (see ``pellucid.targets``), one for all samples or a list with one per sample; None:
            on a classifier the top class against the rest, on a one-output model the output.
        method: how, by name (``pellucid methods`` lists them), or as a Method with settings of your own.
        composite: the rules of relevance propagation, by name or as a Composite; None: ``auto``.
        layer: modules at which relevance is read too; for class activation maps, the layers of the maps.
        keep: module -> units: channel 3, features [0, 4], or "heads:0,2" of one that attends. Relevance goes on only
            through these (Achtibat 2023). Relevance propagation only.
        inputs: which inputs are explained; None: all floating ones but masks, and token ids.
        targets: several targets of every sample; then a list of explanations is returned.
        dtype: compute in this floating dtype ("float64").
        device: compute there.
        memory: budget in bytes, or text such as "2GB"; work is split to fit, with the same result.
        ledger: "sample" keeps the audit of every sample (``explanation.ledgers``, ``explanation[i].ledger``) besides
            that of the batch. Samples are then explained one by one, with the same result.
        seed: seeds all random numbers, of the method and of the forward; the caller's random state stays.
        progress: called as ``progress(done, total, seconds_left)`` during long work.

    Returns:
        Explanation, or a list of them where ``targets`` was given.

    Raises:
        InputError: something given cannot be used. TargetError: the target cannot.
        ModelError: the model cannot be explained as it is. UnknownOpError: an operation has no rule.
        Interrupted: Ctrl-C during work that had an estimate already; it is in ``.partial``, with ``targets`` a list of
            what is done and the estimate so far of the next. Marked in settings and warnings; where a budget splits the
            work, it may be of the first samples only.
    """
    chosen = _method(method, composite, keep)
    if target is not None and targets is not None:
        raise InputError("Give target= (one explanation) or targets= (a list of them), not both.")
    told = Progress(progress)
    request = Request(model, layer, keep, inputs, dtype, device, memory, seed, told)
    if ledger not in ("batch", "sample"):
        raise InputError(f"Expected ledger= as 'batch' or 'sample', got {ledger!r}.")
    specs = [target] if targets is None else list(targets)
    if not specs:
        raise InputError("targets= is empty: expected at least one target.")
    with torch.inference_mode(False):  # in inference mode no graph is recorded, whatever enable_grad says
        try:
            results = request.run(chosen, x, specs, one_by_one=ledger == "sample")
        except Interrupted as stop:
            raise Interrupted(str(stop), stop.partial if targets is not None else stop.partial[0]) from stop.__cause__
    told.finish()
    return results if targets is not None else results[0]


def _method(method: str | Method, composite: str | Composite | None, keep: Keep | None) -> Method:
    found = method_named(method)
    if composite is not None:
        if type(found) is not LRP:
            raise InputError(
                f"composite= is for method='lrp'; the method {found.name!r} has its own rules. Leave one of them out."
            )
        found = replace(found, composite=composite)
    if keep and not isinstance(found, LRP):
        raise InputError(f"keep= is for relevance propagation (method='lrp'), not for {found.name!r}. Leave it out.")
    return found


class Request:
    """Everything of a call but the method, the input and the targets."""

    def __init__(
        self,
        model: nn.Module | LoadedModel,
        layer: str | Sequence[str] | None = None,
        keep: Keep | None = None,
        inputs: str | int | Iterable[str | int] | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        memory: int | str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.names = model.class_names if isinstance(model, LoadedModel) else None
        self.tokenizer = model.tokenizer if isinstance(model, LoadedModel) else None
        self.model = check_model(model.module if isinstance(model, LoadedModel) else model)
        prepared_by = model.preprocessing if isinstance(model, LoadedModel) else None
        pairs = None if prepared_by is None else prepared_by.bounds
        self.bounds = None if pairs is None else (tuple(low for low, _ in pairs), tuple(high for _, high in pairs))
        self.layers = (layer,) if isinstance(layer, str) else tuple(layer or ())
        self.keep = dict(keep or {})
        self.inputs = inputs if inputs is None or isinstance(inputs, (str, int)) else tuple(inputs)
        self.dtype = parse_dtype(dtype)
        self.device = parse_device(device)
        self.memory = None if memory is None else parse_bytes(memory)
        self.seed = seed
        self.progress = progress

    def call(self, x: Any) -> Call:
        """What methods work with."""
        shadow = shadow_of(self.model, dtype=self.dtype, device=self.device)
        like = next((p for p in shadow.module.parameters() if p.is_floating_point()), None)
        return Call(
            shadow,
            prepare(x, inputs=self.inputs, dtype=self.dtype, device=self.device, like=like),
            layers=self.layers,
            keep=self.keep,
            bounds=self.bounds,
            tokenizer=self.tokenizer,
            seed=self.seed,
            memory=self.memory,
            progress=self.progress,
        )

    def run(self, method: Method, x: Any, specs: Sequence[Any], *, one_by_one: bool = False) -> list[Explanation]:
        """Explain; a method that records the whole forward gets the batch in parts that fit the memory.

        Args:
            method: how.
            x: the input.
            specs: what is explained.
            one_by_one: every sample is a part, and its ledger is kept.

        Raises:
            Interrupted: ``.partial`` is a list: what there is of the targets that were begun.
        """
        total = samples(x, self.inputs)
        size = total if self.memory is None or not method.walks else self.call(x).affordable
        size = 1 if one_by_one else size
        if size >= total and not one_by_one:
            return self.explain(method, x, specs)
        parts: list[list[Explanation]] = []
        for begin in range(0, total, size):
            end = min(begin + size, total)
            here = [spec[begin:end] if isinstance(spec, (list, tuple)) else spec for spec in specs]
            try:
                parts.append(self.explain(method, _rows(x, slice(begin, end), total), here))
            except KeyboardInterrupt as stop:
                parts.append(stop.partial if isinstance(stop, Interrupted) else [])
                begun = [[part[k] for part in parts if k < len(part)] for k in range(len(specs))]
                partial = [_begun(some, x, total) for some in begun if some]
                if not partial:
                    raise
                raise Interrupted(_INTERRUPTED, partial) from stop
        return [_joined([part[k] for part in parts], x, ledgers=one_by_one) for k in range(len(specs))]

    def explain(self, method: Method, x: Any, specs: Sequence[Any]) -> list[Explanation]:
        """Explain the whole batch.

        Raises:
            Interrupted: ``.partial`` is a list: the targets that are done, and the estimate so far of the next.
        """
        batch = samples(x, self.inputs)
        resolved = [resolve_targets(spec, batch, class_names=self.names) for spec in specs]
        call = self.call(x)
        done: list[Explanation] = []
        try:
            for found in method.attribute_all(call, resolved):
                call.partial = None
                done.append(self.explanation(method, call.prepared, found))
        except KeyboardInterrupt as stop:
            if call.partial is not None:
                done.append(self.explanation(method, call.prepared, call.partial(), interrupted=True))
            if not done:
                raise
            raise Interrupted(_INTERRUPTED, done) from stop
        return done

    def explanation(
        self, method: Method, prepared: Prepared, found: Attribution, *, interrupted: bool = False
    ) -> Explanation:
        """What is handed to the caller."""
        settings = {**method.settings(), **found.settings}
        if method.unit:
            settings["unit"] = method.unit
        if interrupted:
            settings["partial"] = True
        early = (_EARLY,) if interrupted else ()
        return Explanation(
            relevance=_structured(prepared, found.relevance),
            output=found.output,
            target=tuple(found.target.describe(self.names, i) for i in range(prepared.batch)),
            method=method.name,
            settings=settings,
            citation=method.citation,
            warnings=tuple(dict.fromkeys((*early, *found.notes))),
            input=prepared.original,
            ledger=found.ledger,
            layers=found.layers,
            details=found.details,
        )


def check(
    model: nn.Module | LoadedModel,
    x: Any,
    *,
    target: Any = None,
    composite: str | Composite | None = None,
    layer: str | Sequence[str] | None = None,
    inputs: str | int | Iterable[str | int] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    memory: int | str | None = None,
) -> Check:
    """Look before explaining: which operations the model runs, which rule each gets, what is unknown or cut.

    And for every method whether it will work here, and what it would cost; none is run.

    Args:
        model: any module in evaluation mode, or a LoadedModel.
        x: tensor, tuple or dict of tensors.
        target: what would be explained.
        composite: the rules.
        layer: modules at which relevance would be read too.
        inputs: which inputs would be explained.
        dtype: would be computed in.
        device: would be computed on.
        memory: the budget; the operations are then those of the first sample.

    Returns:
        Check, which prints as a table.

    Raises:
        InputError, ModelError: as :func:`explain`, but never for unknown operations or cut paths, which are listed.
    """
    request = Request(model, layer, None, inputs, dtype, device, memory)
    batch = samples(x, request.inputs)
    resolved = resolve_targets(target, batch, class_names=request.names)
    with torch.inference_mode(False):
        call = request.call(x)
        call.target = resolved
        seen = call if memory is None or call.affordable >= batch else call.small
        rules = LRP(composite).chosen(seen)
        trace = seen.trace(rules, [seen.target])
        start: Start | None = None
        cut: list[str] = []
        try:
            start = trace.start(seen.target)
        except ModelError as error:  # no graph leads to the scalar: all that needs none may still be used
            cut = [reason(error)]
        fixed = call.function.start(resolved).target if start is None or seen is not call else start.target
        labels = [fixed.describe(request.names, i) for i in range(batch)]
        return check_methods(check_trace(trace, start, rules, labels, cut), call, rules)


def _structured(prepared: Prepared, relevance: Mapping[str, Tensor]) -> Any:
    if isinstance(prepared.original, Tensor):
        return relevance["x"]
    if isinstance(prepared.original, Mapping):
        return {str(key): relevance[str(key)] for key in prepared.original if str(key) in relevance}
    return tuple(relevance.get(str(k)) for k in range(len(prepared.original)))


def _rows(x: Any, part: slice, total: int) -> Any:
    """Some samples; what has no dimension of samples (a mask that all share) stays whole."""

    def take(value: Any) -> Any:
        return value[part] if isinstance(value, Tensor) and value.shape[:1] == (total,) else value

    if isinstance(x, Tensor):
        return take(x)
    if isinstance(x, Mapping):
        return {key: take(value) for key, value in x.items()}
    return tuple(map(take, x))


def _joined(parts: Sequence[Explanation], x: Any, *, ledgers: bool) -> Explanation:
    def cat(pick: Any) -> Any:
        first = pick(parts[0])
        if isinstance(first, Tensor):
            return torch.cat([pick(part) for part in parts])
        if isinstance(first, Mapping):
            return {key: torch.cat([pick(part)[key] for part in parts]) for key in first}
        return tuple(
            None if value is None else torch.cat([pick(part)[k] for part in parts]) for k, value in enumerate(first)
        )

    audits = [part.ledger for part in parts if part.ledger is not None]
    first = parts[0]
    told = [name for name in first.details if all(name in part.details for part in parts)]
    return Explanation(
        relevance=cat(lambda part: part.relevance),
        output=torch.cat([part.output for part in parts]),
        target=tuple(label for part in parts for label in part.target),
        method=first.method,
        settings=_settings([part.settings for part in parts]),
        citation=first.citation,
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        input=x,
        ledger=Ledger.of_batch(audits) if len(audits) == len(parts) else None,
        layers=cat(lambda part: part.layers) if first.layers else {},
        details={name: torch.cat([part.details[name] for part in parts]) for name in told},
        ledgers=tuple(audits) if ledgers else (),
    )


def _begun(parts: Sequence[Explanation], x: Any, total: int) -> Explanation:
    """What there is of a target, from the parts of the batch that were done or begun."""
    reached = sum(len(part.output) for part in parts)
    found = _joined(parts, _rows(x, slice(reached), total), ledgers=False)
    if reached == total and "partial" not in found.settings:
        return found
    fewer = f"{reached} of {total} samples were reached; the others are left out."
    warnings = dict.fromkeys((_EARLY, *([fewer] if reached < total else []), *found.warnings))
    return replace(found, settings={**found.settings, "partial": True}, warnings=tuple(warnings))


def _settings(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of all parts: of numbers found on the way the largest, lists by sample one after another."""
    settings: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        if name.endswith("of each sample"):
            settings[name] = [item for value in values for item in value]
        elif all(type(value) is int for value in values):
            settings[name] = max(values)
        else:
            settings[name] = values[0]
    return settings
