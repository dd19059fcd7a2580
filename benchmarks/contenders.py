"""Attribution methods whose cost is measured: ours, the same by other libraries, and what the model alone would cost.

One entry a method; a family adds its list to `ENTRIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.subjects import Logits, Run, Subject, gradient

STEPS = 16
"""Evaluations of methods that take many."""
BACKGROUND = 8
"""Samples of a background."""
LAYERS = {
    "vgg16": "features.30",
    "resnet50": "layer4",
    "efficientnet_b0": "features.8",
    "vit_b_16": "encoder.layers.encoder_layer_10",
    "bert-12": "bert.encoder.layer.10.output",
    "tiny": "2",
}
"""A late layer of every subject, for methods that are asked for at one."""


@dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
        name: as in the table.
        ours: how it is called here.
        gradients: forwards with a gradient, of the whole batch, that it needs by its definition.
        forwards: forwards without one, in inference mode.
        peers: the same by other libraries, on the same input and with as many evaluations.
        goal: what its ratio to the model's own cost must not exceed, empty where none is set.
        own: another measure of the model's own cost than these evaluations.
        fits: the subjects that it is for; empty: all.
    """

    name: str
    ours: Run
    gradients: int = 0
    forwards: int = 0
    peers: Mapping[str, Run] = field(default_factory=dict)
    goal: str = "1.05"
    own: Run | None = None
    fits: tuple[str, ...] = ()

    def alone(self, subject: Subject) -> object:
        """The model's own cost: its evaluations and nothing else."""
        if self.own is not None:
            return self.own(subject)
        for _ in range(self.gradients):
            gradient(subject)
        with torch.inference_mode():
            for _ in range(self.forwards):
                subject.logits(subject.x)
        return None


def pellucid(method: Callable[[Subject], Any] | str, *, at_layer: bool = False) -> Run:
    """An explanation as a user asks for it; a method that depends on the subject is made from it."""

    def run(subject: Subject) -> object:
        import pellucid as pl

        x = {"inputs_embeds": subject.x} if subject.name.startswith("bert") else subject.x
        chosen = method if isinstance(method, str) else method(subject)
        layer = LAYERS[subject.name] if at_layer else None
        return pl.explain(subject.model, x, target=list(subject.targets), method=chosen, layer=layer)

    return run


def captum(attribute: Callable[[Any, nn.Module, Subject], object]) -> Run:
    """A method of Captum's: `attribute(captum.attr, model, subject)`."""

    def run(subject: Subject) -> object:
        import captum.attr

        return attribute(captum.attr, Logits(subject), subject)

    return run


def background(subject: Subject) -> Tensor:
    """The same few samples in every call."""
    return torch.randn(BACKGROUND, *subject.x.shape[1:], generator=torch.Generator().manual_seed(1))


def layer_of(subject: Subject) -> nn.Module:
    """The module at which a method is asked for."""
    return subject.model.get_submodule(LAYERS[subject.name])


def _ours(name: str, **settings: Any) -> Callable[[Subject], Any]:
    """A method by its class name, made when it is called."""

    def make(subject: Subject) -> Any:
        import pellucid as pl

        given = {key: value(subject) if callable(value) else value for key, value in settings.items()}
        return getattr(pl.methods, name)(**given)

    return make


def _leaf(subject: Subject) -> Tensor:
    return subject.x.clone().requires_grad_()


def _neuron(subject: Subject) -> object:
    """The gradient of the first channel of the layer."""
    import pellucid as pl

    return pl.explain(subject.model, subject.x, target=f"{LAYERS[subject.name]}:0", method="gradient")


def _of_neuron(subject: Subject) -> object:
    """A forward and the gradient of the first channel of the layer, and nothing else."""
    seen: list[Tensor] = []
    hook = layer_of(subject).register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        x = _leaf(subject)
        with torch.enable_grad():
            subject.logits(x)
            return torch.autograd.grad(seen[0][:, 0].flatten(1).mean(1).sum(), x)
    finally:
        hook.remove()


