"""The Python in the README, the docs and the examples runs as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[tuple[int, str]]:
    """(first line's number, code) of every Python block of a page."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in FENCE.finditer(text)]


PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if blocks(path)]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_there_is_something_to_run() -> None:
    assert ROOT / "README.md" in PAGES
    assert EXAMPLES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of_a_page_run_in_order(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for line, code in blocks(path):
        padded = "\n" * (line - 1) + code  # so that a traceback has the page's own line numbers
        exec(compile(padded, str(path), "exec", dont_inherit=True), names)


CORE = [pytest.param(path, marks=() if path.name == "photo.py" else pytest.mark.core) for path in EXAMPLES]


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip(), "an example prints what it found"
