"""Is a method well behaved, whatever it computes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from pellucid._api import explain
from pellucid.explanation import Explanation
from pellucid.methods.base import Method
from pellucid.methods.catalogue import method_named
from pellucid.structures import named_tensors
from pellucid.testing.conformance import check_conformance, sample_of, target_of
from pellucid.testing.restores import check_restores

__all__ = ["check_method"]

Explain = Callable[[nn.Module, Any], Explanation]


def check_method(
    method: Explain | Method | type[Method] | str,
    model: nn.Module,
    x: Any,
    *,
    target: Any = 0,
    layer: str | None = None,
    tolerance: float = 1e-4,
    interruptions: int = 3,
) -> None:
    """Fail if a method breaks what every method must hold.

    It gives one relevance per explained input, of its shape, dtype and device, finite; one output and one label per
    sample; the same result when called again; for every sample what it gives for that sample alone; and it leaves
    model, input, random numbers and settings as they were, also when it is interrupted inside a module.

    Of a Method it is checked too that it says what it is (name, family, cost, advice, BibTeX), that its settings and
    its file can be read back, that ``passes`` and ``unfit`` answer and that it fits; that it gives the same by the same
    seed, as one of several targets, and within the memory of one sample; that it computes in double precision, samples
    apart to six digits; that a wrong target, layer or input is refused with the right error and leaves no trace; and
    its values at a layer.

    Args:
        method: a Method, its class, or its name; or any ``call(model, x) -> Explanation``.
        model: in evaluation mode.
        x: two samples or more: a tensor (N, ...), or a tuple or dict of tensors. For token ids, relevance is floating.
        target: what a Method explains, or a list with one for each sample.
        layer: a module at which a Method is read too.
        tolerance: relative to the largest relevance of a sample, for the comparison with the sample alone.
        interruptions: in how many modules, spread over the model, KeyboardInterrupt is raised.

    Raises:
        AssertionError: the message says what does not hold.
    """
    if isinstance(method, Method | str) or (isinstance(method, type) and issubclass(method, Method)):
        chosen = method_named(method)
        whole = _check_behaviour(
            lambda m, v, t: explain(m, v, target=t, method=chosen), model, x, target, tolerance, interruptions
        )
        check_conformance(chosen, model, x, whole, target=target, layer=layer, tolerance=tolerance)
    else:
        call = cast("Explain", method)
        _check_behaviour(lambda m, v, _: call(m, v), model, x, target, tolerance, interruptions)


def _check_behaviour(
    call: Callable[[nn.Module, Any, Any], Explanation],
    model: nn.Module,
    x: Any,
    target: Any,
    tolerance: float,
    interruptions: int,
) -> Explanation:
    """Call ``call(model, x, target)`` in many ways; gives what it gave for the whole batch."""
    result = check_restores(model, x, lambda: call(model, x, target))
    samples = _samples(x)
    _check_form(result, x, samples)
    again = call(model, x, target)
    for name, relevance in named_tensors(result.relevance).items():
        if not torch.equal(relevance, named_tensors(again.relevance)[name]):
            raise AssertionError(f"The relevance of input {name!r} is not the same when called twice.")
    for i in range(samples):
        _check_alone(result, call(model, sample_of(x, i), target_of(target, i)), i, tolerance)
    _check_interrupted(lambda: call(model, x, target), model, x, interruptions)
    return result


def _samples(x: Any) -> int:
    sizes = {tensor.shape[0] for tensor in named_tensors(x).values()}
    if len(sizes) != 1 or max(sizes) < 2:
        raise AssertionError(
            f"check_method needs an input of two samples or more, got first dimensions {sorted(sizes)}."
        )
    return int(sizes.pop())


def _check_form(result: object, x: Any, samples: int) -> None:
    if not isinstance(result, Explanation):
        raise AssertionError(f"Expected an Explanation, got {type(result).__name__}.")
    inputs, found = named_tensors(x), named_tensors(result.relevance)
    if not found:
        raise AssertionError("The explanation holds no relevance.")
    kinds = (Tensor, Mapping, tuple)
    if not any(isinstance(x, kind) and isinstance(result.relevance, kind) for kind in kinds):
        raise AssertionError(
            f"Relevance is structured as {type(result.relevance).__name__}, the input as {type(x).__name__}."
        )
    for name, relevance in found.items():
        given = inputs.get(name)
        if given is None:
            raise AssertionError(
                f"Relevance is given for {name!r}, which is no input; the inputs are {sorted(inputs)}."
            )
        if relevance.shape != given.shape:
            raise AssertionError(
                f"The relevance of input {name!r} has shape {tuple(relevance.shape)}, the input {tuple(given.shape)}."
            )
        if relevance.device != given.device:
            raise AssertionError(
                f"The relevance of input {name!r} is on {relevance.device}, the input on {given.device}."
            )
        if given.is_floating_point() and relevance.dtype != given.dtype:
            raise AssertionError(f"The relevance of input {name!r} is {relevance.dtype}, the input {given.dtype}.")
        if relevance.requires_grad:
            raise AssertionError(f"The relevance of input {name!r} holds on to a graph (requires_grad).")
        if not bool(torch.isfinite(relevance).all()):
            raise AssertionError(f"The relevance of input {name!r} is not finite everywhere.")
    if result.output.shape != (samples,) or len(result.target) != samples:
        raise AssertionError(
            f"Expected one output and one label for each of {samples} samples, got outputs of shape "
            f"{tuple(result.output.shape)} and {len(result.target)} labels."
        )


def _check_alone(result: Explanation, alone: Explanation, i: int, tolerance: float) -> None:
    pairs = {
        name: (whole[i : i + 1], named_tensors(alone.relevance)[name])
        for name, whole in named_tensors(result.relevance).items()
    }
    pairs["output"] = (result.output[i : i + 1], alone.output)
    for name, (together, single) in pairs.items():
        gap, scale = float((together - single).abs().max()), float(single.abs().max())
        if not gap <= tolerance * scale:
            what = "output" if name == "output" else f"relevance of input {name!r}"
            raise AssertionError(
                f"The {what} of sample {i} depends on its batch mates: off by {gap:.3g} from what it is alone, where "
                f"the largest is {scale:.3g}."
            )


def _check_interrupted(call: Callable[[], object], model: nn.Module, x: Any, interruptions: int) -> None:
    parts = [part for _, part in model.named_modules() if not isinstance(part, torch.jit.ScriptModule)]
    chosen = sorted(
        {round(k * (len(parts) - 1) / max(interruptions - 1, 1)) for k in range(min(interruptions, len(parts)))}
    )

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for k in chosen:
        handle = parts[k].register_forward_hook(interrupt)
        try:
            check_restores(model, x, call)
        except KeyboardInterrupt:
            continue
        finally:
            handle.remove()
