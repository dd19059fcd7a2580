"""FullGrad (Srinivas 2019): the gradients at the input and at every bias, which together are the whole output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from pellucid.engine.book import Book
from pellucid.engine.graph import Edge
from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.passes import Scalar
from pellucid.engine.point import Kind, Point
from pellucid.engine.recording import run_recorded
from pellucid.errors import InputError
from pellucid.methods.base import Cost, Family, per_sample_sum
from pellucid.methods.bias_terms import Recorded, Term, parameter_names
from pellucid.methods.points import AtPoints, PointMethod, by_token, shaped
from pellucid.methods.positions.finding import layout_of
from pellucid.methods.positions.layout import Field, InputShape, Layout
from pellucid.methods.positions.origins import Origins
from pellucid.methods.positions.resize import spread

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["FullGrad"]

_CITATION = """@inproceedings{srinivas2019,
  author = {Srinivas, Suraj and Fleuret, Francois},
  title = {Full-Gradient Representation for Neural Network Visualization},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2019}
}"""


@dataclass(frozen=True)
class FullGrad(PointMethod):
    """The output as input-gradients and bias-gradients of every layer (Srinivas 2019).

    ``f(x) = sum x df/dx + sum over layers b df/db`` (proposition 1), which the ledger adds up layer by layer: biases,
    the implicit ones of batch-norms (``-mean scale + shift``), and for functions that are not piecewise linear through
    zero (sigmoids, softmax, norms, products) what their first-order part leaves over, as "taylor remainder". ReLU
    networks have no such remainders. As a map there are two forms:

    * "saliency" (eq. 5): the sum of ``psi(x df/dx)`` over channels and of ``psi(b df/db)`` over the channels of all
      layers with positions, where psi takes the absolute value, scales every layer of every sample to [0, 1] and
      resizes it to the input. Shared equally among the channels of the input, so that their sum is that map.
    * "signed": the terms as they are, resized so that their sums stay and shared equally among the channels; what has
      no position is shared equally among all features. It sums to the output.

    At a layer it is the full gradient of the part of the network behind it.

    Args:
        form: which map.

    Raises:
        InputError: no such form.
    """

    form: Literal["saliency", "signed"] = "saliency"

    name: ClassVar[str] = "fullgrad"
    family: ClassVar[Family] = "gradient"
    cost: ClassVar[str] = "1 forward + gradient"
    needs: ClassVar[str] = "any model; meant for ReLU networks with positions"
    advice: ClassVar[str] = "Where in an image a ReLU network looks, with what its biases add; audited."
    citation: ClassVar[str] = _CITATION

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.form not in ("saliency", "signed"):
            raise InputError(f"Expected form as 'saliency' or 'signed', got {self.form!r}.")

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One, and a forward to see what is explained."""
        return Cost(1, 1)

    def at(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor]) -> AtPoints:
        """See the class."""
        book = Book()
        parts = [self._of_rows(call, scalar, points, chunk.rows, book) for chunk in call.function.chunks(1)]
        values = {point: torch.cat([part[point] for part in parts]) for point in points}
        unit = {"unit": "saliency"} if self.form == "saliency" else {}
        return AtPoints(values, book.close(scalar.output.double().sum()), settings=unit)

    def _of_rows(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], rows: Tensor, book: Book
    ) -> dict[Point, Tensor]:
        """The maps of some samples; one by one where it is not plain which part of a term is whose."""
        findings = call.shadow.findings
        if len(rows) > 1 and _APART not in findings:
            found = self._terms(call, scalar, points, rows)
            if found.each_adds_up():
                found.enter(book)
                return found.maps()
            findings[_APART] = True
        ones = [self._alone(call, scalar, points, row[None], book) for row in rows]
        return {point: torch.cat([one[point] for one in ones]) for point in points}

    def _alone(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], row: Tensor, book: Book
    ) -> dict[Point, Tensor]:
        """The maps of one sample: run twice at once where the model takes another way for one alone."""
        key = ("full gradients of pairs", scalar.layers, *((point, value.shape[1:]) for point, value in points.items()))
        findings = call.shadow.findings
        if findings.get(key):
            pair = self._terms(call, scalar, points, row.expand(2))
            if pair.each_adds_up():
                pair.enter(book, share=0.5)
                return {point: value[:1] for point, value in pair.maps().items()}
        found = self._terms(call, scalar, points, row)
        if key not in findings:
            findings[key] = found.goes_another_way
            if found.goes_another_way:
                return self._alone(call, scalar, points, row, book)
        found.enter(book)
        return found.maps()

    def _terms(self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], rows: Tensor) -> _Terms:
        return _Terms(call, scalar, points, rows, saliency=self.form == "saliency")


_APART = "full gradients one by one"


