"""The command as the system sees it: a real process, its exit code, signals and closed pipes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pellucid as library
from pellucid import __version__
from tests.cli.conftest import MODEL

pytestmark = pytest.mark.core

COMMAND = [sys.executable, "-m", "pellucid"]


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_version_and_script() -> None:
    assert run("--version").stdout == f"pellucid {__version__}\n"
    script = Path(sys.executable).with_name("pellucid")
    if script.exists():
        done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=120)
        assert done.stdout == f"pellucid {__version__}\n"


@pytest.mark.parametrize("words", ["--help", "--version", "explain --help", "explain nowhere"])
def test_answers_that_need_no_torch_do_not_load_it(words: str) -> None:
    program = (
        "import sys\nfrom pellucid.cli import main\n"
        f"try:\n    main({words.split()!r})\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("words", "found"), [("pellucid expl", "explain"), ("pellucid explain a b --comp", "--composite")]
)
def test_shell_completion(words: str, found: str) -> None:
    place = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_PELLUCID_COMPLETE": "complete_bash"}
    done = subprocess.run(COMMAND, env=os.environ | place, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [found]


def test_bad_input_ends_with_2_and_no_traceback(place: Path) -> None:
    done = run("explain", MODEL[0], "nothing.png", *MODEL[1:], cwd=place)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def _listen() -> None:
    """Where the tests run in the background, Ctrl-C is ignored, and what they start would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_sigint_keeps_what_is_done_and_ends_with_130(place: Path) -> None:
    words = ["explain", "python:tiny:Slow", "photos", *MODEL[1:], "--output", "o"]
    for number in range(3, 30):  # long enough that the signal finds it at work, however busy the machine is
        shutil.copy(place / "photos" / "photo0.png", place / "photos" / f"photo{number}.png")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, *words], cwd=place, text=True, preexec_fn=_listen, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(line.startswith("Wrote") for line in process.stdout), process.stderr.read()  # one photo is done
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "are done and kept in" in err
    assert "Traceback" not in err
    assert (place / "o" / "report.html").is_file()
    assert not list((place / "o").glob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_sigint_within_a_method_keeps_its_estimate_and_ends_with_130(place: Path) -> None:
    words = ["explain", "python:tiny:Telling", "photos/photo0.png", *MODEL[1:], "--output", "o"]
    words += ["--method", "smoothgrad", "--set", "samples=5000", "--memory", "300kB"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, *words], cwd=place, text=True, preexec_fn=_listen, **pipes) as process:
        assert process.stderr is not None
        for _ in range(8):  # the method is at work by then
            assert process.stderr.readline() == "forward\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the estimate so far of photo0.png is in photo0-partial.png, photo0-partial.pellucid" in err
    assert "Traceback" not in err
    saved = library.load(place / "o" / "photo0-partial.pellucid")
    assert saved.settings["partial"] is True
    assert "the estimate so far" in saved.warnings[0]


@pytest.mark.skipif(os.name == "nt", reason="pipes are those of POSIX")
def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)  # nobody listens any more, as after `| head -1`
    done = subprocess.run([*COMMAND, "rules"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


def test_unwritable_output_ends_with_2(place: Path) -> None:
    done = run("explain", MODEL[0], "photos", *MODEL[1:], "--output", "labels.txt/inside", cwd=place)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--output" in done.stderr
