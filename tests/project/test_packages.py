"""The wheel and the sdist hold what they must: built, then installed with what they require, and used there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: Path, seconds: float = 600) -> str:
    """Run a command without this checkout on the path; its output, or the error with all that it said."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist), the wheel made from the sdist as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def complete(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of a fresh environment in which pip installed the wheel and what it requires, at our versions."""
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip_install(python, "-c", ROOT / "constraints.txt", built[0])
    yield python
    shutil.rmtree(folder)  # torch and its libraries are gigabytes


def pip_install(python: Path, *words: str | Path) -> None:
    run(python, "-m", "pip", "--disable-pip-version-check", "install", *words, cwd=python.parent, seconds=1800)


def tracked(folder: str, suffix: str) -> set[str]:
    """Paths below ``folder`` with ``suffix`` in this checkout, relative to it."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob(f"*{suffix}") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


def test_wheel_holds_every_module_and_data_file(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    wanted = {path.removeprefix("src/") for path in tracked("src", "") if not path.endswith((".pyc", ".orig"))}
    assert wanted - names == set()
    assert not [name for name in names if name.startswith(("tests/", "docs/", "examples/"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_sdist_holds_what_the_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = tracked("tests", ".py") | tracked("examples", ".py") | tracked("docs", ".md")
    wanted |= {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "mkdocs.yml", "constraints.txt", "Makefile"}
    assert wanted - names == set()


def test_pip_brings_all_that_is_required_and_nothing_of_the_extras(complete: Path) -> None:
    run(complete, "-m", "pip", "check", cwd=complete.parent)
    listed = json.loads(run(complete, "-m", "pip", "list", "--format", "json", cwd=complete.parent))
    names = {item["name"].lower() for item in listed}
    assert {"pellucid", "torch", "numpy", "safetensors", "pillow", "typer", "rich", "jinja2"} <= names
    assert not {"torchvision", "timm", "transformers", "matplotlib", "pandas", "scikit-learn", "pytest"} & names


@pytest.mark.parametrize("which", [0, 1], ids=["wheel", "sdist"])
def test_installed_package_works(built: tuple[Path, Path], complete: Path, which: int, tmp_path: Path) -> None:
    if which == 1:  # in the same environment: what it requires is there
        pip_install(complete, "hatchling")
        pip_install(complete, "--force-reinstall", "--no-deps", "--no-build-isolation", built[1])
    command = complete.with_name("pellucid")
    place = run(complete, "-c", "import pellucid; print(pellucid.__file__)", cwd=tmp_path)
    assert place.startswith(str(complete.parents[1]))
    assert run(command, "--version", cwd=tmp_path).startswith("pellucid ")
    assert "epsilon" in run(command, "rules", cwd=tmp_path).lower()
    program = (
        "import torch, pellucid as pl\n"
        "model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()\n"
        "e = pl.explain(model, torch.ones(1, 3), target=1)\n"
        "e.save('a.pellucid')\n"
        "assert torch.equal(pl.load('a.pellucid').relevance, e.relevance)\n"
        "assert '<' in e.to_html()\n"
        "print('fine')"
    )
    assert run(complete, "-c", program, cwd=tmp_path).strip().endswith("fine")
