"""The public surface is explicit, and importing the package is cheap and changes nothing."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid
from pellucid.errors import PellucidError

pytestmark = pytest.mark.core

ROOT = Path(__file__).resolve().parents[2]


def run_python(program: str) -> str:
    """What a fresh interpreter prints for ``program``."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_all_is_sorted_and_has_no_doubles() -> None:
    assert list(pellucid.__all__) == sorted(set(pellucid.__all__))


def test_all_names_exist() -> None:
    missing = [name for name in pellucid.__all__ if not hasattr(pellucid, name)]
    assert missing == []


def test_all_equals_what_exists() -> None:
    """In a fresh interpreter: submodules that a test imported elsewhere would otherwise count as public names."""
    program = (
        "import pellucid, json, types\n"
        "for name in pellucid.__all__: getattr(pellucid, name)\n"
        "found = {name: isinstance(value, types.ModuleType) for name, value in vars(pellucid).items()}\n"
        "print(json.dumps({name: module for name, module in found.items() if name[0] != '_'}))"
    )
    found: dict[str, bool] = json.loads(run_python(program))
    objects = {name for name, module in found.items() if not module} - {"annotations", "TYPE_CHECKING"}
    public = {name for name in pellucid.__all__ if name != "__version__"}
    assert objects == {name for name in public if not found[name]}
    assert dir(pellucid) == pellucid.__all__


def test_public_objects_are_documented() -> None:
    named = {name: getattr(pellucid, name) for name in pellucid.__all__ if not name.startswith("__")}
    silent = [name for name, thing in named.items() if not inspect.getdoc(thing)]
    assert silent == []


def test_the_verbs_and_results_of_the_readme_are_public() -> None:
    assert {"Explanation", "LoadedModel", "PellucidError", "check", "explain", "load", "load_model"} <= set(
        pellucid.__all__
    )


def test_every_error_is_a_pellucid_error() -> None:
    from pellucid import errors

    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert classes
    assert all(issubclass(value, PellucidError) for value in classes)


@pytest.mark.parametrize("statement", ["import pellucid", "import pellucid; pellucid.explain"])
def test_import_brings_in_no_optional_library(statement: str) -> None:
    optional = [
        "matplotlib",
        "torchvision",
        "timm",
        "transformers",
        "pandas",
        "pyarrow",
        "sklearn",
        "skimage",
        "shap",
        "lime",
        "IPython",
    ]
    program = f"{statement}\nimport sys\nprint(*[name for name in {optional!r} if name in sys.modules])"
    assert run_python(program).split() == []


def test_import_is_cheap_and_leaves_torch_as_it_was() -> None:
    program = (
        "import torch, random, logging, warnings, os, signal\n"
        "def state():\n"
        "    log, rng = logging.root, torch.get_rng_state().tolist()\n"
        "    threads = torch.get_num_threads(), signal.getsignal(signal.SIGINT)\n"
        "    settings = torch.get_default_dtype(), torch.is_grad_enabled(), warnings.filters[:], dict(os.environ)\n"
        "    return rng, random.getstate(), threads, settings, log.handlers[:], log.level\n"
        "before = state()\n"
        "import pellucid\n"
        "pellucid.explain, pellucid.load_model, pellucid.check\n"
        "print(state() == before)"
    )
    assert run_python(program).strip() == "True"


def test_import_does_not_load_torch() -> None:
    """So that `pellucid --help`, shell completion and `--version` answer at once."""
    assert run_python("import pellucid, sys; print('torch' in sys.modules)").strip() == "False"


def test_version_equals_the_newest_heading_of_the_changelog() -> None:
    headings = re.findall(r"^## (\d+\.\d+\.\d+\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == pellucid.__version__


def test_package_is_marked_as_typed() -> None:
    assert (Path(pellucid.__file__).parent / "py.typed").is_file()
