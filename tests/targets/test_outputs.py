"""Which tensor of an output is meant."""

from __future__ import annotations

import re
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.outputs import main_output

pytestmark = pytest.mark.core
SCORES, OTHER, IDS = torch.zeros(2, 3), torch.ones(2, 4), torch.zeros(2, 5, dtype=torch.int64)
Pair = namedtuple("Pair", ["logits", "aux_logits"])


@dataclass
class Result:
    loss: Tensor | None
    logits: Tensor
    cache: object = None


@dataclass
class Nested:
    hidden: tuple[Tensor, ...]


@pytest.mark.parametrize(
    ("output", "path"),
    [
        (SCORES, "output"),
        ({"logits": SCORES, "hidden": OTHER}, "logits"),
        ({"logits": SCORES, "out": OTHER}, "logits"),
        (OrderedDict(out=SCORES, aux=OTHER), "out"),
        (Pair(SCORES, OTHER), "logits"),
        (Result(OTHER, SCORES), "logits"),
        ((SCORES,), "[0]"),
        ([IDS, SCORES], "[1]"),
        ((IDS, {"scores": SCORES}), "[1].scores"),
        (Nested((SCORES,)), "hidden[0]"),
        ({"logits": IDS, "scores": SCORES, "note": "text", "none": None}, "scores"),
    ],
)
def test_finds(output: object, path: str) -> None:
    tensor, found = main_output(output)
    assert tensor is SCORES
    assert found == path


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            {"last_hidden_state": OTHER, "pooler_output": SCORES.half()},
            "The model returned a dict with several tensors and none is called 'logits' or 'out', so it is not clear "
            "which one is explained. There are last_hidden_state (2, 4) float32, pooler_output (2, 3) float16. Say it "
            "with a target that takes the whole output, for example target=pellucid.targets.raw(lambda output: "
            "output['pooler_output'].flatten(1).sum(1)).",
        ),
        (
            [{"boxes": OTHER, "scores": SCORES[0]}],
            "The model returned a list with several tensors and none is called 'logits' or 'out', so it is not clear "
            "which one is explained. There are [0].boxes (2, 4) float32, [0].scores (3,) float32. Say it with a target "
            "that takes the whole output, for example target=pellucid.targets.raw(lambda output: output[0]['scores']).",
        ),
        (
            Nested((SCORES, OTHER)),
            "The model returned a Nested with several tensors and none is called 'logits' or 'out', so it is not clear "
            "which one is explained. There are hidden[0] (2, 3) float32, hidden[1] (2, 4) float32. Say it with a "
            "target that takes the whole output, for example target=pellucid.targets.raw(lambda output: "
            "output.hidden[1].flatten(1).sum(1)).",
        ),
        (
            {"ids": IDS},
            "The model returned a dict without a floating-point tensor, so there is no score to explain. It holds ids "
            "(2, 5) int64. Explain a module whose output is a tensor, a tuple or a dictionary with scores.",
        ),
        (
            "text",
            "The model returned a str without a floating-point tensor, so there is no score to explain. It holds no "
            "tensor at all. Explain a module whose output is a tensor, a tuple or a dictionary with scores.",
        ),
    ],
)
def test_error_texts(output: object, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        main_output(output)


def test_many_tensors_are_cut() -> None:
    with pytest.raises(InputError, match=r"\[11\] \(2, 3\) float32 and 8 more\. Say"):
        main_output([SCORES] * 20)


def test_transformers_outputs() -> None:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    found, path = main_output(outputs.SequenceClassifierOutput(loss=OTHER.sum(), logits=SCORES, hidden_states=(OTHER,)))
    assert found is SCORES
    assert path == "logits"
    found, path = main_output(outputs.BaseModelOutput(last_hidden_state=OTHER))
    assert found is OTHER
    assert path == "last_hidden_state"
    with pytest.raises(InputError, match=r"last_hidden_state .* pooler_output .*output\['pooler_output'\]"):
        main_output(outputs.BaseModelOutputWithPooling(last_hidden_state=OTHER, pooler_output=SCORES))
