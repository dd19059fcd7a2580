"""The zoo: its rows, its conditioning, and one model of every kind explained with the books closed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.coverage import read
from benchmarks.coverage_summary import beside_peers, methods_summary, summary
from benchmarks.zoo import SETS, all_rows, prepare
from benchmarks.zoo.condition import condition
from benchmarks.zoo.measure import TOLERANCE, Job, measure, misses
from benchmarks.zoo.methods import light
from benchmarks.zoo.scalars import Cell, ClassSum, Total, choose_scalar
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
ROWS = {row.key: row for row in all_rows()}
ONE_OF_EACH = {
    "convolutional classifier": "torchvision:resnet18",
    "segmentation": "torchvision:lraspp_mobilenet_v3_large",
    "detection": "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    "video": "torchvision:swin3d_t",
    "picture classifier": "timm:levit_128s",
    "vision transformer": "timm:vit_tiny_patch16_224",
    "window transformer": "timm:swin_tiny_patch4_window7_224",
    "mixer": "timm:gmlp_ti16_224",
    "gated convolutional": "timm:mobilenetv2_035",
    "hybrid": "timm:maxvit_pico_rw_256",
    "transformers encoder": "transformers:bert",
    "transformers decoder": "transformers:llama",
    "transformers mixture of experts": "transformers:mixtral",
    "transformers state-space": "transformers:mamba",
    "transformers encoder-decoder": "transformers:t5",
    "transformers vision": "transformers:swinv2",
    "transformers audio": "transformers:wav2vec2",
    "transformers multimodal": "transformers:clip",
    "transformers tabular and series": "transformers:patchtst",
    "recurrent": "rnn:LSTM",
    "torchscript": "torchscript:gated perceptron scripted",
    "export": "export:transformer encoder exported",
}
JOBS = [Job("biases", "float64", "epsilon"), Job("biases", "float64", "auto")]


def test_zoo_has_what_the_table_promises() -> None:
    counts = Counter(row.set for row in ROWS.values())
    assert len(ROWS) == len(all_rows()), "two rows have the same name"
    assert {name: counts[name] for name in ("timm", "rnn", "torchscript", "export")} == {
        "timm": 98,
        "rnn": 7,
        "torchscript": 5,
        "export": 5,
    }
    assert counts["transformers"] >= 60
    assert set(counts) == set(SETS)
    kinds = {row.family for row in ROWS.values() if row.set == "transformers"}
    assert kinds >= {"encoder", "decoder", "encoder-decoder", "vision", "audio", "state-space", "mixture of experts"}


def test_every_timm_module_has_its_row() -> None:
    from timm.models._registry import _module_to_models

    assert {row.family for row in ROWS.values() if row.set == "timm"} == set(_module_to_models)


def test_every_torchvision_family_has_its_row() -> None:
    import torchvision

    apart = ("quantization", "optical_flow")  # int8 copies of the same models, and flow fields, which are no class
    modules = {torchvision.models.get_model_builder(name).__module__ for name in torchvision.models.list_models()}
    rows = [row for row in ROWS.values() if row.set == "torchvision"]
    have = {torchvision.models.get_model_builder(row.name).__module__ for row in rows}
    assert have == {module for module in modules if not any(word in module for word in apart)}


def test_every_kind_is_tested() -> None:
    assert {ROWS[key].kind for key in ONE_OF_EACH.values()} == {row.kind for row in ROWS.values()}


@pytest.mark.filterwarnings("ignore")  # the libraries' own models warn of their own settings
@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_books_close_on_one_model_of_each_kind(kind: str) -> None:
    row = ROWS[ONE_OF_EACH[kind]]
    assert row.kind == kind
    done = {job: (columns, trace) for job, columns, trace in measure(row, JOBS, timed=False)}
    assert set(done) == set(JOBS)
    for job, (columns, trace) in done.items():
        assert columns["passed"], f"{job}: {columns['reason']}\n{trace}"


@pytest.mark.parametrize("key", ["torchvision:squeezenet1_1", "timm:mobilenetv3_small_050", "rnn:LSTM", "rnn:RNN relu"])
def test_inputs_get_everything_where_nothing_is_added(key: str) -> None:
    ((_, columns, trace),) = measure(ROWS[key], [Job("zeroed", "float64", "epsilon")], timed=False)
    assert columns["passed"], f"{columns['reason']}\n{trace}"
    assert float(columns["conservation_error"]) < 1e-3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        nn.init.zeros_(self.norm.weight)
        self.layer_scale = nn.Parameter(torch.full((8, 1, 1), 1e-6))
        self.pos_embed = nn.Parameter(torch.zeros(8, 6, 6))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((self.norm(self.conv(x)) * self.layer_scale + self.pos_embed).relu().mean((2, 3)))


@pytest.mark.parametrize("additive", [True, False])
def test_conditioning_wakes_silent_branches(additive: bool) -> None:
    torch.manual_seed(0)
    model = Net().double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64) * 50
    condition(model, lambda: model(x), additive=additive)
    assert model.norm.weight.abs().min() > 0.1
    assert model.layer_scale.abs().min() > 0.1
    shifts = [model.conv.bias, model.norm.bias, model.norm.running_mean, model.pos_embed, model.head.bias]
    assert all(bool(shift.any()) == additive for shift in shifts)
    linear = model.conv(x) - model.conv.bias[:, None, None]
    assert linear.std().item() == pytest.approx(1, rel=1e-9)
    normed = model.norm(model.conv(x)) - model.norm.bias[:, None, None]
    assert 0.3 < normed.std().item() < 3


def test_prepare_gives_the_same_case_twice() -> None:
    row = ROWS["rnn:GRU"]
    first, second = prepare(row), prepare(row)
    assert torch.equal(first.x, second.x)
    assert first.target == second.target
    assert torch.equal(first.scalar(), second.scalar())
    assert not torch.equal(first.scalar(), prepare(row, additive=False).scalar())


def test_scalars_are_what_they_say() -> None:
    logits = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert choose_scalar("top class", logits) == ClassSum(1)
    assert ClassSum(1)(logits).tolist() == [logits[0, 1].sum().item()]
    assert choose_scalar("top logit", logits[0, 0]) == 3
    words = torch.tensor([[[9.0, 1.0], [0.0, 2.0]]])
    assert choose_scalar("last token", words) == Cell(3)
    assert Cell(3)(words).tolist() == [2.0]
    assert choose_scalar("top cell", words) == Cell(0)
    assert Total()(words).tolist() == [12.0]
    with pytest.raises(ValueError, match="no scalar 'top logit' for an output of shape"):
        choose_scalar("top logit", logits)


GOOD = {"finite": True, "output_error": 0.0, "tolerance_ratio": 0.0, "map_error": 0.0, "entries_over_output": 3.0}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("finite", False, "not finite"),
        ("output_error", 1e-2, "explains another output"),
        ("tolerance_ratio", 2e-4, "unaccounted"),
        ("tolerance_ratio", float("nan"), "unaccounted"),
        ("map_error", 1e-2, "does not sum"),
        ("entries_over_output", 101.0, "entries sum"),
    ],
)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_row_with_one_fault_misses(column: str, value: float, reason: str, dtype: str) -> None:
    assert list(misses(GOOD, dtype)) == []
    (found,) = misses(GOOD | {column: value}, dtype)
    assert reason in found


def test_a_model_that_raises_stays_in_the_table() -> None:
    row = ROWS["rnn:GRU"]
    ((_, columns, trace),) = measure(row, [Job("biases", "float64", "no such composite")])
    assert not columns["passed"]
    assert "no such composite" in columns["reason"]
    assert "Traceback" in trace


def test_summary_counts_and_lists_misses() -> None:
    base = {
        "set": "rnn",
        "model": "GRU",
        "composite": "epsilon",
        "dtype": "float64",
        "code": "a",
        "inputs_share": "0.5",
    }
    base |= {"gradient_ratio": "1.5", "conservation_error": "", "ran": "True", "passed": "True", "reason": ""}
    rows = [
        base | {"mode": "biases"},
        base | {"mode": "biases", "model": "LSTM", "passed": "False", "reason": "unaccounted 1e-3"},
        base | {"mode": "zeroed", "conservation_error": "1e-9"},
        base | {"mode": "zeroed", "model": "LSTM", "conservation_error": "0.5"},
    ]
    text = summary(rows)
    assert "| rnn | epsilon | float64 | 2 | 2 | 1 | 0.50 |" in text
    assert "| all | epsilon | float64 | 2 | 1 | 1 | 2 |" in text
    assert "`rnn:LSTM` (epsilon biases float64): unaccounted 1e-3" in text


@pytest.mark.parametrize(
    ("method", "model", "defined"),
    [
        ("gradient", "rnn:GRU", True),
        ("guided-backprop", "rnn:RNN relu", True),
        ("integrated-gradients", "transformers:bert", True),
        ("grad-cam", "torchvision:lraspp_mobilenet_v3_large", True),  # its target is given: there is no natural one
        ("grad-cam", "rnn:GRU", False),
        ("attention-relevance", "torchvision:resnet18", False),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_other_methods_run_or_say_why_not(method: str, model: str, defined: bool) -> None:
    job = Job("biases", "float32", method=method)
    ((found, columns, trace),) = measure(ROWS[model], [job], timed=False)
    assert found == job
    assert columns["passed"], f"{columns['reason']}\n{trace}"
    assert columns["defined"] == columns["ran"] == defined
    if defined:
        assert columns["finite"]
        assert not columns["zero"]
    else:
        assert len(columns["reason"]) > 30
        assert "\n" not in columns["reason"]


def test_a_method_that_fails_or_is_not_finite_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    import pellucid

    row, job = ROWS["rnn:GRU"], Job("biases", "float32", method="gradient")
    ((_, columns, trace),) = measure(row, [Job("biases", "float32", method="magic")], timed=False)
    assert not columns["passed"]
    assert "No method is called 'magic'" in columns["reason"]
    assert "Traceback" in trace
    real = pellucid.explain

    def changed(change: Any) -> Any:
        return lambda *given, **options: change(real(*given, **options))

    for change, reason in [
        (lambda e: replace(e, relevance=e.relevance * float("nan")), "not finite"),
        (lambda e: replace(e, output=e.output + 1), "explains another output"),
    ]:
        monkeypatch.setattr(pellucid, "explain", changed(change))
        ((_, columns, _),) = measure(row, [job], timed=False)
        assert not columns["passed"]
        assert reason in columns["reason"]
    monkeypatch.setattr(pellucid, "explain", changed(lambda e: replace(e, relevance=e.relevance * 0)))
    ((_, columns, _),) = measure(row, [job], timed=False)
    assert columns["passed"]
    assert columns["reason"] == "zero everywhere"


def test_light_settings_do_not_touch_what_a_method_has_not() -> None:
    x = torch.zeros(1, 3, 32, 32)
    assert light("integrated-gradients", x).settings()["steps"] == 8
    assert light("chefer", x).name == "attention-relevance"
    assert light("gradient", {"ids": torch.zeros(1, 4, dtype=torch.long)}).settings() == {}


def test_summary_of_methods_counts_and_says_why() -> None:
    base = {"set": "timm", "dtype": "float32", "defined": "True", "ran": "True", "finite": "True", "zero": "False"}
    base |= {"passed": "True", "reason": "", "code": "a"}
    no = {"defined": "False", "ran": "False", "finite": "", "zero": ""}
    rows = [
        base | {"method": "grad-cam", "model": "a"},
        base | {"method": "grad-cam", "model": "b", "zero": "True"},
        base | no | {"method": "grad-cam", "model": "c", "reason": "The layer 'x' has shape (3, 4). Try another."},
        base | no | {"method": "grad-cam", "model": "d", "reason": "The layer 'y' has shape (5, 4). Try another."},
        base | {"method": "occlusion", "model": "a", "ran": "False", "passed": "False", "reason": "KeyError: 3"},
    ]
    text = methods_summary(rows)
    assert "| grad-cam | 4 | 2 | 2 | 2 | 1 | 2 x The layer ... has shape ... |" in text
    assert "| occlusion | 1 | 1 | 0 | 1 | 0 |  |" in text
    assert "- occlusion on `timm:a`: KeyError: 3" in text
    assert "empty" in methods_summary([])


def test_summary_of_peers_counts_the_models_that_all_were_given() -> None:
    base = {"set": "timm", "mode": "zeroed", "dtype": "float64", "ran": "True", "conservation_error": "1e-9"}
    ours = [base | {"model": model, "composite": "epsilon"} for model in "abc"]
    failed = {"ran": "False", "conservation_error": ""}
    theirs = [
        base | {"model": "a", "composite": "zennit"} | failed,
        base | {"model": "b", "composite": "zennit", "conservation_error": "5e-3"},
    ]
    text = beside_peers(ours, theirs)
    assert "float64, 2 models" in text
    assert "| pellucid epsilon | 2 | 2 | 2 |" in text
    assert "| zennit | 1 | 1 | 0 |" in text
    assert beside_peers(ours, []) == ""


@pytest.mark.slow
def test_sweep_of_methods_resumes_where_it_stopped(tmp_path: Path) -> None:
    table = tmp_path / "methods.csv"

    def run(*more: str) -> str:
        command = [sys.executable, "-m", "benchmarks.coverage", "--match", "rnn:RNN", "--output", str(table), *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
        return done.stdout

    assert "1 models, 1 rows" in run("--limit", "1", "--methods", "gradient")
    assert "2 models, 3 rows" in run("--methods", "gradient", "guided-backprop")
    rows = read(table)
    pairs = {(model, method) for model in ("RNN relu", "RNN tanh") for method in ("gradient", "guided-backprop")}
    assert {(row["model"], row["method"]) for row in rows} == pairs
    assert {(row["dtype"], row["ran"], row["finite"]) for row in rows} == {("float32", "True", "True")}
    assert "0 models, 0 rows" in run("--methods", "gradient", "guided-backprop")
    assert "| gradient | 2 | 2 | 2 | 2 | 0 |  |" in run("--methods", "--summary")


@pytest.mark.slow
def test_sweep_resumes_where_it_stopped(tmp_path: Path) -> None:
    table = tmp_path / "coverage.csv"

    def run(*more: str) -> str:
        command = [sys.executable, "-m", "benchmarks.coverage", "--set", "rnn", "--match", "RNN", "--dtype", "float64"]
        command += ["--composite", "epsilon", "--output", str(table), *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
        return done.stdout

    assert "1 models, 1 rows" in run("--mode", "biases", "--limit", "1")
    assert "2 models, 3 rows" in run()
    assert len(read(table)) == 4
    assert "0 models, 0 rows" in run()
    assert "2 models, 4 rows" in run("--fresh")
    assert len(read(table)) == 4
    assert "| rnn | epsilon | float64 | 2 | 2 | 2 |" in run("--summary")


@pytest.mark.slow
def test_sweep_writes_down_a_model_that_takes_too_long(tmp_path: Path) -> None:
    table = tmp_path / "coverage.csv"
    command = [
        sys.executable,
        "-m",
        "benchmarks.coverage",
        "--match",
        "deepseek_vit",
        "--dtype",
        "float64",
        "--mode",
        "biases",
    ]
    command += ["--time-limit", "1", "--output", str(table)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=300)
    rows = read(table)
    assert [row["passed"] for row in rows] == ["False", "False"]
    assert rows[0]["reason"] == "over the time limit of 1 s"
