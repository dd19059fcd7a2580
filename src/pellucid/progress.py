"""How far long work has come, for whoever wants to show it."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Progress", "Report"]

Report = Callable[[int, "int | None", "float | None"], None]
"""``report(done, total, seconds_left)``; total and seconds are None where they are not known."""


class Progress:
    """Counts rows that were run and reports now and then.

    Args:
        report: told at most ten times a second, and when the work is done; None: nobody is.
    """

    def __init__(self, report: Report | None = None) -> None:
        self.done = 0
        self.total: int | None = None
        self._report = report
        self._started = self._told = time.monotonic()

    def expect_more(self, rows: int) -> None:
        """``rows`` more will be run after those that were, as far as is known now."""
        self.total = self.done + rows

    def finish(self) -> None:
        """The work is done, whatever was expected: some methods need less than they may."""
        if self.done and self.total != self.done:
            self.total = self.done
            if self._report is not None:
                self._report(self.done, self.total, 0.0)

    def advance(self, count: int) -> None:
        """``count`` more rows were run."""
        self.done += count
        if self._report is None:
            return
        now = time.monotonic()
        if now - self._told >= 0.1 or self.done == self.total:
            self._told = now
            self._report(self.done, self.total, self.seconds_left(now))

    def seconds_left(self, now: float | None = None) -> float | None:
        """At the pace so far; None where the end is not known."""
        if self.total is None or not self.done:
            return None
        spent = (time.monotonic() if now is None else now) - self._started
        return max(0.0, spent * (self.total - self.done) / self.done)
