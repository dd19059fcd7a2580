"""Specifications of MXNet models, which files belong together, and what is said where they do not."""

from __future__ import annotations

import json
import logging
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pellucid as pl
from pellucid.errors import FileError, InputError, ModelError
from pellucid.models import load_model, register_operator
from pellucid.models.mxnet.load import newest_params
from tests.models.mxnet.fixtures import DATA, io, relative, symbol
from tests.models.mxnet.test_params import array, listed
from tests.models.mxnet.test_symbol import node, text, variable

pytestmark = pytest.mark.core


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    for path in symbol("digits_mlp").parent.glob("digits_mlp*"):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "digits_mlp-symbol.json"


def output(spec: str) -> Tensor:
    with torch.no_grad():
        return load_model(spec).module(torch.from_numpy(io("digits_mlp")["data"]))


def test_a_bare_file_and_every_wording_of_it(mlp: Path, tmp_path: Path) -> None:
    params = tmp_path / "digits_mlp-0000.params"
    for spec in (str(mlp), f"mxnet:{mlp}", f"mxnet:{mlp}?params={params}", f"{mlp}?params={params}"):
        loaded = load_model(spec, labels=[str(digit) for digit in range(10)])
        assert loaded.source == spec
        assert loaded.class_names[9] == "9"
        assert relative(output(spec), io("digits_mlp")["out_0"]) < 1e-6


def test_the_newest_epoch_is_taken(mlp: Path, tmp_path: Path) -> None:
    weights = (tmp_path / "digits_mlp-0000.params").read_bytes()
    (tmp_path / "digits_mlp-0002.params").write_bytes(b"an older epoch")
    (tmp_path / "digits_mlp-0010.params").write_bytes(weights)
    (tmp_path / "digits_mlp-0011.params.bak").write_bytes(b"no epoch")
    (tmp_path / "other-0099.params").write_bytes(b"another model")
    assert newest_params(mlp).name == "digits_mlp-0010.params"
    assert relative(output(str(mlp)), io("digits_mlp")["out_0"]) < 1e-6


def test_other_outputs_can_be_asked_for(mlp: Path) -> None:
    module = load_model(f"mxnet:{mlp}?outputs=mlp_dense0_fwd,mlp_dense2_fwd_output").module
    hidden, logits = module(torch.from_numpy(io("digits_mlp")["data"]))
    assert module.output_names == ("mlp_dense0_fwd", "mlp_dense2_fwd")
    assert hidden.ndim == 2
    assert relative(logits, io("digits_mlp")["out_0"]) < 1e-6
    with pytest.raises(InputError, match=r"no node 'mlp_dense9'. Near ones: .*mlp_dense"):
        load_model(f"mxnet:{mlp}?outputs=mlp_dense9")
    with pytest.raises(FileError, match="takes output 3 of"):
        load_model(f"mxnet:{mlp}?outputs=mlp_dense2_fwd_output3")