def _tunnel(kind: str) -> Run:
    return captum(
        lambda attr, model, s: attr.NoiseTunnel(attr.Saliency(model)).attribute(
            s.x, nt_type=kind, nt_samples=STEPS, nt_samples_batch_size=1, stdevs=0.5, target=s.targets, abs=False
        )
    )


def _by_chunks(make: Callable[[Any, nn.Module, Subject], Any], **settings: Any) -> Run:
    """Methods along a path, as many rows at once as the batch has."""
    return captum(
        lambda attr, model, s: make(attr, model, s).attribute(
            s.x, target=s.targets, n_steps=STEPS, internal_batch_size=len(s.x), **settings
        )
    )


GRADIENT: tuple[Entry, ...] = (
    Entry(
        "gradient",
        pellucid("gradient"),
        gradients=1,
        peers={
            "captum": captum(
                lambda attr, model, s: attr.Saliency(model).attribute(_leaf(s), target=s.targets, abs=False)
            )
        },
        goal="1.03",
    ),
    Entry(
        "gradient-x-input",
        pellucid("gradient-x-input"),
        gradients=1,
        peers={
            "captum": captum(lambda attr, model, s: attr.InputXGradient(model).attribute(_leaf(s), target=s.targets))
        },
        goal="1.03",
    ),
    Entry(
        "smoothgrad",
        pellucid(_ours("SmoothGrad", samples=STEPS)),
        gradients=STEPS,
        peers={"captum": _tunnel("smoothgrad")},
    ),
    Entry(
        "smoothgrad-squared",
        pellucid(_ours("SmoothGradSquared", samples=STEPS)),
        gradients=STEPS,
        peers={"captum": _tunnel("smoothgrad_sq")},
    ),
    Entry(
        "vargrad",
        pellucid(_ours("VarGrad", samples=STEPS)),
        gradients=STEPS,
        peers={"captum": _tunnel("vargrad")},
    ),
    Entry(
        "integrated-gradients",
        pellucid(_ours("IntegratedGradients", steps=STEPS)),
        gradients=STEPS,
        peers={"captum": _by_chunks(lambda attr, model, _: attr.IntegratedGradients(model))},
    ),
    Entry(
        "expected-gradients",
        pellucid(_ours("ExpectedGradients", samples=STEPS, background=background)),
        gradients=STEPS,
    ),
    Entry(
        "gradient-shap",
        pellucid(_ours("GradientSHAP", samples=STEPS, background=background, noise=0.1)),
        gradients=STEPS,
        peers={
            "captum": captum(
                lambda attr, model, s: attr.GradientShap(model).attribute(
                    s.x, background(s), n_samples=STEPS, stdevs=0.5, target=s.targets
                )
            )
        },
    ),
    Entry(
        "conductance",
        pellucid(_ours("Conductance", steps=STEPS), at_layer=True),
        gradients=STEPS,
        peers={"captum": _by_chunks(lambda attr, model, s: attr.LayerConductance(model, layer_of(s)))},
    ),
    Entry(
        "internal-influence",
        pellucid(_ours("InternalInfluence", steps=STEPS), at_layer=True),
        gradients=STEPS,
        peers={"captum": _by_chunks(lambda attr, model, s: attr.InternalInfluence(model, layer_of(s)))},
    ),
    Entry("fullgrad", pellucid("fullgrad"), gradients=1, goal=""),
    Entry(
        "layer gradient-x-input",
        pellucid("gradient-x-input", at_layer=True),
        gradients=1,
        goal="",
        peers={
            "captum": captum(
                lambda attr, model, s: attr.LayerGradientXActivation(model, layer_of(s)).attribute(
                    s.x, target=s.targets
                )
            )
        },
    ),
    Entry(
        "layer integrated-gradients",
        pellucid(_ours("IntegratedGradients", steps=STEPS), at_layer=True),
        gradients=STEPS,
        goal="",
        peers={"captum": _by_chunks(lambda attr, model, s: attr.LayerIntegratedGradients(model, layer_of(s)))},
    ),
    Entry(
        "neuron gradient",
        _neuron,
        own=_of_neuron,
        goal="",
        peers={
            "captum": captum(
                lambda attr, model, s: attr.NeuronGradient(model, layer_of(s)).attribute(
                    _leaf(s), lambda out: out[:, 0].flatten(1).mean(1)
                )
            )
        },
        fits=("vgg16", "resnet50", "efficientnet_b0"),
    ),
)

