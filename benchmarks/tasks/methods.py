"""Methods compared on images: Pellucid's composites, and the peers' with what their authors offer for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Query:
    """What is asked of a method: which class of each image, and whether alone or against the rest.

    Attributes:
        model: classifier whose output is logits, shape (n, classes).
        x: images, shape (n, c, h, w).
        targets: class of each image.
        scalar: "logit", or "contrast": the logit minus the softmax-weighted mean of the others, weights held constant.
        layer: module whose output Grad-CAM reads: a map, or a first token and then the tokens of a square grid.
    """

    model: nn.Module
    x: Tensor
    targets: list[int]
    scalar: str
    layer: nn.Module | None = None

    def weights(self) -> Tensor:
        """The scalar as weights over the logits, shape (n, classes)."""
        with torch.no_grad():
            logits = self.model(self.x)
        chosen = F.one_hot(torch.tensor(self.targets), logits.shape[1])
        if self.scalar == "logit":
            return chosen.to(logits.dtype)
        return chosen - logits.masked_fill(chosen.bool(), -torch.inf).softmax(1)


Method = Callable[[Query], Tensor]


def pellucid(composite: object) -> Method:
    """Layer-wise relevance propagation by Pellucid with a composite or the name of one."""

    def run(query: Query) -> Tensor:
        import pellucid as pl

        ending = "" if query.scalar == "logit" else "~rest"
        targets = [f"{target}{ending}" if ending else target for target in query.targets]
        relevance = pl.explain(query.model, query.x, target=targets, composite=composite).relevance
        assert isinstance(relevance, Tensor)
        return relevance

    return run


def zennit(composite: str, *, repaired: bool = False) -> Method:
    """A composite of zennit with its batch-norm merging; `repaired` makes the blocks' additions its modules."""

    def run(query: Query) -> Tensor:
        from zennit.attribution import Gradient
        from zennit.canonizers import SequentialMergeBatchNorm
        from zennit.composites import COMPOSITES

        canonizers = [SequentialMergeBatchNorm(), *([_residual_canonizer()] if repaired else [])]
        extra = {"low": -torch.ones_like(query.x), "high": torch.ones_like(query.x)} if "box" in composite else {}
        weights = query.weights()
        with Gradient(query.model, COMPOSITES[composite](canonizers=canonizers, **extra)) as attributor:
            _, relevance = attributor(query.x, lambda output: weights * output.detach())
        return relevance.detach()

    return run


def _residual_canonizer() -> object:
    """Gives the benchmark's residual blocks a forward with zennit's Sum, as zennit does for torchvision's."""
    from efficientnet_lite_pytorch.model import MBConvBlock
    from zennit.canonizers import AttributeCanonizer
    from zennit.layer import Sum

    from benchmarks.tasks.nets import Block

    def basic(self: nn.Module, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.canonizer_sum(torch.stack([y, self.shortcut(x)], dim=-1)))

    def inverted(self: nn.Module, x: Tensor, drop_connect_rate: float | None = None) -> Tensor:  # noqa: ARG001
        y = x
        if self._block_args.expand_ratio != 1:
            y = self._swish(self._bn0(self._expand_conv(y)))
        y = self._bn2(self._project_conv(self._swish(self._bn1(self._depthwise_conv(y)))))
        if self.id_skip and self._block_args.stride == 1 and x.shape[1] == y.shape[1]:
            y = self.canonizer_sum(torch.stack([y, x], dim=-1))
        return y

    forwards = {Block: basic, MBConvBlock: inverted}

    def attributes(name: str, module: nn.Module) -> dict[str, object] | None:  # noqa: ARG001
        forward = forwards.get(type(module))
        return None if forward is None else {"forward": forward.__get__(module), "canonizer_sum": Sum()}

    return AttributeCanonizer(attributes)


