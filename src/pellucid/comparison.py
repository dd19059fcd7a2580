"""Several methods on one question: their explanations side by side, how far they agree, what each cost."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pellucid.archive import write_archive
from pellucid.errors import InputError
from pellucid.explanation import Explanation, Pooling
from pellucid.show.colours import DEFAULT_MAP
from pellucid.structures import as_float, named_tensors

__all__ = ["Comparison", "Spent"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a method used for the whole batch.

    Args:
        seconds: wall clock, everything included.
        forwards: samples run forward without a gradient; None where nobody counted.
        gradients: samples run forward and backward.
    """

    seconds: float
    forwards: int | None = None
    gradients: int | None = None

    def __str__(self) -> str:
        passes = [
            f"{count:,} {what}{'' if count == 1 else 's'}".replace(",", " ")
            for count, what in ((self.forwards, "forward"), (self.gradients, "gradient"))
            if count
        ]
        return ", ".join([seconds_text(self.seconds), *passes])


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Explanations of the same scalars of the same samples by several methods. Immutable.

    Args:
        explanations: by the name of the method, in the order asked for; a name says its settings where one method was
            asked for with several.
        costs: what each used, by the same names.
        left_out: methods that gave nothing, with the reason.
        warnings: what a reader of the whole must know; those of single methods are in their explanations.

    Raises:
        InputError: there is no explanation, they differ in samples, or one has no cost.
    """

    explanations: Mapping[str, Explanation]
    costs: Mapping[str, Spent]
    left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = {name: len(one) for name, one in self.explanations.items()}
        if not sizes:
            raise InputError("a comparison needs at least one explanation.")
        if len(set(sizes.values())) > 1:
            raise InputError(f"the explanations of a comparison must be of the same samples; got {sizes} of them.")
        if set(self.costs) != set(sizes):
            raise InputError(f"costs must be given for {sorted(sizes)}; got them for {sorted(self.costs)}.")
        for name in ("explanations", "costs", "left_out"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        object.__setattr__(self, "warnings", tuple(self.warnings))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.explanations), dict(self.costs), dict(self.left_out), self.warnings)

    def __len__(self) -> int:
        """The number of methods that gave an explanation."""
        return len(self.explanations)

    def __iter__(self) -> Iterator[str]:
        return iter(self.explanations)

    def __getitem__(self, method: str) -> Explanation:
        """The explanation by ``method``.

        Raises:
            InputError: it is not in the comparison; says why where that is known.
        """
        if method not in self.explanations:
            why = f" {method} was left out: {self.left_out[method]}" if method in self.left_out else ""
            raise InputError(f"no method {method!r} in this comparison.{why} There are {', '.join(self)}.")
        return self.explanations[method]

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.explanations)

    @property
    def target(self) -> tuple[str, ...]:
        """One label per sample, the name of the explained scalar."""
        return next(iter(self.explanations.values())).target

    @property
    def output(self) -> Tensor:
        """Shape (batch,), the explained scalars."""
        return next(iter(self.explanations.values())).output

    def sample(self, index: int | slice) -> Comparison:
        """One sample, or a slice of them; the costs stay those of the whole batch.

        Raises:
            InputError: there is no such sample.
        """
        try:
            parts = {name: one[index] for name, one in self.explanations.items()}
        except IndexError as error:
            raise InputError(f"there is no sample {index} in a comparison of {len(self.target)} samples.") from error
        return Comparison(parts, self.costs, self.left_out, self.warnings)

    def agreement(self, pool: Pooling = "sum") -> Tensor:
        """How alike the methods order the places of the input: Spearman's rank correlation, -1 to 1.

        Of the pooled maps (all explained inputs together), sample by sample, averaged over the samples; places of equal
        relevance share their mean rank.

        Args:
            pool: over the channels, as in :meth:`Explanation.pool`.

        Returns:
            (methods, methods), float64; NaN where a map is constant, not finite, or of another shape.
        """
        return _averaged(self._maps(pool), _correlations)

    def overlap(self, part: float = 0.1, pool: Pooling = "sum") -> Tensor:
        """The share of the most relevant places that two methods have in common, 0 to 1; by chance it is ``part``.

        Args:
            part: which share of the places counts as the most relevant.
            pool: over the channels, as in :meth:`Explanation.pool`.

        Returns:
            (methods, methods), float64, averaged over the samples. Places that tie at the border count in parts.

        Raises:
            InputError: ``part`` is not between 0 and 1.
        """
        if not 0 < part < 1:
            raise InputError(f"part must be a share between 0 and 1, such as 0.1; got {part!r}.")
        return _averaged(self._maps(pool), lambda maps: _overlaps(maps, part))

    def _maps(self, pool: Pooling) -> list[Tensor]:
        """For every method its pooled relevance, (batch, places), float64, of the inputs that all explain."""
        pooled = [named_tensors(one.pool(pool)) for one in self.explanations.values()]
        common = [name for name in pooled[0] if all(name in other for other in pooled)]
        size = len(self.target)
        return [
            torch.cat([as_float(maps[name]).reshape(size, -1) for name in common] or [torch.zeros(size, 0)], 1)
            for maps in pooled
        ]

    def __repr__(self) -> str:
        labels = ", ".join(self.target[:3]) + (", ..." if len(self.target) > 3 else "")
        out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"Comparison({labels}: {', '.join(self)}{out})"

    def __str__(self) -> str:
        """Costs and agreement as a table."""
        numbers = [str(number) for number in range(1, len(self) + 1)]
        head = ("", "method", "cost", *numbers)
        rows = [
            (number, name, str(self.costs[name]), *map(correlation_text, line))
            for number, name, line in zip(numbers, self, self.agreement().tolist(), strict=True)
        ]
        widths = [max(len(line[k]) for line in (head, *rows)) for k in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if k in (1, 2) else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in (head, *rows)
        ]
        first = next(iter(self.explanations.values()))
        lines.append(f"explained scalar: {first.scalar}")
        lines.append("numbers: Spearman's rank correlation of the pooled maps")
        lines += [f"left out: {name}: {reason}" for name, reason in self.left_out.items()]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def plot(
        self,
        *,
        cmap: str = DEFAULT_MAP,
        pool: Pooling = "sum",
        labels: Sequence[str] | None = None,
        input: str | int | None = None,
        sample: int = 0,
    ) -> Any:
        """Draw one sample's maps side by side and the agreement of the methods, with matplotlib.

        See :func:`pellucid.show.comparison_plot.plot`, which takes the same arguments.
        """
        from pellucid.show.comparison_plot import plot

        return plot(self, cmap=cmap, pool=pool, labels=labels, input=input, sample=sample)

    def to_html(self) -> str:
        """A self-contained HTML fragment: the maps side by side, agreement, costs, what was left out, citations."""
        from pellucid.show.comparison_html import to_html

        return to_html(self)

    def _repr_html_(self) -> str:
        return self.to_html()

    def save(self, path: str | os.PathLike[str], *, input: bool = False) -> None:
        """Write one .pellucid file, which :func:`pellucid.load` reads back.

        Args:
            path: where to; an existing file is replaced.
            input: save the explained input too, once. Left out unless asked: it may be private.

        Raises:
            InputError: something held cannot be written, or ``input=True`` and the input was not kept.
            FileError: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        items = []
        for number, (name, one) in enumerate(self.explanations.items()):
            content, held = one.packed(input=input and number == 0)
            tensors |= {f"{number}/{key}": tensor for key, tensor in held.items()}
            items.append({"label": name, "fields": content, "cost": asdict(self.costs[name])})
        fields = {"explanations": items, "left_out": dict(self.left_out), "warnings": list(self.warnings)}
        write_archive(path, kind="comparison", fields=fields, tensors=tensors)

    def to_dict(self) -> dict[str, object]:
        """A summary that JSON can hold: everything but the arrays. Matrices are lists of lists, None for NaN."""
        return {
            "methods": list(self),
            "target": list(self.target),
            "output": _plain(self.output),
            "agreement": _plain(self.agreement()),
            "overlap": _plain(self.overlap()),
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "left_out": dict(self.left_out),
            "warnings": list(self.warnings),
            "explanations": {name: one.to_dict() for name, one in self.explanations.items()},
        }


