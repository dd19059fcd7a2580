"""The bar: what it counts, when it is shown, what time it says is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pellucid.cli import progress
from pellucid.cli.progress import Bar, time_left

pytestmark = pytest.mark.core


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal that keeps what it is shown, and a clock that the test moves."""
    text = io.StringIO()
    monkeypatch.setattr(
        progress, "error_console", lambda: Console(file=text, force_terminal=True, width=100, legacy_windows=False)
    )
    return text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_times_read_well() -> None:
    shown = {0.4: "about 0 s left", 59: "about 59 s left", 61: "about 1 min 1 s left", 7260: "about 2 h 1 min left"}
    assert {seconds: time_left(seconds) for seconds in shown} == shown
    assert time_left(None) == ""


def test_a_short_method_on_one_sample_shows_nothing(screen: io.StringIO, clock: list[float]) -> None:
    with Bar(1) as bar:
        clock[0] = 0.2
        bar.report(10, 20, 0.2)
        bar.advance()
    assert screen.getvalue() == ""


def test_a_long_method_shows_its_passes_and_the_time_left(screen: io.StringIO, clock: list[float]) -> None:
    with Bar(1) as bar:
        clock[0] = 0.2
        bar.report(10, 700, 70.0)
    assert "Passes" in screen.getvalue()
    assert "10/700" in screen.getvalue()
    assert "about 1 min 10 s left" in screen.getvalue()


def test_samples_are_counted_and_their_passes_below(screen: io.StringIO, clock: list[float]) -> None:
    with Bar(3) as bar:
        clock[0] = 4.0
        bar.report(5, None, None)
        bar.advance()
        with bar.away():
            pass
    text = screen.getvalue()
    assert "Explaining" in text
    assert "1/3" in text
    assert "about 8 s left" in text
    assert "passes" in text


def test_where_there_is_no_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with Bar(3) as bar:
        clock[0] = 9.0
        bar.report(1, 100, 50.0)
        bar.advance()
    assert capfd.readouterr() == ("", "")
