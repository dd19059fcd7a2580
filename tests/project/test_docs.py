"""The documentation cannot drift: generated pages are current, links lead somewhere, names and options exist."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid
from pellucid.cli import catalogue

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATED = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_page_is_current(name: str) -> None:
    page = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert page == GENERATED[name](), "run: python docs/generate.py (or make docs)"


def test_measurements_are_those_of_the_results() -> None:
    made = runpy.run_path(str(DOCS / "measurements.py"))
    advice = "run: python docs/measurements.py (or make docs)"
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), advice
    assert made["readme_part"]() in (ROOT / "README.md").read_text(encoding="utf-8"), advice


def test_every_rule_and_composite_has_its_place_in_the_reference() -> None:
    rules, composites = (
        (DOCS / "reference" / name).read_text(encoding="utf-8") for name in ("rules.md", "composites.md")
    )
    assert all(f"| `{row.name}` |" in rules and row.summary for row in catalogue.rule_rows())
    assert all(f"## {name}\n" in composites and text for name, text, _ in catalogue.composite_tables())


def test_every_method_has_its_place_in_the_reference() -> None:
    page = (DOCS / "reference" / "methods.md").read_text(encoding="utf-8")
    for row in catalogue.method_rows():
        section = page.split(f"### {row.name} ")[1].split("\n### ")[0].split("\n## ")[0]
        assert len(row.summary) > 20, row.name
        for setting, _, _, meaning in row.settings:
            assert f"| `{setting}` |" in section, (row.name, setting)
            assert meaning, f"{row.name}: say what {setting} means in the Args of the class"
        assert row.papers, row.name
        assert all(title in section for _, title in row.papers), row.name


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    errors = set(vars(pellucid.errors))
    modules = {"composites", "rules", "targets", "testing", "errors", "methods"}
    missing = [
        name
        for name in pellucid.__all__
        if not name.startswith("__") and f"::: pellucid.{name}\n" not in page and name not in errors | modules
    ]
    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_named_in_a_page_exist(path: Path) -> None:
    known = set(re.findall(r"`(--[a-z-]+)", (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")))
    known |= {"--version", "--help", "--install-completion"}
    for line in path.read_text(encoding="utf-8").splitlines():
        if "pellucid " in line or line.startswith("`--"):
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)) <= known, line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_named_in_a_page_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in re.findall(r"(?:^ {4}|`)make ([a-z -]+)", path.read_text(encoding="utf-8"), re.MULTILINE):
        for target in words.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{path.name} names make {target}"


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "cli" / "index.html").is_file()
