"""Bars with the time left, on stderr and on terminals only, out of the way of what is printed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from pellucid.cli.printing import error_console

WORTH_SHOWING = 1.5
"""Seconds of work from which a bar is shown for it."""


class Bar:
    """Counts samples, and the passes of a long method within a sample.

    Args:
        total: how many samples there are; they are counted where there are several.
        verb: what is done to them.
    """

    def __init__(self, total: int, verb: str = "Explaining") -> None:
        screen = error_console()
        self._terminal = screen.is_terminal
        self._total = total
        self._done = 0
        self._running = False
        self._began = self._sample_began = time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
        self._progress = Progress(*columns, console=screen, transient=True)
        self._samples = self._progress.add_task(verb, total=total, left="", visible=total > 1)
        self._passes: TaskID | None = None

    def __enter__(self) -> Bar:
        if self._terminal and self._total > 1:
            self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hide()

    def report(self, done: int, total: int | None, left: float | None) -> None:
        """How far the method is with the present sample: what ``explain(progress=)`` calls."""
        spent = time.monotonic() - self._sample_began
        if not self._terminal or (self._passes is None and spent + (left or 0) < WORTH_SHOWING):
            return
        if self._passes is None:
            self._passes = self._progress.add_task("  passes" if self._total > 1 else "Passes", total=total, left="")
            self._show()
        self._progress.update(self._passes, completed=done, total=total, left=time_left(left))

    def advance(self) -> None:
        """One sample is done."""
        self._done += 1
        now = time.monotonic()
        left = (now - self._began) / self._done * (self._total - self._done)
        self._progress.update(self._samples, completed=self._done, left=time_left(left))
        if self._passes is not None:
            self._progress.remove_task(self._passes)
            self._passes = None
        self._sample_began = now

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take the bars off the screen while something is printed."""
        shown = self._running
        self._hide()
        try:
            yield
        finally:
            if shown and self._done < self._total:
                self._show()

    def _show(self) -> None:
        if not self._running:
            self._progress.start()
            self._running = True

    def _hide(self) -> None:
        if self._running:
            self._progress.stop()
            self._running = False


def time_left(seconds: float | None) -> str:
    """ "about 2 min 5 s left"; empty where it is not known."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"about {whole} s left"
    minutes = f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"about {minutes} left"
