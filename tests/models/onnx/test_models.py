"""Networks exported by torch and brought back: what they answer, and how they are explained."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import pellucid as pl
from pellucid.models.onnx.load import build
from tests.models.onnx.made import distance, reference, run


def exported(folder: Path, net: nn.Module, *x: Tensor, dynamic: bool = True, opset: int = 17, **settings: Any) -> Path:
    """The network as torch writes it, by the older exporter unless ``dynamo`` is set: it takes a tenth of the time."""
    path = folder / "net.onnx"
    names = [f"in{place}" for place in range(len(x))]
    axes = {name: {0: "n"} for name in [*names, "y"]} if dynamic else None
    settings = {"dynamo": False, "opset_version": opset, "dynamic_axes": axes} | settings
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), x, str(path), input_names=names, output_names=["y"], verbose=False, **settings)
    return path


def drawn(net: nn.Module) -> nn.Module:
    """Statistics that are not those of no data, and a head that is not zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1, generator=generator)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=generator)
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05, generator=generator)
    return net


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.SiLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.block(x))
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 5, bidirectional=True, batch_first=True, num_layers=2)
        self.head = nn.Linear(10, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(tokens))[0].mean(1))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, 16))
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        q, k, v = self.qkv(self.norm(x)).reshape(x.shape[0], -1, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return self.head((x + self.mlp(x))[:, 0])


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "convolutions": (ConvNet, lambda: torch.randn(3, 3, 16, 16)),
    "recurrent": (Recurrent, lambda: torch.randint(0, 20, (3, 7))),
    "transformer": (Transformer, lambda: torch.randn(3, 3, 8, 8)),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return drawn(NETS[name][0]()).eval(), NETS[name][1]()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("opset", [11, 17])
def test_what_comes_back_answers_as_before(tmp_path: Path, name: str, opset: int) -> None:
    if name == "transformer" and opset == 11:
        pytest.skip("torch writes attention from version 14 on")
    net, x = made(name)
    module = build(exported(tmp_path, net, x, opset=opset))
    assert distance(run(module, x)[0], run(net, x)[0].numpy()) < 1e-5
    assert distance(run(module, x[:1])[0], run(net, x[:1])[0].numpy()) < 1e-5
    assert not [layer for layer in module.modules() if layer.training]


@pytest.mark.parametrize("name", NETS)
def test_a_fixed_number_of_samples_is_none(tmp_path: Path, name: str) -> None:
    net, x = made(name)
    module = build(exported(tmp_path, net, x[:1], dynamic=False))
    assert distance(run(module, x)[0], run(net, x)[0].numpy()) < 1e-5


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("composite", ["epsilon", None])
def test_relevance_is_that_of_the_network_before(tmp_path: Path, name: str, composite: str | None) -> None:
    """The ledger closes; with epsilon the relevance is the same, however the graph is written."""
    net, x = made(name)
    module = build(exported(tmp_path, net, x))
    ours, before = (pl.explain(part, x, target=1, composite=composite, dtype="float64") for part in (module, net))
    assert ours.ledger.closed(1e-8), ours.ledger
    assert torch.allclose(ours.output, before.output, rtol=1e-5, atol=1e-6)
    if composite == "epsilon" and name != "convolutions":  # there the exporter fuses norms
        assert distance(ours.relevance, before.relevance.numpy()) < 1e-3


@pytest.mark.parametrize(("method", "layer"), [("integrated-gradients", None), ("grad-cam", "stem.3")])
def test_methods_give_what_they_give_before(tmp_path: Path, method: str, layer: str | None) -> None:
    net, x = made("convolutions")
    module = build(exported(tmp_path, net, x))
    before = pl.explain(net, x[:1], target=1, method=method, layer=layer, dtype="float64")
    same = layer and f"{layer}.MaxPool"
    ours = pl.explain(module, x[:1], target=1, method=method, layer=same, dtype="float64")
    assert distance(ours.relevance, before.relevance.numpy()) < 1e-4


def test_layers_have_torchs_names_and_classes(tmp_path: Path) -> None:
    net, x = made("convolutions")
    module = build(exported(tmp_path, net, x))
    named = dict(module.named_modules())
    assert isinstance(named["stem.0.Conv"] if "stem.0.Conv" in named else named["stem.0"], nn.Conv2d)
    assert isinstance(named["head"], nn.Linear)
    assert torch.equal(module.head.weight, net.head.weight)
    assert isinstance(next(part for part in module.modules() if isinstance(part, nn.LSTM | nn.Conv2d)), nn.Conv2d)
    recurrent = build(exported(tmp_path, *made("recurrent")))
    assert [type(part).__mro__[2] for part in recurrent.modules() if isinstance(part, nn.LSTM)] == [nn.LSTM] * 2


TORCHVISION = (
    "alexnet vgg11_bn squeezenet1_1 resnet18 densenet121 googlenet inception_v3 mobilenet_v2 mobilenet_v3_small "
    "shufflenet_v2_x0_5 mnasnet0_5 efficientnet_b0 efficientnet_v2_s regnet_y_400mf resnext50_32x4d convnext_tiny "
    "swin_t swin_v2_t maxvit_t lraspp_mobilenet_v3_large deeplabv3_mobilenet_v3_large fcn_resnet50"
).split()
TIMM = (
    "vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 mixer_s32_224 resmlp_12_224 gmlp_ti16_224 "
    "convmixer_768_32 poolformer_s12 xcit_nano_12_p16_224 levit_128s mobilevit_xxs mobilevitv2_050 "
    "efficientformer_l1 coat_lite_tiny pvt_v2_b0 cait_xxs24_224 crossvit_tiny_240 res2net50_26w_4s resnest14d "
    "skresnet18 hrnet_w18_small dla34 ghostnet_050 repvgg_a0 fastvit_t8 edgenext_xx_small rexnet_100 "
    "twins_pcpvt_small visformer_tiny tinynet_e lcnet_035 cspresnet50 nfnet_l0 convnextv2_atto efficientvit_b0 "
    "starnet_s1 mambaout_femto inception_next_atto hiera_tiny_224 focalnet_tiny_srf davit_tiny "
    "mobilenetv4_conv_small seresnet18 repvit_m0_9 tiny_vit_5m_224 mobileone_s0"
).split()
WHOLE = "vgg alexnet vit swin mlp mixer levit cait crossvit xcit hiera deit efficientformer coat visformer".split()


class FirstOutput(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)["out"]


def family(name: str, library: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "timm":
            net = pytest.importorskip("timm").create_model(name, pretrained=False, exportable=True)
            size = net.default_cfg["input_size"][-1]
            size = size if any(part in name for part in WHOLE) else min(size, 128)
        else:
            models = pytest.importorskip("torchvision").models
            drawn_inside = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            backbone = {"weights_backbone": None} if name in models.list_models(models.segmentation) else {}
            net = models.get_model(name, weights=None, **drawn_inside, **backbone)
            net = FirstOutput(net) if backbone else net
            size = 224 if any(part in name for part in WHOLE) else 96
    return drawn(net).eval(), torch.randn(2, 3, size, size)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("library", "name"), [("torchvision", n) for n in TORCHVISION] + [("timm", n) for n in TIMM])
def test_families_come_back_as_onnxruntime_runs_them(tmp_path: Path, library: str, name: str) -> None:
    net, x = family(name, library)
    logging.disable(logging.WARNING)
    try:
        path = exported(tmp_path, net, x)
    finally:
        logging.disable(logging.NOTSET)
    module = build(path)
    (found,) = run(module, x)
    assert distance(found, reference(path, {"in0": x.numpy()})[0]) < 1e-4
    assert distance(found, run(net, x)[0].numpy()) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_the_newer_exporter(tmp_path: Path, name: str) -> None:
    """It keeps torch's names, fuses norms into convolutions, and writes the number of samples into shapes."""
    net, x = family(name, "timm" if "vit" in name else "torchvision")
    path = exported(tmp_path, net, x[:1], dynamo=True, opset_version=None, dynamic_axes=None)
    module = build(path)
    assert distance(run(module, x)[0], run(net, x)[0].numpy()) < 1e-4
    assert distance(run(module, x[:1])[0], reference(path, {"in0": x[:1].numpy()})[0]) < 1e-4
    assert "layer1.0.conv1" in dict(module.named_modules()) or "blocks.0.attn" in dict(module.named_modules())
    explanation = pl.explain(module, x[:1], target=3, composite="epsilon", dtype="float64")
    assert explanation.ledger.closed(1e-8)
    assert np.isfinite(explanation.relevance.numpy()).all()