RELEVANCE: tuple[Entry, ...] = (
    Entry(
        "deeplift",
        pellucid("deeplift"),
        gradients=1,
        forwards=1,
        goal="",
        peers={"captum": captum(lambda attr, model, s: attr.DeepLift(model).attribute(s.x, target=s.targets))},
    ),
    Entry(
        "deep-shap",
        pellucid(_ours("DeepSHAP", background=background)),
        gradients=BACKGROUND,
        forwards=BACKGROUND,
        goal="",
        peers={
            "captum": captum(
                lambda attr, model, s: attr.DeepLiftShap(model).attribute(s.x, background(s), target=s.targets)
            )
        },
    ),
    Entry(
        "guided-backprop",
        pellucid("guided-backprop"),
        gradients=1,
        goal="",
        peers={
            "captum": captum(lambda attr, model, s: attr.GuidedBackprop(model).attribute(_leaf(s), target=s.targets))
        },
        fits=("vgg16", "resnet50"),
    ),
    Entry(
        "deconvnet",
        pellucid("deconvnet"),
        gradients=1,
        goal="",
        peers={
            "captum": captum(lambda attr, model, s: attr.Deconvolution(model).attribute(_leaf(s), target=s.targets))
        },
        fits=("vgg16", "resnet50"),
    ),
)


