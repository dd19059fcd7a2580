"""Imports run one way, modules stay small, and the package says where it stands (DESIGN: the house)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project.layers import imports, violations, wrong

pytestmark = pytest.mark.core

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "pellucid"
MOST_LINES = 400


def test_imports_run_one_way() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("engine.walk", "rules.linear"),
        ("engine.numerics", "engine.walk"),
        ("engine.ops", "engine.registry"),
        ("engine.private", "engine.ops"),
        ("rules.linear", "composites"),
        ("rules.linear", "engine.walk.walk"),
        ("composites", "methods.lrp"),
        ("methods.lrp", "_api.explain"),
        ("methods.lrp", "show"),
        ("show.heatmap", "methods.lrp"),
        ("explanation", "methods.lrp"),
        ("models.registry", "engine.graph"),
        ("data", "_api"),
        ("_api", "cli.app"),
        ("", "cli"),
        ("cli.explain", "engine.walk"),
        ("cli.explain", "methods.lrp"),
        ("engine.walk", ""),
        ("a_module_nobody_placed", "errors"),
    ],
)
def test_a_wrong_import_is_found(module: str, imported: str) -> None:
    assert wrong(module, imported)


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("engine.walk", "engine.registry"),
        ("rules.linear", "engine.registry.register"),
        ("composites", "rules.Epsilon"),
        ("methods.lrp", "engine.walk"),
        ("explanation", "engine.ledger"),
        ("_api", "methods.lrp"),
        ("cli.explain", "_api"),
        ("cli.explain", "show"),
        ("cli.app", ""),
        ("__main__", "cli.main"),
        ("", "_api.explain"),
    ],
)
def test_a_right_import_is_let_through(module: str, imported: str) -> None:
    assert not wrong(module, imported)


def test_a_planted_wrong_import_in_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("")
    (tmp_path / "engine" / "walk.py").write_text("def walk():\n    from ..rules import linear\n    return linear\n")
    (tmp_path / "show.py").write_text("import pellucid.methods.lrp\n")
    assert violations(tmp_path) == [
        "engine/walk.py:2: engine.walk must not import rules.linear",
        "show.py:1: show must not import methods.lrp",
    ]


def test_imports_for_annotations_only_are_left_out() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pellucid.methods import lrp\n"
    assert list(imports(source, module="show")) == []
    assert list(imports("from pellucid.methods import lrp", module="show")) == [(1, "methods.lrp")]


def test_relative_imports_are_resolved() -> None:
    assert list(imports("from . import graph", module="engine.walk")) == [(1, "engine.graph")]
    assert list(imports("from ..rules.linear import Epsilon", module="engine.walk")) == [(1, "rules.linear.Epsilon")]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < MOST_LINES, f"{path.name} has {lines} lines: divide it (the median is near 130)"
