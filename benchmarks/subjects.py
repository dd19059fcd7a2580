"""Models and methods whose cost is measured: what `speed.py` and `memory.py` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Subject:
    """A model and an input for it; the class explained is each sample's own.

    Attributes:
        name: as in the tables.
        model: frozen, in evaluation mode.
        x: input, shape (batch, ...): images, or for BERT the word vectors, shape (batch, tokens, width).
        targets: class of each sample.
    """

    name: str
    model: nn.Module
    x: Tensor
    targets: list[int]

    def logits(self, x: Tensor) -> Tensor:
        """Shape (batch, classes)."""
        output = self.model(inputs_embeds=x) if self.name.startswith("bert") else self.model(x)
        return output if isinstance(output, Tensor) else output.logits

    def scalar(self, x: Tensor) -> Tensor:
        """Sum over the batch of each sample's logit."""
        return self.logits(x).gather(1, torch.tensor(self.targets, device=x.device)[:, None]).sum()


def _settle(model: nn.Module, x: Tensor) -> None:
    """Sets the statistics of batch norms from `x`: without it the signals are too small to time honestly."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(x)
    model.eval()


def _vision(name: str, batch: int, size: int) -> tuple[nn.Module, Tensor]:
    import torchvision

    model = torchvision.models.get_model(name, weights=None)
    x = torch.randn(batch, 3, size, size)
    if name.startswith("vit"):
        nn.init.normal_(model.heads.head.weight, std=0.02)  # torchvision's is zero: nothing to explain
    _settle(model, x)
    return model, x


def _bert(batch: int, tokens: int, width: int) -> tuple[nn.Module, Tensor]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        num_hidden_layers=12,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        num_labels=10,
    )
    return BertForSequenceClassification(config), 0.1 * torch.randn(batch, tokens, width)


def _tiny(batch: int) -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    x = torch.randn(batch, 3, 16, 16)
    _settle(model, x)
    return model, x


MAKERS: dict[str, Callable[[int], tuple[nn.Module, Tensor]]] = {
    "vgg16": lambda batch: _vision("vgg16", batch, 224),
    "resnet50": lambda batch: _vision("resnet50", batch, 224),
    "efficientnet_b0": lambda batch: _vision("efficientnet_b0", batch, 224),
    "vit_b_16": lambda batch: _vision("vit_b_16", batch, 224),
    "bert-12": lambda batch: _bert(batch, 128, 768),
    "tiny": _tiny,
}


def make(name: str, *, batch: int = 4) -> Subject:
    """Subject `name` with random weights from a fixed seed; the class explained is the highest."""
    torch.manual_seed(0)
    model, x = MAKERS[name](batch)
    model.eval().requires_grad_(False)
    subject = Subject(name, model, x, [0] * batch)
    with torch.no_grad():
        return Subject(name, model, x, subject.logits(x).argmax(1).tolist())


Run = Callable[[Subject], object]


def gradient(subject: Subject) -> Tensor:
    """What everything is measured against: forward and input gradient."""
    x = subject.x.clone().requires_grad_()
    return torch.autograd.grad(subject.scalar(x), x)[0]


def pellucid(composite: str) -> Run:
    """An explanation with its ledger, as a user asks for it."""

    def run(subject: Subject) -> object:
        import pellucid as pl

        x = {"inputs_embeds": subject.x} if subject.name.startswith("bert") else subject.x
        return pl.explain(subject.model, x, target=list(subject.targets), composite=composite)

    return run


class Logits(nn.Module):
    """A subject's logits as a module of one tensor, as other libraries want it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model, self.subject = subject.model, [subject]

    def forward(self, x: Tensor) -> Tensor:
        return self.subject[0].logits(x)