class _Terms:
    """Input-gradients and bias-gradients of some samples, these as maps over positions.

    Args:
        call: runs the model.
        scalar: what is explained.
        points: values at the explained inputs, or at a layer.
        rows: (n,) which samples.
        saliency: which form of maps.
    """

    def __init__(
        self, call: Call, scalar: Scalar, points: Mapping[Point, Tensor], rows: Tensor, *, saliency: bool
    ) -> None:
        def record(rows: Tensor) -> Recorded:
            here = {point: value[rows] for point, value in points.items()}
            run = run_recorded(call.function, here, rows, list(points), read=read)
            return Recorded(run, scalar, rows, parameter_names(call.shadow.module))

        read = [call.function.layer(name) for name in scalar.layers]
        self._saliency = saliency
        self._values = {point: value[rows] for point, value in points.items()}
        self._shapes = {
            point.name: InputShape(
                tuple(value.shape[:-1] if point.kind is Kind.LOOK_UP else value.shape), point.kind is Kind.LOOK_UP
            )
            for point, value in self._values.items()
        }
        recorded = record(rows)
        self._positions = _Positions(call, recorded, self._shapes, len(rows), lambda: record(rows.expand(2)))
        self._scalars = recorded.scalars.double()
        self._booked: list[tuple[str, str, Tensor]] = []
        self._fields: dict[object, tuple[Field, Tensor]] = {}
        self._sums, self._rest = torch.zeros_like(self._scalars), torch.zeros_like(self._scalars)
        gradients = recorded.gradients(self._add)
        self._products = {point: value * gradients[point] for point, value in self._values.items()}

    def _add(self, term: Term) -> None:
        """One bias-gradient."""
        count, value = len(self._sums), term.value
        self._booked.append((term.source, term.module, value.sum(dtype=torch.float64)))
        layout = self._positions.of(term.edge)
        if layout is None:
            own = value.reshape(count, -1) if value.numel() % count == 0 else value.new_full((count, 1), torch.nan)
            total = own.sum(1, dtype=torch.float64)
            self._sums += total
            self._rest += total
            return
        every = replace(layout, kept=None).unfold(value)
        kept = every if layout.kept is None else every.index_select(2, layout.kept.to(every.device))
        total = every.sum((1, 2), dtype=torch.float64)
        self._sums += total
        self._rest += total - kept.sum((1, 2), dtype=torch.float64)
        flat = _scaled(kept.abs()).sum(1) if self._saliency else kept.sum(1)
        for field in layout.fields:
            key = (field.grid, tuple(field.inputs.items()))
            part = flat[:, field.part].reshape(count, *field.grid)
            self._fields[key] = (field, self._fields[key][1] + part if key in self._fields else part)

    def each_adds_up(self) -> bool:
        """Whether the terms of every sample sum to its output."""
        inputs = per_sample_sum(self._products)
        size = torch.maximum(self._scalars.abs(), inputs.abs())
        narrow = accumulation_dtype(next(iter(self._values.values())).dtype) is torch.float32
        return bool(((inputs + self._sums - self._scalars).abs() <= (1e-2 if narrow else 1e-6) * size + 1e-9).all())

    def enter(self, book: Book, *, share: float = 1.0) -> None:
        """Write all amounts down, or this share of them."""
        for source, module, amount in self._booked:
            book.add(source, module, amount * share)
        for point, product in self._products.items():
            book.add("input", point.name, product.sum(dtype=torch.float64) * share)

    @property
    def goes_another_way(self) -> bool:
        """Whether the model ran other operations for one sample than it does for two."""
        return self._positions.another_way

    def maps(self) -> dict[Point, Tensor]:
        """What the inputs got and what is resized to them, terms as they are or absolute and scaled."""
        if self._saliency:
            values = {point: by_token(point, _scaled(product.abs())) for point, product in self._products.items()}
        else:
            values = {point: by_token(point, product) for point, product in self._products.items()}
            everywhere = self._rest / sum(value[0].numel() for value in values.values())
            values = {point: value + shaped(everywhere.to(value.dtype), value) for point, value in values.items()}
        first = {point.name: point for point in reversed(values)}
        for field, part in self._fields.values():
            for name in field.inputs:
                share = part / len(field.inputs)
                resized = spread(share, field, name, self._shapes[name], shares=not self._saliency)
                values[first[name]] = values[first[name]] + resized.to(values[first[name]].dtype)
        return values


class _Positions:
    """Layouts of what a run's operations gave, found once for a model and kind of input.

    Args:
        call: keeps what is found.
        recorded: the run.
        inputs: shapes of the values at the points, by name.
        count: rows of the run.
        twice: makes a run of two equal rows, by which the dimension of samples shows itself where there is one alone.
    """

    def __init__(
        self,
        call: Call,
        recorded: Recorded,
        inputs: Mapping[str, InputShape],
        count: int,
        twice: Callable[[], Recorded],
    ) -> None:
        graph = recorded.graph
        shapes = tuple((name, shape.shape[1:]) for name, shape in inputs.items())
        key = ("positions in full gradients", shapes, tuple(graph.names))
        self._found: dict[Edge, Layout | None] = call.shadow.findings.setdefault(key, {})
        self._recorded, self._inputs, self._count, self._twice = recorded, inputs, count, twice
        self._origins: Origins | None = None
        self.another_way = False
        """Whether a run of two rows has other operations than this one."""

    def of(self, edge: Edge) -> Layout | None:
        """The layout of the value on ``edge``; None where it has no positions, or they cannot be told."""
        if edge not in self._found:
            self._found[edge] = self._look(edge)
        layout = self._found[edge]
        if layout is None:
            return None
        ndim = len(self._recorded.graph.shape(edge)) + (layout.split is not None)
        return layout if ndim == 1 + len(layout.features) + len(layout.positions) else None

    def _look(self, edge: Edge) -> Layout | None:
        if self._origins is None:
            here = self._recorded if self._count > 1 else self._twice()
            names = {i: point.name for i, point in here.sources.items()}
            self._origins = Origins(here.graph, here.run.recorder, names)
            self._count = max(self._count, 2)
        if self._origins.graph.names != self._recorded.graph.names:
            self.another_way = True
            return None
        return layout_of(self._origins, edge, self._count, self._inputs)


def _scaled(sizes: Tensor) -> Tensor:
    """(n, ...) scaled to [0, 1] over each sample; 0 where all are equal."""
    flat = sizes.reshape(len(sizes), -1)
    low, high = (shaped(bound, sizes) for bound in (flat.amin(1), flat.amax(1)))
    width = high - low
    return (sizes - low) / torch.where(width > 0, width, 1)