WINDOW = 56
"""Pixels along the side of what perturbation methods take away: 16 places of a picture of 224."""
PLACES = (224 // WINDOW) ** 2
ORDERS = 4
"""Orders in which permutation Shapley values add the places."""
PICTURES = ("efficientnet_b0",)
"""Subjects for methods that take parts of a picture away."""
FEW = 4
"""A method of more evaluations than these is measured where one costs least: what is added to it weighs most."""
SMALL = ("efficientnet_b0", "tiny")


def _to_layer(subject: Subject) -> object:
    """One forward, and the gradient down to the layer: no graph is recorded before it."""
    seen: list[Tensor] = []

    def begin(_: nn.Module, __: object, out: Tensor) -> Tensor:
        seen.append(out.detach().requires_grad_())
        return seen[0]

    hook = layer_of(subject).register_forward_hook(begin)
    try:
        with torch.enable_grad():
            logits = subject.logits(subject.x)
            chosen = logits[torch.arange(len(logits)), list(subject.targets)].sum()
            return torch.autograd.grad(chosen, seen[0])
    finally:
        hook.remove()


def _cam(subject: Subject) -> object:
    """By pytorch-grad-cam."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model=subject.model, target_layers=[layer_of(subject)]) as cam:
        return cam(input_tensor=subject.x, targets=[ClassifierOutputTarget(int(k)) for k in subject.targets])


def _patches(subject: Subject) -> Tensor:
    """(1, 1, H, W), the number of every pixel's patch."""
    rows, columns = (torch.arange(size) // WINDOW for size in subject.x.shape[2:])
    return (rows[:, None] * (int(columns.max()) + 1) + columns)[None, None]


ACTIVATION: tuple[Entry, ...] = (
    Entry(
        "grad-cam",
        pellucid("grad-cam", at_layer=True),
        own=_to_layer,
        peers={
            "captum": captum(
                lambda attr, model, s: attr.LayerGradCam(model, layer_of(s)).attribute(s.x, target=s.targets)
            ),
            "grad-cam": _cam,
        },
        fits=("vgg16", "resnet50", "efficientnet_b0"),
    ),
    Entry(
        "guided-grad-cam",
        pellucid("guided-grad-cam", at_layer=True),
        gradients=1,
        goal="",
        peers={
            "captum": captum(
                lambda attr, model, s: attr.GuidedGradCam(model, layer_of(s)).attribute(_leaf(s), target=s.targets)
            )
        },
        fits=("vgg16", "resnet50"),
    ),
)

PERTURBATION: tuple[Entry, ...] = (
    Entry(
        "occlusion",
        pellucid(_ours("Occlusion", window=WINDOW, stride=WINDOW)),
        forwards=PLACES + 1,
        peers={
            "captum": captum(
                lambda attr, model, s: attr.Occlusion(model).attribute(
                    s.x, (3, WINDOW, WINDOW), strides=(3, WINDOW, WINDOW), target=s.targets
                )
            )
        },
        goal="1.10",
        fits=PICTURES,
    ),
    Entry(
        "feature-ablation",
        pellucid(_ours("FeatureAblation", features=f"patches:{WINDOW}")),
        forwards=PLACES + 1,
        peers={
            "captum": captum(
                lambda attr, model, s: attr.FeatureAblation(model).attribute(
                    s.x, target=s.targets, feature_mask=_patches(s)
                )
            )
        },
        goal="1.10",
        fits=PICTURES,
    ),
    Entry("rise", pellucid(_ours("RISE", samples=STEPS)), forwards=STEPS + 1, goal="1.10", fits=PICTURES),
    Entry(
        "lime",
        pellucid(_ours("LIME", samples=STEPS, features=f"patches:{WINDOW}")),
        forwards=STEPS + 1,
        goal="1.10",
        peers={
            "captum": captum(
                lambda attr, model, s: attr.Lime(model).attribute(
                    s.x, target=s.targets, feature_mask=_patches(s), n_samples=STEPS, perturbations_per_eval=4
                )
            )
        },
        fits=PICTURES,
    ),
    Entry(
        "permutation-shapley",
        pellucid(_ours("PermutationShapley", samples=ORDERS * PLACES, features=f"patches:{WINDOW}")),
        forwards=ORDERS * PLACES,
        goal="1.10",
        peers={
            "captum": captum(
                lambda attr, model, s: attr.ShapleyValueSampling(model).attribute(
                    s.x, target=s.targets, feature_mask=_patches(s), n_samples=ORDERS
                )
            )
        },
        fits=PICTURES,
    ),
    Entry(
        "feature-permutation",
        pellucid(_ours("FeaturePermutation", permutations=1, features=f"patches:{WINDOW}")),
        forwards=PLACES + 1,
        goal="1.10",
        peers={
            "captum": captum(
                lambda attr, model, s: attr.FeaturePermutation(model).attribute(
                    s.x, target=s.targets, feature_mask=_patches(s)
                )
            )
        },
        fits=PICTURES,
    ),
    Entry(
        "kernel-shap",
        pellucid(_ours("KernelSHAP", samples=STEPS, features=f"patches:{WINDOW}")),
        forwards=STEPS + 2,
        peers={
            "captum": captum(
                lambda attr, model, s: attr.KernelShap(model).attribute(
                    s.x, target=s.targets, feature_mask=_patches(s), n_samples=STEPS, perturbations_per_eval=4
                )
            )
        },
        goal="1.10",
        fits=PICTURES,
    ),
)


ENTRIES: tuple[Entry, ...] = (*GRADIENT, *RELEVANCE, *ACTIVATION, *PERTURBATION)
"""Every method that is measured."""


def entries(subject: str) -> list[Entry]:
    """The methods that are for a subject."""
    return [
        entry
        for entry in ENTRIES
        if (not entry.fits or subject in entry.fits) and (subject in SMALL or entry.gradients + entry.forwards <= FEW)
    ]
