"""A bar with the time left, on stderr, out of the way of what is printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pellucid.cli.printing import error_console


class Bar:
    """Counts samples; shown only where there are several and a terminal to see them on.

    Args:
        total: how many samples there are.
    """

    def __init__(self, total: int) -> None:
        screen = error_console()
        self._shown = total > 1 and screen.is_terminal
        left = TextColumn("time left"), TimeRemainingColumn()
        self._progress = Progress(
            TextColumn("Explaining"), BarColumn(), MofNCompleteColumn(), *left, console=screen, transient=True
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Bar:
        if self._shown:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._progress.stop()

    def advance(self) -> None:
        """One sample is done."""
        self._progress.advance(self._task)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take the bar off the screen while something is printed."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()