def test_a_question_mark_in_a_name_is_no_option(mlp: Path) -> None:
    strange = mlp.parent / "what?now"
    strange.mkdir()
    for path in (mlp, mlp.parent / "digits_mlp-0000.params"):
        shutil.copy(path, strange / path.name)
    assert output(f"mxnet:{strange / mlp.name}").shape == (4, 10)


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        ("mxnet:", InputError, "needs a name"),
        ("mxnet:nowhere-symbol.json", FileError, "cannot be opened"),
        ("nowhere-symbol.json", FileError, "cannot be opened"),
        ("mxnet:{}?params=nowhere.params", FileError, "nowhere.params must be a readable file"),
        ("mxnet:{}?params={}", FileError, "digits_mlp-symbol.json must be an MXNet .params file"),
        ("mxnet:{}?outputs=", InputError, "'outputs=' is not understood"),
    ],
)
def test_wrong_specifications(mlp: Path, spec: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        load_model(spec.replace("{}", str(mlp)))


def test_a_graph_alone_says_which_file_is_missing(mlp: Path) -> None:
    (mlp.parent / "digits_mlp-0000.params").unlink()
    with pytest.raises(FileError, match=r"no weights beside it; they are expected as digits_mlp-0000\.params"):
        load_model(str(mlp))


def test_weights_of_another_network_are_told_apart(mlp: Path) -> None:
    gluon = DATA / "models" / "digits_mlp" / "digits_mlp.gluon_params"
    with pytest.raises(FileError, match=r"Block\.save_parameters.*net\.export"):
        load_model(f"mxnet:{mlp}?params={gluon}")
    with pytest.raises(FileError, match=r"holds none of the weights .*belong together"):
        load_model(f"mxnet:{mlp}?params={symbol('digits_cnn').parent / 'digits_cnn-0000.params'}")


def saved(folder: Path, symbol_text: str, **arrays: np.ndarray) -> str:
    """A model of a symbol and float32 arrays, as files."""
    (folder / "net-symbol.json").write_text(symbol_text)
    content = [array(value.shape, value.astype("<f4").tobytes()) for value in arrays.values()]
    names = tuple(f"arg:{name}" for name in arrays)
    (folder / "net-0000.params").write_bytes(listed(*content, names=names))
    return str(folder / "net-symbol.json")


def dense(**settings: str) -> str:
    return text(variable(), variable("w"), node("FullyConnected", 0, 1, attrs={"no_bias": "True", **settings}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_hidden": "4"}, "must have 4 units, but its weight 'w' has the shape"),
        ({"num_hidden": "many"}, "num_hidden must be whole numbers such as 2"),
        ({"flatten": "perhaps"}, "flatten must be True or False, but is 'perhaps'"),
        ({"no_bias": "False"}, "must have an input 2, but has 2 inputs"),
    ],
)
def test_settings_that_cannot_be_are_named_with_their_node(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    spec = saved(tmp_path, dense(**settings), w=np.zeros((3, 2)))
    with pytest.raises(FileError, match=rf"the node 'fullyconnected' \(FullyConnected\).*{said}"):
        load_model(spec)


def test_a_weight_that_the_file_lacks_is_an_input_or_an_error(tmp_path: Path) -> None:
    """A weight of a dense layer may be an input of the graph; a norm's statistics may not."""
    spec = saved(tmp_path, dense(), other=np.zeros(1), data2=np.zeros(1), w2=np.zeros(1))
    with pytest.raises(FileError, match="holds none of the weights"):
        load_model(spec)
    names = [variable(name) for name in ("data", "gamma", "beta", "mean", "var")]
    spec = saved(
        tmp_path, text(*names, node("BatchNorm", 0, 1, 2, 3, 4)), gamma=np.ones(2), beta=np.ones(2), mean=np.ones(2)
    )
    with pytest.raises(FileError, match="needs the weight 'var', which is not in the file"):
        load_model(spec)


def test_all_unknown_operators_are_listed_at_once(tmp_path: Path) -> None:
    nodes = [variable(), node("first_unknown", 0), *(node("Custom", 1 + k) for k in range(5)), node("relu", 6)]
    with pytest.raises(ModelError) as caught:
        load_model(saved(tmp_path, text(*nodes, variable("w"), node("elemwise_add", 7, 8)), w=np.zeros(1)))
    said = str(caught.value)
    assert "2 operators of this mxnet model are not known here" in said
    assert "first_unknown (first_unknown); Custom (custom, custom, custom and 2 more)" in said
    assert 'register_operator("mxnet", "first_unknown", function)' in said


def scaled_swish(x: Tensor, weight: Tensor, beta: float = 1.0, sizes: tuple[int, ...] = ()) -> Tensor:
    assert sizes == (2, 3)
    return weight * x * torch.sigmoid(beta * x)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x / 2, x / 3


def test_users_add_operators_of_their_own(tmp_path: Path) -> None:
    register_operator("mxnet", "test_swish", scaled_swish)
    register_operator("mxnet", "test_halves", halves, outputs=2)
    register_operator("mxnet", "test_swish", scaled_swish)  # again, as when a notebook's cell runs twice
    own = node("test_swish", 0, 1, attrs={"beta": "2.0", "sizes": "(2, 3)", "__note__": "x"})
    parts = node("test_halves", 2)
    total = {"op": "elemwise_add", "name": "sum", "inputs": [[3, 0, 0], [3, 1, 0]]}
    spec = saved(tmp_path, text(variable(), variable("w"), own, parts, total), w=np.array([3.0]))
    module = load_model(spec).module
    x = torch.linspace(-2, 2, 10).reshape(2, 5)
    assert torch.allclose(module(x), 5 / 6 * 3 * x * torch.sigmoid(2 * x))
    assert [name for name, _ in module.named_parameters()] == ["w"]
    assert "test_swish" in dict(module.named_modules())
    assert pl.explain(module, x, target=1, composite="epsilon", dtype="float64").ledger.closed(1e-9)


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [("caffe", "swish", "no format is called 'caffe'"), ("mxnet", "Convolution", "known already")],
)
def test_operators_that_cannot_be_added(kind: str, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        register_operator(kind, name, halves)


def test_half_precision_is_read_as_single_and_double_stays(tmp_path: Path) -> None:
    spec = saved(tmp_path, dense(), w=np.zeros((3, 2)))
    for number, form, dtype in ((2, "<6e", torch.float32), (1, "<6d", torch.float64)):
        values = struct.pack(form, *range(6))
        content = listed(array((3, 2), values, dtype=number), names=("arg:w",))
        (tmp_path / "net-0000.params").write_bytes(content)
        weight = load_model(spec).module.fullyconnected.weight
        assert weight.dtype == dtype
        assert weight.flatten().tolist() == list(range(6))


def test_labels_of_losses_are_no_inputs(tmp_path: Path) -> None:
    fed = [variable(), variable("w"), node("FullyConnected", 0, 1, attrs={"no_bias": "1"}), variable("softmax_label")]
    loss = node("SoftmaxOutput", 2, 3)
    module = load_model(saved(tmp_path, text(*fed, loss), w=np.ones((3, 2)))).module
    assert module.input_names == ("data",)
    assert module(torch.zeros(1, 2)).tolist() == [pytest.approx([1 / 3] * 3)]
    with_second_use = text(*fed, loss, {"op": "elemwise_mul", "name": "m", "inputs": [[4, 0], [3, 0]]})
    module = load_model(saved(tmp_path, with_second_use, w=np.ones((3, 2)))).module
    assert module.input_names == ("data", "softmax_label")


def detector(*, second_stage: bool) -> list[dict]:
    """Boxes from a dense layer, suppressed; with a second stage, a dense layer looks at the boxes that are left."""
    nodes = [
        variable(),
        variable("w"),
        node("FullyConnected", 0, 1, attrs={"no_bias": "True", "flatten": "False"}),
        node("_contrib_box_nms", 2, attrs={"score_index": "0", "coord_start": "1"}),
    ]
    if second_stage:
        again = {"op": "FullyConnected", "name": "second", "inputs": [[3, 0], [1, 0]], "attrs": {"no_bias": "True"}}
        nodes += [{**again, "attrs": {"no_bias": "True", "flatten": "False"}}]
    return nodes


def test_post_processing_is_cut_and_it_is_said_so(tmp_path: Path, caplog) -> None:
    weight = np.eye(5)
    x = torch.tensor([[[0.9, 0.0, 0.0, 2.0, 2.0], [0.8, 0.0, 0.0, 2.0, 1.9], [0.7, 5.0, 5.0, 6.0, 6.0]]])
    spec = saved(tmp_path, text(*detector(second_stage=False)), w=weight)
    with caplog.at_level(logging.WARNING):
        module = load_model(spec).module
    assert "outputs are fullyconnected" in caplog.text
    assert torch.equal(module(x), x)
    whole = load_model(f"mxnet:{spec}?outputs=_contrib_box_nms").module
    assert torch.equal(whole(x)[0], torch.stack([x[0, 0], x[0, 2], torch.full((5,), -1.0)]))
    two = load_model(saved(tmp_path, text(*detector(second_stage=True)), w=weight)).module
    assert torch.equal(two(x), whole(x))


def test_a_graph_of_post_processing_alone_is_refused(tmp_path: Path) -> None:
    nodes = [variable(), variable("w"), node("_contrib_box_nms", 0), node("elemwise_add", 2, 1)]
    with pytest.raises(ModelError, match=r"post-processing alone \(_contrib_box_nms\)"):
        load_model(saved(tmp_path, text(*nodes), w=np.zeros(1)))


def test_settings_are_read_leniently_where_versions_wrote_them_differently(tmp_path: Path) -> None:
    names = [variable(), variable("w")]
    for kernel in ("(3, 3)", "[3,3]", "(3L, 3L)"):
        settings = {"kernel": kernel, "num_filter": "2", "no_bias": "1", "pad": "(1, 1)", "cudnn_off": "x"}
        spec = saved(tmp_path, text(*names, node("Convolution", 0, 1, attrs=settings)), w=np.ones((2, 1, 3, 3)))
        assert load_model(spec).module(torch.ones(1, 1, 4, 4)).shape == (1, 2, 4, 4)


def test_json_of_a_symbol_is_not_taken_for_weights_of_torch(mlp: Path) -> None:
    assert json.loads(mlp.read_text())["nodes"]
    with pytest.raises(InputError, match="weights alone"):
        load_model(str(mlp.parent / "digits_mlp-0000.params"))
