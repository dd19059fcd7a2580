"""The wheel and the sdist hold what they must: built, then installed into a fresh environment and used there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: Path) -> str:
    """Run a command without this checkout on the path; its output, or the error with all that it said."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
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


def install(package: Path, folder: Path) -> Path:
    """A fresh environment with only ``package`` of its own, the libraries from this one; its Python."""
    folder.mkdir()
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, package, cwd=folder)
    venv.create(folder / "fresh", with_pip=False)
    python = folder / "fresh" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-index", "--no-deps", *wheels.iterdir(), cwd=folder)
    (site,) = (folder / "fresh" / "lib").glob("python*/site-packages")
    libraries = Path(pytest.__file__).resolve().parents[1]
    # Only the folder goes on the path, not its .pth files: those would bring in this checkout.
    (site / "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
    return python


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


@pytest.mark.parametrize("which", [0, 1], ids=["wheel", "sdist"])
def test_installed_package_works(built: tuple[Path, Path], which: int, tmp_path: Path) -> None:
    python = install(built[which], tmp_path / "installed")
    command = python.with_name("pellucid")
    place = run(python, "-c", "import pellucid; print(pellucid.__file__)", cwd=tmp_path)
    assert place.startswith(str(tmp_path))
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
    assert run(python, "-c", program, cwd=tmp_path).strip().endswith("fine")
