"""Random networks computed by real MXNet, fresh each time, and by the modules that are read from their files.

Needs the environment of `make mxnet-env`; skipped without it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pellucid.models import load_model
from pellucid.models.mxnet.table import OPERATORS
from tests.models.mxnet.random_graphs import Shape, graphs

pytestmark = pytest.mark.slow
PYTHON = Path(os.environ.get("PELLUCID_MXNET", Path(__file__).parents[3] / ".venv-mxnet/bin/python"))
CASES = 1000


class Mxnet:
    """A process that runs MXNet; one that crashes is started anew."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, **request: object) -> dict[str, object]:
        if self.process is None or self.process.poll() is not None:
            worker = Path(__file__).with_name("live_worker.py")
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            self.process = subprocess.Popen([str(PYTHON), str(worker)], **pipes)
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            self.process.wait()
            return {"error": "MXNet crashed"}

    def infer(self, symbol: str, shape: Shape) -> list[Shape] | None:
        shapes = self.ask(do="infer", symbol=symbol, shapes={"data": shape}).get("shapes")
        return None if shapes is None else [tuple(each) for each in shapes]

    def close(self) -> None:
        if self.process is not None:
            with self.process:
                self.process.stdin.close()


@pytest.fixture(scope="module")
def mxnet() -> Iterator[Mxnet]:
    if not PYTHON.is_file():
        pytest.skip(f"{PYTHON} is not there; `make mxnet-env` builds it.")
    process = Mxnet()
    try:
        yield process
    finally:
        process.close()


def test_random_networks_compute_what_mxnet_computes(mxnet: Mxnet, tmp_path: Path) -> None:
    used: Counter[str] = Counter()
    compared = 0

    @settings(
        max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        nonlocal compared
        symbol, shape, operators = data.draw(graphs(mxnet.infer))
        assume(operators)
        seed = data.draw(st.integers(0, 10**6))
        answer = mxnet.ask(do="run", symbol=symbol, shapes={"data": shape}, folder=str(tmp_path), seed=seed)
        assume(answer.get("finite"))
        with np.load(tmp_path / "io.npz") as archive:
            x, expected = torch.from_numpy(archive["in_data"]), archive["out_0"]
        module = load_model(str(tmp_path / "net-symbol.json")).module
        assert module.input_names == ("data",)
        made = module(x).detach().numpy()
        assert made.shape == expected.shape
        # Where much cancels, single precision leaves noise: small results are compared with 1.
        assert np.abs(made - expected).max() < 2e-5 * max(1.0, np.abs(expected).max())
        used.update(operators)
        compared += 1

    compare()
    assert compared >= CASES // 2
    assert len(used) >= 60
    assert set(used) <= set(OPERATORS)
