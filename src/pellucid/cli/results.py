"""What is kept and printed about an explained sample: predictions, scalars, ledgers, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.cli.prediction import Guess
from pellucid.cli.printing import complain, console, printable, table
from pellucid.show.shares import elsewhere_line

if TYPE_CHECKING:
    from pellucid.data import Batch
    from pellucid.explanation import Explanation

MOST_ROWS = 10


@dataclass(frozen=True)
class Done:
    """One explained sample: what was said about it and where its files are."""

    name: str
    guesses: tuple[tuple[Guess, ...], ...]
    summaries: tuple[Mapping[str, object], ...]
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "input": self.name,
            "predictions": [[guess.to_dict() for guess in row] for row in self.guesses],
            "explanations": list(self.summaries),
            "files": [str(path) for path in self.files],
        }


def print_result(batch: Batch, done: Done, explanations: Sequence[Explanation]) -> None:
    """Print one result on stdout, its warnings on stderr.

    Args:
        batch: what was explained.
        done: its predictions and files.
        explanations: one for every target.
    """
    out = console()
    out.rule(printable(done.name), align="left")
    if len(batch) == 1 and done.guesses:
        likeliest = [(guess.name, str(guess.index), _percent(guess)) for guess in done.guesses[0]]
        out.print(table("Prediction", ("class", "index", "probability"), likeliest, right=("index", "probability")))
    elif done.guesses:
        found = zip(batch.names[:MOST_ROWS], done.guesses, strict=False)
        rows = [(name, guesses[0].name, str(guesses[0].index), _percent(guesses[0])) for name, guesses in found]
        columns = ("sample", "class", "index", "probability")
        out.print(table("Predictions", columns, rows, right=("index", "probability")))
    for explanation in explanations:
        composite = explanation.settings.get("composite")
        out.print(f"Method: {explanation.method}{f' with composite {composite}' if composite else ''}", soft_wrap=True)
        for number, (label, value) in enumerate(zip(explanation.target, explanation.output.tolist(), strict=True)):
            if number == MOST_ROWS:
                out.print(f"... and {len(explanation) - MOST_ROWS} samples more")
                break
            sample = "" if len(explanation) == 1 else f" of {batch.names[number]}"
            out.print(printable(f"Explained scalar{sample}: {label} = {value:.6g}"), soft_wrap=True)
        if explanation.ledger is not None:
            state = "closed" if explanation.ledger.closed() else "not closed"
            out.print(f"Ledger: where it came from ({state})", style="bold")
            out.print(str(explanation.ledger), soft_wrap=True)
            elsewhere = elsewhere_line(explanation.ledger)
            if elsewhere:
                out.print(elsewhere, soft_wrap=True)
        for warning in explanation.warnings:
            complain(warning, kind="warning")
    for path in done.files:
        out.print(f"Wrote {path}", soft_wrap=True)


def _percent(guess: Guess) -> str:
    return f"{100 * guess.probability:.2f} %"
