"""One run of ``pellucid explain``: sample after sample to files, what is done kept whatever happens next."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.cli.files import Folder
from pellucid.cli.prediction import Guess, predict
from pellucid.cli.printing import complain
from pellucid.cli.progress import Bar
from pellucid.cli.results import Done, print_result
from pellucid.cli.samples import Sample, position_names, samples
from pellucid.errors import FileError, Interrupted

if TYPE_CHECKING:
    from pellucid.data import Batch
    from pellucid.explanation import Explanation
    from pellucid.models import LoadedModel

PARTIAL = "partial"
MOST_SHOWN = 100
"""Samples in the report: each brings a picture, and a page of thousands opens nowhere."""


@dataclass
class Job:
    """Explains samples one by one; each gets a picture, a saved explanation and a section of the report.

    Args:
        folder: for the files; made if missing.
        choices: the options of :func:`pellucid.explain` that the user gave.
        scale: relevance at the ends of the colour scale, the same for all pictures; None: each picture its own.
        cmap: colour map; None: the library's.

    Raises:
        FileError: the folder cannot be written.
    """

    folder: Path
    choices: Mapping[str, Any]
    scale: float | None = None
    cmap: str | None = None
    done: list[Done] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    total: int = 0
    partial: Done | None = None
    """The estimate so far of the sample at which Ctrl-C came; its files are named and marked so."""

    def __post_init__(self) -> None:
        self._folder = Folder(self.folder)
        self._report_name = f"{self._folder.name('report')}.html"
        self._shown: list[tuple[Batch, tuple[tuple[Guess, ...], ...], Explanation]] = []
        look = {"scale": self.scale, "cmap": self.cmap}
        self._look: dict[str, Any] = {name: value for name, value in look.items() if value is not None}

    @property
    def report(self) -> Path:
        """The report of all samples done."""
        return self.folder / self._report_name

    def run(self, loaded: LoadedModel, place: str, *, quiet: bool) -> bool:
        """Explain everything at ``place``; the report is written at the end, also at an early one.

        A file of a folder that cannot be read is noted in ``failures`` and passed over.

        Args:
            loaded: the model.
            place: a file, a folder of photos or a name.
            quiet: print nothing on stdout.

        Returns:
            False if Ctrl-C ended it early.

        Raises:
            FileError: the only input cannot be read.
            PellucidError: as :func:`pellucid.explain`.
        """
        todo = samples(place, preprocessing=loaded.preprocessing)
        self.total = len(todo)
        try:
            with Bar(self.total) as bar:
                for sample in todo:
                    batch = self._read(sample)
                    explanations = [] if batch is None else self._explain(loaded, sample, batch, bar)
                    bar.advance()
                    with bar.away():
                        if batch is None:
                            complain(f"{self.failures[-1]} Passed over.", kind="warning")
                        elif not quiet:
                            print_result(batch, self.done[-1], explanations)
        except KeyboardInterrupt:
            return False
        finally:
            if self.done:
                self._write_report(loaded)
        return True

    def to_dict(self) -> dict[str, object]:
        """Everything done, for JSON."""
        return {
            "inputs": [done.to_dict() for done in self.done],
            "failures": list(self.failures),
            "partial": None if self.partial is None else self.partial.to_dict(),
            "report": str(self.report),
        }

    def _read(self, sample: Sample) -> Batch | None:
        """The sample's tensors; None if it is one of several and cannot be read, which is noted."""
        try:
            return sample.read()
        except FileError as error:
            if self.total == 1:
                raise
            self.failures.append(str(error))
            return None

    def _explain(self, loaded: LoadedModel, sample: Sample, batch: Batch, bar: Bar) -> list[Explanation]:
        """Explain one sample and write its files; of one that is interrupted the estimate so far."""
        import pellucid

        try:
            # First of all, because it checks the input.
            result = pellucid.explain(loaded, batch.x, progress=bar.report, **self.choices)
        except Interrupted as stop:
            partial = stop.partial if isinstance(stop.partial, list) else [stop.partial]
            kept = tuple(
                path
                for explanation in partial
                for path in self._write(
                    sample, batch, explanation, PARTIAL if explanation.settings.get("partial") else ""
                )
            )
            self.partial = Done(sample.name, (), tuple(explanation.to_dict() for explanation in partial), kept)
            raise
        explanations = result if isinstance(result, list) else [result]
        guesses = predict(loaded, batch.x)
        files = tuple(path for explanation in explanations for path in self._write(sample, batch, explanation))
        done = Done(sample.name, guesses, tuple(explanation.to_dict() for explanation in explanations), files)
        self.done.append(done)
        if len(self._shown) < MOST_SHOWN:
            self._shown.extend((batch, guesses, explanation) for explanation in explanations)
        return explanations

    def _write(self, sample: Sample, batch: Batch, explanation: Explanation, mark: str = "") -> list[Path]:
        """The picture of a photo, and the explanation itself; ``mark`` ends the files' names."""
        from pellucid.archive import replace_file
        from pellucid.show.heatmap import heatmap

        words = [sample.name if batch.kind != "image" else Path(sample.name).stem]
        if "targets" in self.choices:
            words.append(explanation.target[0])
        words += [mark] * bool(mark)
        stem = self._folder.name("-".join(words))
        files = []
        if batch.displays is not None and len(batch) == 1:
            picture = heatmap(explanation, photo=batch.displays[0], **self._look)
            content = io.BytesIO()
            picture.save(content, format="PNG")
            files.append(self.folder / f"{stem}.png")
            replace_file(files[-1], content.getvalue())
        files.append(self.folder / f"{stem}.pellucid")
        explanation.save(files[-1])
        return files

    def _write_report(self, loaded: LoadedModel) -> None:
        from pellucid.show.html import report

        names = [name for batch, _, _ in self._shown for name in batch.names]
        images = [image for batch, _, _ in self._shown for image in batch.displays or [None] * len(batch)]
        labels = [label for batch, _, _ in self._shown for label in position_names(loaded, batch)]
        predictions = [
            [(guess.name, guess.probability) for guess in row]
            for batch, guesses, _ in self._shown
            for row in guesses or [()] * len(batch)
        ]
        more = f" (the first {MOST_SHOWN} of {len(self.done)})" if len(self.done) > MOST_SHOWN else ""
        report(
            [explanation for _, _, explanation in self._shown],
            self.report,
            names=names,
            images=images,
            labels=labels,
            predictions=predictions,
            title=f"What {loaded.source} says{more}",
            limit=MOST_SHOWN,
            **self._look,
        )
