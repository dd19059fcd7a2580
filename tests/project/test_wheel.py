"""The wheel: built, unpacked and used with nothing importable but its declared core dependencies."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pellucid

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {"pillow": "PIL"}

USE = '''
import importlib, pkgutil, sys

allowed = set(sys.argv[1].split(","))

class Only:
    """A finder that finds nothing but what is allowed."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in allowed or top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        return self.finder.find_spec(name, path, target) if known else None

sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
import pellucid

assert pellucid.__file__.startswith(sys.argv[2]), pellucid.__file__
for info in pkgutil.walk_packages(pellucid.__path__, "pellucid."):
    if not info.name.endswith("__main__"):
        importlib.import_module(info.name)

import torch
from pellucid.show.heatmap import heatmap

layers = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
model = torch.nn.Sequential(*layers).eval()
explanation = pellucid.explain(model, torch.rand(1, 3, 8, 8), target=1)
explanation.save("a.pellucid")
assert torch.equal(pellucid.load("a.pellucid").relevance, explanation.relevance)
assert "<" in explanation.to_html()
assert heatmap(explanation).size
print(explanation.ledger)
try:
    explanation.plot()
except pellucid.errors.MissingDependencyError as error:
    assert "pip install 'pellucid[plot]'" in str(error), error
else:
    raise AssertionError("matplotlib was importable: nothing is blocked")
try:
    pellucid.cli.main(["rules"])
except SystemExit as end:
    assert not end.code
print("imported:", ",".join(sorted({name.partition(".")[0] for name in sys.modules})))
'''


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split() or [str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*.*")]
    wanted = {name.removeprefix("src/") for name in files if "__pycache__" not in name and (ROOT / name).is_file()}
    assert {
        "pellucid/py.typed",
        "pellucid/models/imagenet_classes.txt",
        "pellucid/show/templates/report.html.j2",
    } <= wanted
    assert wanted - names == set()
    info = f"pellucid-{pellucid.__version__}.dist-info/"
    rest = {name for name in names - wanted if not name.startswith(info)}
    assert {name for name in rest if not name.startswith("pellucid/")} == set()
    assert {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"} <= {
        name.removeprefix(info) for name in names
    }
    assert wheel.name == f"pellucid-{pellucid.__version__}-py3-none-any.whl"


def test_its_metadata_are_those_of_the_project(wheel: Path, metadata: Message) -> None:
    assert metadata["Name"] == "pellucid"
    assert metadata["Version"] == pellucid.__version__
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == "Apache-2.0"
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    core = {_plain(requirement) for requirement in requirements if requirement.marker is None}
    assert core == {_plain(Requirement(line)) for line in PROJECT["dependencies"]}
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    for extra, lines in PROJECT["optional-dependencies"].items():
        asked = {
            _plain(item) for item in requirements if item.marker is not None and item.marker.evaluate({"extra": extra})
        }
        assert {_plain(Requirement(line)) for line in lines if not line.startswith("pellucid[")} <= asked, extra
    text = str(metadata.get_payload())
    assert text.startswith((ROOT / "README.md").read_text(encoding="utf-8")[:40])
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"pellucid-{pellucid.__version__}.dist-info/entry_points.txt").decode()
    assert "pellucid = pellucid.cli:main" in entry_points


def _plain(requirement: Requirement) -> tuple[str, str]:
    return canonicalize_name(requirement.name), str(requirement.specifier)


def importable_with(names: list[str]) -> set[str]:
    """The top-level modules that these distributions and what they require, without extras, bring."""
    wanted, pending = set(), [canonicalize_name(name) for name in names]
    while pending:
        name = pending.pop()
        if name in wanted:
            continue
        wanted.add(name)
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(requirement.name))
    tops = packages_distributions()
    return {top for top, owners in tops.items() if any(canonicalize_name(owner) in wanted for owner in owners)}


def test_the_core_dependencies_are_those_that_it_imports(wheel: Path, metadata: Message, tmp_path: Path) -> None:
    """All modules are imported, and it is used, where nothing else can be imported; and each of them is."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    core = [requirement.name for requirement in requirements if requirement.marker is None]
    allowed = {"pellucid", *importable_with(core)}
    assert not {"torchvision", "timm", "transformers", "matplotlib", "pandas", "sklearn", "skimage", "scipy"} & allowed
    place = str(tmp_path / "unpacked")
    words = [sys.executable, "-c", USE, ",".join(sorted(allowed)), place]
    environment = {**os.environ, "PYTHONPATH": place}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].removeprefix("imported: ").split(","))
    assert {IMPORTED_AS.get(canonicalize_name(name), name) for name in core} <= imported