def seconds_text(seconds: float) -> str:
    """A duration in two or three digits: "0.052 s", "3.1 s", "2 min 5 s"."""
    if seconds < 120:
        return f"{seconds:.3f} s" if seconds < 0.1 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def correlation_text(value: float) -> str:
    """ "0.83", "-" for NaN."""
    return "-" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")


def _averaged(maps: list[Tensor], measure: Any) -> Tensor:
    """``measure`` of the maps of every sample, (methods, places) -> (methods, methods), averaged over the samples."""
    widths = [one.shape[1] for one in maps]
    usual = max(set(widths), key=widths.count)
    fitting = [k for k, width in enumerate(widths) if width == usual and width > 0]
    result = torch.full((len(maps), len(maps)), math.nan, dtype=torch.float64)
    if fitting:
        stacked = torch.stack([maps[k] for k in fitting], 1)  # (batch, methods, places)
        found = torch.stack([measure(sample) for sample in stacked]).nanmean(0)
        index = torch.tensor(fitting)
        result[index[:, None], index] = found
    return result


def _correlations(maps: Tensor) -> Tensor:
    """Spearman's correlation of the rows of (methods, places)."""
    centred = torch.stack([_ranks(row) - (len(row) + 1) / 2 for row in maps])
    norms = centred.norm(dim=1, keepdim=True)
    unit = centred / torch.where(norms > 0, norms, math.nan)
    return (unit @ unit.T).clamp(-1, 1)


def _ranks(row: Tensor) -> Tensor:
    """Ranks from 1, the mean rank where values are equal; NaN all over where one is not finite."""
    if not bool(torch.isfinite(row).all()):
        return torch.full_like(row, math.nan)
    _, place, counts = torch.unique(row, return_inverse=True, return_counts=True)
    ranks: Tensor = counts.cumsum(0).to(row.dtype) - (counts - 1) / 2
    return ranks[place]


def _overlaps(maps: Tensor, part: float) -> Tensor:
    """The common share of the rows' highest values."""
    chosen = max(1, round(part * maps.shape[1]))
    members = torch.stack([_membership(row, chosen) for row in maps])
    return torch.stack([torch.minimum(members, one).sum(1) / chosen for one in members])


def _membership(row: Tensor, chosen: int) -> Tensor:
    """1 for the ``chosen`` highest values, an equal part of what is left for those that tie at the border."""
    if not bool(torch.isfinite(row).all()):
        return torch.full_like(row, math.nan)
    border = row.topk(chosen).values[-1]
    above, tied = (row > border).to(row.dtype), (row == border).to(row.dtype)
    return above + tied * (chosen - above.sum()) / tied.sum()


def _plain(tensor: Tensor) -> Any:
    """Lists of numbers, None for what JSON does not know."""
    if tensor.ndim > 1:
        return [_plain(line) for line in tensor]
    return [value if math.isfinite(value) else None for value in tensor.tolist()]
