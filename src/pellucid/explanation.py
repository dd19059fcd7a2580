"""What an explanation is: relevance in the form of the input, the scalar that it explains, and its audit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.archive import write_archive
from pellucid.engine.ledger import Ledger
from pellucid.errors import InputError
from pellucid.show.colours import DEFAULT_MAP
from pellucid.show.shares import in_parts
from pellucid.structures import as_float, map_tensors, named_tensors, pack

Structure = Tensor | tuple[Tensor | None, ...] | dict[str, Tensor]
Pooling = Literal["sum", "abs", "positive"]
MOST_LABELS = 3
"""Different targets of a batch that a text names."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Relevance of an input for one scalar per sample. Immutable; tensors are held detached from any graph.

    Args:
        relevance: in the form of the input: a tensor, a tuple (None where an element was not explained), or a dict.
            Every tensor has its input's shape; for token ids one value per token.
        output: shape (batch,), the explained scalar of every sample.
        target: one label per sample, the name of the explained scalar.
        method: "lrp", "gradient", ...
        settings: how it was made, JSON-able; holds "composite" where there is one. "unit" names the unit of the
            relevance where it is not that of the output (a gradient's).
        citation: BibTeX of the method's paper.
        warnings: what a reader of the result must know.
        input: the explained input, in the form of ``relevance``; None if it was not kept.
        ledger: the audit of the whole batch; None for methods that promise no conservation.
        layers: relevance at further layers, by module name.
        details: further tensors of the method by name, first dimension the batch: "standard error" (in the shape of
            the relevance), "feature scores" (N, features), "channel scores" (N, channels), ...
        ledgers: the audit of every sample, where it was asked for; else none.

    Raises:
        InputError: ``output`` is not one scalar per sample, or ``target`` or ``ledgers`` has another length.
    """

    relevance: Structure
    output: Tensor
    target: tuple[str, ...]
    method: str
    settings: Mapping[str, object] = field(default_factory=dict)
    citation: str = ""
    warnings: tuple[str, ...] = ()
    input: Any = None
    ledger: Ledger | None = None
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    details: Mapping[str, Tensor] = field(default_factory=dict)
    ledgers: tuple[Ledger, ...] = ()

    def __post_init__(self) -> None:
        if self.output.ndim != 1:
            raise InputError(
                f"output must hold one scalar per sample, shape (batch,); got shape {tuple(self.output.shape)}."
            )
        if isinstance(self.target, str) or len(self.target) != len(self.output):
            raise InputError(f"target must hold one label per sample, {len(self.output)} in all; got {self.target!r}.")
        if self.ledgers and len(self.ledgers) != len(self.output):
            raise InputError(
                f"ledgers must hold one ledger per sample, {len(self.output)} in all, or none; got {len(self.ledgers)}."
            )
        keep: dict[str, Any] = {
            "relevance": map_tensors(Tensor.detach, self.relevance),
            "output": self.output.detach(),
            "target": tuple(self.target),
            "settings": MappingProxyType(dict(self.settings)),
            "warnings": tuple(self.warnings),
            "ledgers": tuple(self.ledgers),
            "input": map_tensors(Tensor.detach, self.input),
            "layers": MappingProxyType({name: tensor.detach() for name, tensor in self.layers.items()}),
            "details": MappingProxyType({name: tensor.detach() for name, tensor in self.details.items()}),
        }
        named = self.scalar + (f", summed over {len(self)} samples" if len(self) > 1 else "")
        if self.ledger is not None and self.ledger.scalar != named:
            keep["ledger"] = replace(self.ledger, scalar=named)
        for name, value in keep.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_attribution(
        cls,
        attribution: Any,
        x: Any = None,
        *,
        output: Any = None,
        target: int | str | Sequence[int | str] | None = None,
        method: str | None = None,
        settings: Mapping[str, object] | None = None,
        citation: str = "",
    ) -> Explanation:
        """Take in what another library made, to draw, save and compare it as any explanation.

        Args:
            attribution: a tensor or array (N, ...), or a tuple or dict of them for several inputs (Captum, zennit);
                a ``shap.Explanation``; LIME's explanation of a row, a text or a picture, whose segments share their
                weight equally among their pixels.
            x: the explained input, in the form that the model takes; relevance then gets its shape. Channels may come
                last, one map may stand for all channels, vectors of tokens are summed.
            output: the explained scalar of every sample, (N,). None: what SHAP or LIME holds of it, else NaN.
            target: its label, one for all samples or one per sample; where several outputs were explained, which one,
                by name or index.
            method: its name; None: "shap", "lime" or "attribution".
            settings: how it was made, JSON-able.
            citation: BibTeX.

        Returns:
            Explanation; SHAP's with an output given has a ledger: base value, values, and what they miss of the output.

        Raises:
            InputError: it is none of these, or shapes, samples or labels do not fit.
        """
        from pellucid.intake import from_attribution

        return from_attribution(
            attribution, x, output=output, target=target, method=method, settings=settings, citation=citation
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings cannot be pickled; copies and worker processes rebuild the object from plain dicts.
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values |= {name: dict(getattr(self, name)) for name in ("settings", "layers", "details")}
        return type(self), tuple(values.values())

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.output)

    def __iter__(self) -> Iterator[Explanation]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int | slice) -> Explanation:
        """One sample, or a slice of them, as an explanation whose tensors keep the batch dimension.

        The ledger is a total over the batch: a part of the batch has one only where that of every sample was asked for
        (``pellucid.explain(..., ledger="sample")``).

        Raises:
            IndexError: there is no such sample (so that iteration ends).
            InputError: a relevance tensor's first dimension is not the batch.
        """
        size = len(self)
        if isinstance(index, slice):
            part = list(range(size))[index]
        else:
            if not -size <= index < size:
                raise IndexError(f"sample {index} of an explanation of {size} samples")
            part = [index % size]
        if part == list(range(size)):
            return self

        for name, tensor in self.named().items():
            if tensor.shape[:1] != (size,):
                raise InputError(
                    f"samples cannot be told apart: the relevance of input {name!r} has shape {tuple(tensor.shape)}, "
                    f"whose first dimension is not the batch of {size}."
                )

        def take(tensor: Tensor) -> Tensor:
            return tensor[part] if tensor.shape[:1] == (size,) else tensor

        ledgers = tuple(self.ledgers[place] for place in part) if self.ledgers else ()
        left_out = [name for name, tensor in self.layers.items() if tensor.shape[:1] != (size,)]
        notes = tuple(
            f"relevance at layer {name!r} was left out of this sample: its first dimension is not the batch"
            for name in left_out
        )
        return replace(
            self,
            relevance=map_tensors(take, self.relevance),
            output=self.output[part],
            target=tuple(self.target[place] for place in part),
            warnings=self.warnings + notes,
            input=map_tensors(take, self.input),
            ledger=Ledger.of_batch(ledgers) if ledgers else None,
            ledgers=ledgers,
            layers={name: tensor[part] for name, tensor in self.layers.items() if name not in left_out},
            details={name: take(tensor) for name, tensor in self.details.items()},
        )

    def __repr__(self) -> str:
        labels = [f"{label} = {value:.4g}" for label, value in zip(self.target[:3], self.output.tolist(), strict=False)]
        more = f", ... ({len(self)} samples)" if len(self) > 3 else ""
        parts = [f"{self.method}: {', '.join(labels)}{more}"]
        shares = [share for share in self.share.tolist() if math.isfinite(share)]
        if shares and "unit" not in self.settings:
            low, high = (in_parts(value) for value in (min(shares), max(shares)))
            parts.append(f"{low if low == high else f'{low} to {high}'} of it arrived")
        return f"Explanation({'; '.join(parts)})"

    @property
    def scalar(self) -> str:
        """The explained scalar in words, of a batch the different ones: "tabby~rest", "tabby, tiger cat"."""
        labels = list(dict.fromkeys(self.target))
        return ", ".join(labels[:MOST_LABELS]) + (", ..." if len(labels) > MOST_LABELS else "")

    def named(self) -> dict[str, Tensor]:
        """The relevance tensors by input name: "x" for a lone tensor, else the dict's key or the tuple's index."""
        return named_tensors(self.relevance)

    @property
    def share(self) -> Tensor:
        """Shape (batch,), float64: the sum of the relevance over the output; NaN where the output is 0.

        NaN as well where the samples of a batch cannot be told apart in a relevance tensor.
        """
        size = len(self)
        total = torch.zeros(size, dtype=torch.float64)
        for tensor in self.named().values():
            if tensor.shape[:1] == (size,):
                total += as_float(tensor).reshape(size, -1).sum(1)
            else:
                total += as_float(tensor).sum() if size == 1 else math.nan
        output = as_float(self.output)
        return torch.where(output == 0, math.nan, total / output)

    def pool(self, mode: Pooling = "sum") -> Structure:
        """Relevance without its channel dimension, in the form of the input.

        Images (N, C, H, W) and volumes (N, C, D, H, W) lose dimension 1, sequences of embeddings (N, L, E) the last;
        (N, L) and (N,) hold one value per place already and keep their shape. 16-bit floats become float32.

        Args:
            mode: "sum" adds the channels and keeps the total; "abs" adds their magnitudes; "positive" adds what is
                above zero.

        Raises:
            InputError: another mode.
        """
        parts: dict[str, Callable[[Tensor], Tensor]] = {
            "sum": lambda tensor: tensor,
            "abs": torch.abs,
            "positive": lambda tensor: tensor.clamp(min=0),
        }
        if mode not in parts:
            raise InputError(f"pool must be one of 'sum', 'abs', 'positive'; got {mode!r}.")

        def pooled(tensor: Tensor) -> Tensor:
            values = parts[mode](tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor)
            if tensor.ndim < 3:
                return values
            return values.sum(-1 if tensor.ndim == 3 else 1)

        result: Structure = map_tensors(pooled, self.relevance)
        return result

    def numpy(self) -> Any:
        """The relevance as NumPy arrays, in the form of the input; bf16 becomes float32, which NumPy can hold."""

        def array(tensor: Tensor) -> np.ndarray[Any, Any]:
            tensor = tensor.cpu()
            return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()

        return map_tensors(array, self.relevance)

    def to(self, device: str | torch.device) -> Explanation:
        """The same explanation with every tensor on ``device``."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device)

        return replace(
            self,
            relevance=map_tensors(move, self.relevance),
            output=move(self.output),
            input=map_tensors(move, self.input),
            layers={name: move(tensor) for name, tensor in self.layers.items()},
            details={name: move(tensor) for name, tensor in self.details.items()},
        )

    def plot(
        self,
        *,
        scale: float | None = None,
        cmap: str = DEFAULT_MAP,
        ax: Any = None,
        pool: Pooling = "sum",
        labels: Sequence[str] | None = None,
    ) -> Any:
        """Draw the relevance with matplotlib: pictures, coloured words, bars or a line, as its shape asks.

        See :func:`pellucid.show.plot.plot`, which takes the same arguments.
        """
        from pellucid.show.plot import plot

        return plot(self, scale=scale, cmap=cmap, ax=ax, pool=pool, labels=labels)

    def to_html(self) -> str:
        """A self-contained HTML fragment: pictures, explained scalars, ledger, settings, warnings, citation."""
        from pellucid.show.html import to_html

        return to_html(self)

    def _repr_html_(self) -> str:
        return self.to_html()

    def save(self, path: str | os.PathLike[str], *, input: bool = False) -> None:
        """Write one .pellucid file (safetensors with JSON metadata), which :func:`pellucid.load` reads back.

        Args:
            path: where to; an existing file is replaced.
            input: save the explained input too. Left out unless asked: it may be private.

        Raises:
            InputError: something held cannot be written, or ``input=True`` and the input was not kept.
            FileError: the file cannot be written.
        """
        content, tensors = self.packed(input=input)
        write_archive(path, kind="explanation", fields=content, tensors=tensors)

    def packed(self, *, input: bool = False) -> tuple[dict[str, object], dict[str, Tensor]]:
        """What a file keeps: JSON-able fields, and the tensors that they name.

        Raises:
            InputError: ``input=True`` and the input was not kept.
        """
        if input and self.input is None:
            raise InputError("save(input=True): this explanation holds no input. Save it without the input.")
        tensors = {"output": self.output}
        for kind, held in (("layers", self.layers), ("details", self.details)):
            tensors |= {f"{kind}/{name}": value for name, value in held.items()}
        content: dict[str, object] = {
            "relevance": pack("relevance", self.relevance, tensors),
            "input": pack("input", self.input if input else None, tensors),
            "target": list(self.target),
            "method": self.method,
            "settings": dict(self.settings),
            "citation": self.citation,
            "warnings": list(self.warnings),
            "ledger": None if self.ledger is None else self.ledger.to_dict(),
            "ledgers": [ledger.to_dict() for ledger in self.ledgers],
            "layers": list(self.layers),
            "details": list(self.details),
        }
        return content, tensors

    def to_dict(self) -> dict[str, object]:
        """A summary that JSON can hold: everything but the arrays, of which shape, type, sum and range are told.

        :meth:`save` keeps the arrays themselves.
        """
        return {
            "method": self.method,
            "target": list(self.target),
            "output": [_plain(value) for value in self.output.tolist()],
            "share": [_plain(value) for value in self.share.tolist()],
            "relevance": {name: _summary(tensor) for name, tensor in self.named().items()},
            "layers": {name: _summary(tensor) for name, tensor in self.layers.items()},
            "details": {name: _summary(tensor) for name, tensor in self.details.items()},
            "ledger": None if self.ledger is None else self.ledger.to_dict(),
            "settings": dict(self.settings),
            "citation": self.citation,
            "warnings": list(self.warnings),
        }


def _summary(tensor: Tensor) -> dict[str, object]:
    values = as_float(tensor)
    finite = values[torch.isfinite(values)]
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "sum": _plain(values.sum().item()),
        "min": finite.min().item() if len(finite) else None,
        "max": finite.max().item() if len(finite) else None,
        "not_finite": values.numel() - len(finite),
    }


def _plain(value: float) -> float | None:
    """JSON has no NaN and no infinity; None stands for both."""
    return value if math.isfinite(value) else None