class Scalar(nn.Module):
    """The scalar as a model: images (n, c, h, w) -> (n,)."""

    def __init__(self, model: nn.Module, weights: Tensor) -> None:
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, x: Tensor) -> Tensor:
        # Captum may repeat the batch, all samples in turn (integrated gradients).
        return (self.model(x) * self.weights.repeat(len(x) // len(self.weights), 1)).sum(1)


def captum(name: str, **options: object) -> Method:
    """A method of Captum on the scalar as a function of the image."""

    def run(query: Query) -> Tensor:
        import captum.attr

        x = query.x.clone().requires_grad_()
        return getattr(captum.attr, name)(Scalar(query.model, query.weights())).attribute(x, **options).detach()

    return run


def occlusion(query: Query) -> Tensor:
    """Captum's occlusion by zero, the mid grey: windows of an eighth of the side, half overlapping on small images."""
    side = query.x.shape[-1] // 8
    stride = side // 2 if side <= 8 else side
    window = (query.x.shape[1], side, side)
    return captum("Occlusion", sliding_window_shapes=window, strides=(query.x.shape[1], stride, stride))(query)


def smoothgrad(query: Query) -> Tensor:
    """Input times the gradient averaged over 16 noisy copies, noise of 0.3."""
    weights = query.weights()
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros_like(query.x)
    for _ in range(16):
        noisy = (query.x + 0.3 * torch.randn(query.x.shape, generator=generator)).requires_grad_()
        total += torch.autograd.grad((query.model(noisy) * weights).sum(), noisy)[0]
    return total * query.x


def gradcam(query: Query) -> Tensor:
    """Grad-CAM by pytorch-grad-cam at `query.layer`, as one channel, spread over the image."""
    from pytorch_grad_cam import GradCAM

    weights = query.weights()

    def grid(tokens: Tensor) -> Tensor:
        side = int((tokens.shape[1] - 1) ** 0.5)
        return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)

    reshape = grid if type(query.layer).__name__ == "LayerNorm" else None
    targets = [lambda output, w=w: (output * w).sum() for w in weights]
    x = query.x.clone().requires_grad_()  # frozen parameters alone would leave its hooks without a gradient
    with GradCAM(model=query.model, target_layers=[query.layer], reshape_transform=reshape) as cam:
        heat = cam(input_tensor=x, targets=targets)
    return torch.from_numpy(heat)[:, None]


def autolrp(**rules: str) -> Method:
    """autoLRP's defaults with other rules for some nodes; it starts at a logit, so there is no contrast."""

    def run(query: Query) -> Tensor:
        import autolrp as library

        if query.scalar != "logit":
            raise NotImplementedError("autoLRP explains single outputs.")
        config = library.LRPConfig(rule={**library.BASE, **rules})
        maps = []
        for x, target in zip(query.x.split(1), query.targets, strict=True):
            wrapped = library.tensor(x.clone())
            query.model(wrapped)[0, target].lrp(config=config)
            maps.append(torch.as_tensor(wrapped.relevance).detach())
        return torch.cat(maps)

    return run


def random(query: Query) -> Tensor:
    """Noise: what chance scores."""
    return torch.randn(query.x.shape, generator=torch.Generator().manual_seed(0))


COMPOSITES = ("auto", "epsilon", "epsilon-plus", "epsilon-plus-flat", "epsilon-alpha2-beta1", "attn-lrp", "cp-lrp")
ZENNIT = ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_gamma_box")

METHODS: dict[str, Method] = {
    "random": random,
    **{f"pellucid {name}": pellucid(name) for name in COMPOSITES},
    **{f"zennit {name.replace('_', '-')}": zennit(name) for name in ZENNIT},
    **{f"zennit {name.replace('_', '-')}, sums repaired": zennit(name, repaired=True) for name in ZENNIT},
    "autolrp": autolrp(),
    "autolrp z+": autolrp(ConvolutionBackward="zplus"),
    "captum lrp": captum("LRP"),
    "captum input x gradient": captum("InputXGradient"),
    "captum integrated gradients": captum("IntegratedGradients", n_steps=20),
    "captum guided backprop": captum("GuidedBackprop"),
    "captum occlusion": occlusion,
    "smoothgrad x input": smoothgrad,
    "grad-cam": gradcam,
}
