# ruff: noqa: B905, UP
"""Real MXNet behind a pipe, run by Python 3.8 (see `make mxnet-env`): one JSON request and answer a line.

`infer` gives the shapes of a graph's outputs; `run` draws weights, computes outputs, and saves both files of the model.
What MXNet refuses comes back as `error`.
"""

import json
import os
import sys

import mxnet as mx
import numpy as np


def infer(request):
    symbol = mx.sym.load_json(request["symbol"])
    _, shapes, _ = symbol.infer_shape(**{name: tuple(shape) for name, shape in request["shapes"].items()})
    return {"shapes": [list(shape) for shape in shapes]}


def draw(name, shape, rng):
    if name.endswith("lengths"):
        return rng.integers(1, 4, shape).astype("float32")
    if name.endswith("var"):
        return rng.uniform(0.5, 2.0, shape).astype("float32")
    if name.endswith("gamma"):
        return rng.uniform(-1.5, 1.5, shape).astype("float32")
    scale = 1.0 / np.sqrt(max(1, np.prod(shape[1:]))) if name.endswith("weight") else 0.5
    return rng.normal(0, scale, shape).astype("float32")


def run(request):
    rng = np.random.default_rng(request["seed"])
    symbol = mx.sym.load_json(request["symbol"])
    shapes, _, states = symbol.infer_shape(**{name: tuple(shape) for name, shape in request["shapes"].items()})
    given = {name: draw(name, shape, rng) for name, shape in zip(symbol.list_arguments(), shapes)}
    for name in request["shapes"]:
        given[name] = rng.normal(0, 1, request["shapes"][name]).astype("float32")
    kept = {name: draw(name, shape, rng) for name, shape in zip(symbol.list_auxiliary_states(), states)}
    arguments = {name: mx.nd.array(value) for name, value in given.items()}
    auxiliary = {name: mx.nd.array(value) for name, value in kept.items()}
    executor = symbol.bind(mx.cpu(), arguments, grad_req="null", aux_states=auxiliary)
    outputs = [output.asnumpy() for output in executor.forward(is_train=False)]
    folder = request["folder"]
    symbol.save(os.path.join(folder, "net-symbol.json"))
    weights = {"arg:" + name: value for name, value in arguments.items() if name not in request["shapes"]}
    weights.update({"aux:" + name: value for name, value in auxiliary.items()})
    mx.nd.save(os.path.join(folder, "net-0000.params"), weights)
    arrays = {"out_" + str(index): value for index, value in enumerate(outputs)}
    arrays.update({"in_" + name: given[name] for name in request["shapes"]})
    np.savez(os.path.join(folder, "io.npz"), **arrays)
    return {"finite": bool(all(np.isfinite(value).all() for value in outputs))}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints must not be taken for an answer
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"infer": infer, "run": run}[asked["do"]](asked)
        except Exception as error:
            answer = {"error": str(error)[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