def zennit(kind: str) -> Run:
    """zennit with the canonizers it has for the model."""

    def run(subject: Subject) -> object:
        import zennit.composites as library
        from zennit.attribution import Gradient
        from zennit.canonizers import SequentialMergeBatchNorm
        from zennit.rules import Epsilon
        from zennit.torchvision import ResNetCanonizer
        from zennit.types import Convolution

        canonizers = [ResNetCanonizer() if subject.name.startswith("resnet") else SequentialMergeBatchNorm()]
        if kind == "epsilon":
            rules = [*library.layer_map_base(), (Convolution, Epsilon()), (nn.Linear, Epsilon())]
            composite = library.LayerMapComposite(rules, canonizers=canonizers)
        elif kind == "epsilon_gamma_box":
            composite = library.EpsilonGammaBox(low=-3.0, high=3.0, canonizers=canonizers)
        else:
            composite = library.COMPOSITES[kind](canonizers=canonizers)
        seed = torch.nn.functional.one_hot(torch.tensor(subject.targets), subject.logits(subject.x[:1]).shape[1])
        with Gradient(Logits(subject), composite) as attributor:
            return attributor(subject.x, seed.to(subject.x.dtype))

    return run


def captum(subject: Subject) -> object:
    """Captum's LRP."""
    from captum.attr import LRP

    return LRP(Logits(subject)).attribute(subject.x.clone().requires_grad_(), target=subject.targets)


def autolrp(preset: str) -> Run:
    """autoLRP with its defaults, z+ on convolutions, or its AttnLRP table."""

    def run(subject: Subject) -> object:
        import autolrp as library

        rules = {"epsilon": {}, "z+": {"ConvolutionBackward": "zplus"}, "attn-lrp": library.ATTNLRP}[preset]
        x = library.tensor(subject.x.clone())
        subject.scalar(x).lrp(config=library.LRPConfig(rule={**library.BASE, **rules}))
        return x.relevance

    return run


CONVOLUTIONAL: dict[str, Run] = {
    "pellucid epsilon": pellucid("epsilon"),
    "pellucid epsilon-plus": pellucid("epsilon-plus"),
    "pellucid epsilon-gamma-box": pellucid("epsilon-gamma-box"),
    "pellucid auto": pellucid("auto"),
    "zennit epsilon": zennit("epsilon"),
    "zennit epsilon-plus": zennit("epsilon_plus"),
    "zennit epsilon-gamma-box": zennit("epsilon_gamma_box"),
    "captum lrp": captum,
    "autolrp epsilon": autolrp("epsilon"),
    "autolrp z+": autolrp("z+"),
}
TRANSFORMERS: dict[str, Run] = {
    "pellucid epsilon": pellucid("epsilon"),
    "pellucid attn-lrp": pellucid("attn-lrp"),
    "pellucid auto": pellucid("auto"),
    "zennit epsilon": zennit("epsilon"),
    "captum lrp": captum,
    "autolrp epsilon": autolrp("epsilon"),
    "autolrp attn-lrp": autolrp("attn-lrp"),
}
# What the ratio must not exceed.
GOALS = {
    "vgg16": {"epsilon": 1.1, "epsilon-plus": 1.8, "epsilon-gamma-box": 2.2},
    "resnet50": {"epsilon": 1.1, "epsilon-plus": 1.8, "epsilon-gamma-box": 2.2},
    "efficientnet_b0": {"epsilon": 1.2, "epsilon-plus": 2.2, "epsilon-gamma-box": 2.2},
    "vit_b_16": {"epsilon": 1.2, "attn-lrp": 1.25},
    "bert-12": {"epsilon": 1.2, "attn-lrp": 1.25},
}


def methods(name: str) -> dict[str, Run]:
    """The methods that are timed on subject `name`."""
    return TRANSFORMERS if name in ("vit_b_16", "bert-12") else CONVOLUTIONAL


def goal(name: str, method: str) -> str:
    """The ratio that a method of ours must not exceed on subject `name`, empty where none is set."""
    library, _, composite = method.partition(" ")
    return str(GOALS.get(name, {}).get(composite, "")) if library == "pellucid" else ""
