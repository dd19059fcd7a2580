"""The ledger: where the explained output went, entry by entry, and what no formula accounts for.

Every entry is a formula of values and densities at the node where relevance leaves the walk. Only ``unaccounted`` is a
difference, ``output - sum of the entries``: it is always shown, and it is 0 up to rounding when the walk is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pellucid.errors import InputError

SOURCES = (
    "input",
    "baseline",
    "bias",
    "learned token",
    "embedding",
    "constant",
    "offset",
    "softmax",
    "softmax and mask",
    "stabiliser",
    "lost at zero",
    "not kept",
    "taylor remainder",
)
"""What relevance can end in, in the order in which a ledger prints."""

UNACCOUNTED = "unaccounted"


def exact_sum(amounts: Iterable[float]) -> float:
    """Sum without rounding on the way; NaN or infinite as plain addition gives it when an amount is not finite."""
    values = list(amounts)
    if all(map(math.isfinite, values)):
        try:
            return math.fsum(values)
        except OverflowError:
            # fsum refuses what leaves the range of a double; plain addition gives the infinity that is meant.
            return sum(values)
    return sum(values)


@dataclass(frozen=True)
class Entry:
    """Relevance that ended at one place.

    Args:
        source: one of :data:`SOURCES`.
        module: path of the module that holds it; for ``input`` the input's name ("x", the dict key or the tuple index).
        amount: in units of the explained scalar, summed over the batch.

    Raises:
        InputError: ``source`` is not one of :data:`SOURCES`.
    """

    source: str
    module: str
    amount: float

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise InputError(
                f"a ledger entry's source must be one of {', '.join(map(repr, SOURCES))}; got {self.source!r} "
                f"at module {self.module!r}."
            )
        object.__setattr__(self, "amount", float(self.amount))


@dataclass(frozen=True)
class Ledger:
    """The audit of an explanation: ``total = sum of the entries + unaccounted``.

    Args:
        total: the explained output, summed over the batch.
        entries: where it went; several entries may share source and module.
        scalar: what the output is called ("tabby~rest"); the explanation that holds the ledger sees to it.

    Prints as a table: source, modules, amount, share of the output. The line ``unaccounted`` is always there; the last
    one names the explained scalar.
    """

    total: float
    entries: tuple[Entry, ...]
    scalar: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", float(self.total))
        object.__setattr__(self, "entries", tuple(self.entries))

    @classmethod
    def of_batch(cls, ledgers: Iterable[Ledger]) -> Ledger:
        """The ledger of several samples from that of each: amounts of the same source and module are added."""
        each = list(ledgers)
        amounts: dict[tuple[str, str], list[float]] = {}
        for entry in (entry for ledger in each for entry in ledger.entries):
            amounts.setdefault((entry.source, entry.module), []).append(entry.amount)
        entries = tuple(Entry(source, module, exact_sum(parts)) for (source, module), parts in amounts.items())
        return cls(exact_sum(ledger.total for ledger in each), entries)

    @property
    def inputs(self) -> float:
        """What reached the explained inputs: the sum of the entries with source ``input``."""
        return exact_sum(entry.amount for entry in self.entries if entry.source == "input")

    @property
    def unaccounted(self) -> float:
        """``total`` less all entries: 0 up to rounding, or something was lost without a formula for it."""
        return exact_sum([self.total, *(-entry.amount for entry in self.entries)])

    @property
    def amounts(self) -> dict[str, float]:
        """Amounts summed by source, in the order of :data:`SOURCES`; ``unaccounted`` comes last."""
        grouped = self._by_source()
        sums = {source: exact_sum(modules.values()) for source, modules in grouped.items()}
        return {**sums, UNACCOUNTED: self.unaccounted}

    @property
    def by_layer(self) -> dict[str, dict[str, float]]:
        """For every module, in the order met, its amounts by source."""
        layers: dict[str, dict[str, float]] = {}
        for entry in self.entries:
            sources = layers.setdefault(entry.module, {})
            sources[entry.source] = sources.get(entry.source, 0.0) + entry.amount
        return layers

    def closed(self, tolerance: float = 1e-4) -> bool:
        """Whether ``|unaccounted| <= tolerance * max(|total|, largest |entry|)``; never true of NaN or infinity.

        Args:
            tolerance: relative; 1e-4 suits float32, 1e-6 float64, 5e-2 bf16.
        """
        largest = max((abs(entry.amount) for entry in self.entries), default=0.0)
        reference = max(abs(self.total), largest)
        gap = abs(self.unaccounted)
        return math.isfinite(gap) and math.isfinite(reference) and gap <= tolerance * reference

    def share(self, amount: float) -> float:
        """``amount`` as a fraction of the output; NaN where the output is 0 or not finite."""
        return amount / self.total if self.total and math.isfinite(self.total) else math.nan

    def modules(self, source: str) -> dict[str, float]:
        """Amounts of one source by module, the largest magnitude first, those that are not a number before all."""
        amounts = self._by_source().get(source, {})
        sizes = {name: math.inf if math.isnan(amount) else abs(amount) for name, amount in amounts.items()}
        return {name: amounts[name] for name in sorted(amounts, key=sizes.__getitem__, reverse=True)}

    def rows(self) -> list[tuple[str, str, float, float]]:
        """The table: (source, modules in words, amount, share of the output), ``unaccounted`` last."""
        table = [
            (source, _in_words(list(self.modules(source))), amount, self.share(amount))
            for source, amount in self.amounts.items()
            if source != UNACCOUNTED
        ]
        return [*table, (UNACCOUNTED, "", self.unaccounted, self.share(self.unaccounted))]

    def __str__(self) -> str:
        cells = [("source", "modules", "amount", "share")]
        cells += [
            (source, words, number_text(amount), share_text(share)) for source, words, amount, share in self.rows()
        ]
        cells.append(("output", _cut(self.scalar), number_text(self.total), share_text(self.share(self.total))))
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in cells
        ]
        rule = "-" * (sum(widths) + 6)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def to_dict(self) -> dict[str, object]:
        """A form that JSON can hold; amounts that are not finite become the strings "nan", "inf", "-inf"."""
        entries = [
            {"source": entry.source, "module": entry.module, "amount": _plain(entry.amount)} for entry in self.entries
        ]
        sums = {"total": _plain(self.total), "entries": entries, "unaccounted": _plain(self.unaccounted)}
        return {"scalar": self.scalar, **sums}

    @classmethod
    def from_dict(cls, data: object) -> Ledger:
        """The ledger that :meth:`to_dict` wrote; ``unaccounted`` is computed again, not believed.

        Raises:
            InputError: ``data`` is not such a dict.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("entries"), list):
            raise InputError("a ledger must be a dict with 'total' and a list 'entries', as Ledger.to_dict writes it.")
        entries = []
        for number, item in enumerate(data["entries"]):
            if not (isinstance(item, Mapping) and isinstance(item.get("source"), str) and "amount" in item):
                raise InputError(f"ledger entry {number} must be a dict with 'source', 'module' and 'amount'.")
            if not isinstance(item.get("module"), str):
                raise InputError(f"ledger entry {number} must name its module in text; got {item.get('module')!r}.")
            entries.append(Entry(item["source"], item["module"], _read(item["amount"], f"ledger entry {number}")))
        scalar = data.get("scalar", "")  # files of earlier versions name none
        if not isinstance(scalar, str):
            raise InputError(f"a ledger must name its scalar in text; got {scalar!r}.")
        return cls(_read(data.get("total"), "the ledger's total"), tuple(entries), scalar)

    def _by_source(self) -> dict[str, dict[str, float]]:
        grouped: dict[str, dict[str, float]] = {}
        for entry in self.entries:
            modules = grouped.setdefault(entry.source, {})
            modules[entry.module] = modules.get(entry.module, 0.0) + entry.amount
        return {source: grouped[source] for source in SOURCES if source in grouped}


def _in_words(modules: list[str], *, width: int = 44) -> str:
    """Names the modules when they fit, else counts them and names the biggest."""
    names = [name or "(model)" for name in modules]
    if len(names) <= 2 and len(", ".join(names)) <= width:
        return ", ".join(names)
    if len(names) == 1:
        return "..." + names[0][-(width - 3) :]
    head = f"{len(names)} modules, most in "
    room = width - len(head)
    return head + (names[0] if len(names[0]) <= room else "..." + names[0][-(room - 3) :])


def _cut(text: str, *, width: int = 72) -> str:
    """A name on one line, which leaves the table its form and the terminal alone."""
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return text if len(text) <= width else text[: width - 3] + "..."


def number_text(value: float) -> str:
    """An amount for a column: four decimals, an exponent where they would not do."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


def share_text(share: float) -> str:
    """A share of the output in percent; "-" where there is none."""
    if math.isnan(share):
        return "-"
    if share and abs(share) < 5e-5:
        return "<0.01 %"
    return f"{100 * share:.2f} %" if abs(share) < 1e4 else f"{100 * share:.2e} %"


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _read(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{what} must be a number; got {value!r}.")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{what} must be a number; got {str(value)[:40]!r}.") from error
