"""What the package requires: few things in the core, everything else an extra, development pinned within the ranges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
}


def test_core_dependencies_are_few() -> None:
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert names == {"torch", "numpy", "safetensors", "Pillow", "typer", "rich", "jinja2"}


def test_extras_are_the_promised_ones() -> None:
    promised = {
        "plot",
        "vision",
        "text",
        "tables",
        "perturbation",
        "video",
        "audio",
        "medical",
        "onnx",
        "demo",
        "docs",
        "dev",
    }
    assert set(EXTRAS) == promised


@pytest.mark.parametrize("extra", ["core", "plot", "vision", "text", "tables", "onnx", "demo", "docs", "dev"])
def test_what_development_uses_is_pinned_within_its_range(extra: str) -> None:
    lines = PROJECT["dependencies"] if extra == "core" else EXTRAS[extra]
    for requirement in map(Requirement, lines):
        if requirement.name == "pellucid":
            assert requirement.extras <= set(EXTRAS)
            continue
        version = PINS.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt lacks {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_every_extra_named_in_the_code_exists() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for extra in re.findall(r'extra="(\w+)"', path.read_text(encoding="utf-8")):
            assert extra in EXTRAS, f"{path.name} asks for the extra {extra!r}"
