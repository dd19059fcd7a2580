"""Class activation maps against grad-cam and Captum on real architectures, and against their papers' formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import captum.attr as captum
import numpy as np
import pytest
import pytorch_grad_cam as peer
import torch
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import InputError, ModelError
from pellucid.methods import activation as maps
from tests.trace.models import Made, convolutional, numbers, seeded

TARGETS = [1, 3]


def resnet() -> tuple[nn.Module, Tensor, str, Callable[[Tensor], Tensor] | None]:
    from torchvision.models import resnet18

    return seeded(lambda: resnet18(num_classes=5)).double(), numbers(2, 3, 96, 96).double(), "layer4", None


def early() -> tuple[nn.Module, Tensor, str, Callable[[Tensor], Tensor] | None]:
    """A layer with few channels, for methods that run the model once for each."""
    return resnet()[0], numbers(2, 3, 48, 48).double(), "layer1", None


def vgg() -> tuple[nn.Module, Tensor, str, Callable[[Tensor], Tensor] | None]:
    from torchvision.models import vgg11_bn

    return seeded(lambda: vgg11_bn(num_classes=5)).double(), numbers(2, 3, 64, 64).double(), "features", None


def vit() -> tuple[nn.Module, Tensor, str, Callable[[Tensor], Tensor] | None]:
    from timm.models.vision_transformer import VisionTransformer

    def unfold(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), 3, 4, -1).permute(0, 3, 1, 2)

    def build() -> nn.Module:
        return VisionTransformer(img_size=(24, 32), patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5)

    return seeded(build).double(), numbers(2, 3, 24, 32).double(), "blocks.2.norm1", unfold


def volumes() -> tuple[nn.Module, Tensor, str, Callable[[Tensor], Tensor] | None]:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(2, 6, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2), nn.Conv3d(6, 8, 3, padding=1), nn.BatchNorm3d(8),
            nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 3 * 2, 10), nn.Tanh(), nn.Linear(10, 5)
        )  # fmt: skip

    return seeded(build).double(), numbers(2, 2, 8, 6, 4).double(), "5", None


CASES = {"resnet-18": resnet, "resnet-18-early": early, "vgg-11-bn": vgg, "vit": vit, "volumes": volumes}


def theirs(kind: type, case: str, **settings: Any) -> np.ndarray[Any, Any]:
    """The peer's map before it is cut at zero, scaled to [0, 1] and resized."""
    model, x, name, unfold = CASES[case]()
    layer = model.get_submodule(name)
    targets = [ClassifierOutputTarget(c) for c in TARGETS]
    with kind(model, [layer], reshape_transform=unfold, **settings) as cam:
        cam(x, targets)
        seen = cam.activations_and_grads
        value = seen.activations[0].numpy()
        gradient = seen.gradients[0].numpy() if seen.gradients else None
        return np.asarray(cam.get_cam_image(x, layer, targets, value, gradient, False))


def ours(method: Any, case: str) -> pl.Explanation:
    model, x, name, _ = CASES[case]()
    result: pl.Explanation = pl.explain(model, x, target=TARGETS, method=method, layer=name)
    return result


PEERS = {
    "grad-cam": (maps.GradCAM(relu=False), peer.GradCAM, 1e-12),
    "xgrad-cam": (maps.XGradCAM(relu=False), peer.XGradCAM, 1e-4),  # it adds 1e-7 to the sum of the activations
    "layer-cam": (maps.LayerCAM(relu=False), peer.LayerCAM, 1e-12),
    "hires-cam": (maps.HiResCAM(), peer.HiResCAM, 1e-12),
    "eigen-cam": (maps.EigenCAM(centre=True), peer.EigenCAM, 1e-5),  # float32 at its end
    "eigen-grad-cam": (maps.EigenGradCAM(relu=False), peer.EigenGradCAM, 1e-5),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PEERS)
def test_the_map_is_that_of_grad_cam(name: str, case: str) -> None:
    method, kind, tolerance = PEERS[name]
    found, expected = ours(method, case).layers[CASES[case]()[2]], torch.from_numpy(theirs(kind, case)).double()
    if name.startswith("eigen"):  # the sign of a singular vector is nobody's; ours is tested below
        for i in range(len(found)):
            product = (found[i] * expected[i]).sum()
            expected[i] *= product.sign()
    scale = float(expected.abs().max())
    assert scale > 0
    assert torch.allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("case", ["resnet-18", "vgg-11-bn"])
def test_grad_cam_plusplus_is_that_of_grad_cam_but_for_its_stabiliser(case: str) -> None:
    """The peer adds 1e-6 to the denominator of alpha, which is of the order of the gradient's square."""
    model, x, name, _ = CASES[case]()
    found = ours(maps.GradCAMPlusPlus(relu=False), case).layers[name]
    scaled = nn.Sequential(model, Made(lambda self, y: 1e4 * y)).eval()  # alpha is the same, and w_k 1e4 times as large
    targets = [ClassifierOutputTarget(c) for c in TARGETS]
    layer = model.get_submodule(name)
    with peer.GradCAMPlusPlus(scaled, [layer]) as cam:
        cam(x, targets)
        seen = cam.activations_and_grads
        value, gradient = seen.activations[0].numpy(), seen.gradients[0].numpy()
    small = gradient / 1e4
    total = value.sum((2, 3), keepdims=True)
    alpha = np.divide(small**2, 2 * small**2 + total * small**3, where=small != 0, out=np.zeros_like(small))
    weights = (alpha * np.maximum(small, 0)).sum((2, 3))
    expected = np.einsum("nc,nchw->nhw", weights, value)
    assert np.allclose(found, expected, atol=1e-12 * np.abs(expected).max())


@contextmanager
def corners_not_aligned() -> Iterator[None]:
    """The peer resizes masks with their corners aligned, unlike the map itself; only the map's way is tested."""
    before = nn.UpsamplingBilinear2d
    nn.UpsamplingBilinear2d = lambda size: nn.Upsample(size=size, mode="bilinear", align_corners=False)  # type: ignore
    try:
        yield
    finally:
        nn.UpsamplingBilinear2d = before  # type: ignore[misc]


@pytest.mark.parametrize("case", ["resnet-18-early", "vit"])
def test_score_cam_is_that_of_grad_cam(case: str) -> None:
    with corners_not_aligned():
        expected = torch.from_numpy(theirs(peer.ScoreCAM, case)).double()
    found = ours(maps.ScoreCAM(relu=False), case)
    assert torch.allclose(found.details["channel weights"].sum(1), torch.ones(2).double())
    assert torch.allclose(next(iter(found.layers.values())), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_ablation_cam_is_that_of_grad_cam_where_it_ablates_to_zero() -> None:
    """Where the lowest activation is not 0 the peer sets it to 1e7 below it; the paper says 0, as we do."""
    expected = torch.from_numpy(theirs(peer.AblationCAM, "resnet-18-early", ablation_layer=AblationLayer())).double()
    model, x, name, _ = early()
    found = pl.explain(model, x, target=TARGETS, method=maps.AblationCAM(relu=False), layer=name)
    signs = found.output.sign()[:, None, None]  # it divides by the score, we by its magnitude
    assert torch.allclose(found.layers[name] * signs, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_ablation_cam_is_the_loss_of_each_channel(case: str) -> None:
    model, x, name, unfold = CASES[case]()
    found = pl.explain(model, x, target=TARGETS, method=maps.AblationCAM(relu=False), layer=name)
    layer = model.get_submodule(name)
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda m, a, y: seen.append(y.detach()))
    whole = model(x)[[0, 1], TARGETS].detach()
    handle.remove()
    channel_dim = 2 if unfold else 1
    channels = seen[0].shape[channel_dim]
    weights = torch.zeros(2, channels).double()
    for k in range(0, channels, max(1, channels // 8)):

        def without(module: Any, args: Any, output: Tensor, k: int = k) -> Tensor:
            changed = output.clone()
            changed.select(channel_dim, k).zero_()
            return changed

        handle = layer.register_forward_hook(without)
        weights[:, k] = (whole - model(x)[[0, 1], TARGETS].detach()) / whole.abs()
        handle.remove()
        assert torch.allclose(found.details["channel weights"][:, k], weights[:, k], atol=1e-10)


def test_captums_layer_grad_cam() -> None:
    model, x, name, _ = resnet()
    expected = captum.LayerGradCam(model, model.get_submodule(name)).attribute(
        x, target=TARGETS, relu_attributions=True
    )
    assert torch.allclose(ours("grad-cam", "resnet-18").layers[name], expected[:, 0], atol=1e-12)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("case", ["resnet-18", "vgg-11-bn"])
def test_captums_guided_grad_cam(case: str) -> None:
    model, x, name, _ = CASES[case]()
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # its hooks cannot follow
    if case == "resnet-18":
        # Captum hooks modules, and its gradient at a ReLU that runs twice is that of one of them: VGG's run once.
        found = pl.explain(model, x, target=TARGETS, method="guided-grad-cam", layer=name)
        guided = pl.explain(model, x, target=TARGETS, method="guided-backprop").relevance
        map_ = pl.explain(model, x, target=TARGETS, method=maps.GradCAM(), layer=name).layers[name]
        shown = nn.functional.interpolate(map_[:, None], size=x.shape[2:], mode="bilinear")
        assert torch.allclose(found.relevance, guided * shown, atol=1e-12)
        return
    expected = captum.GuidedGradCam(model, model.get_submodule(name)).attribute(
        x.clone().requires_grad_(), target=TARGETS, interpolate_mode="bilinear"
    )
    found = pl.explain(model, x, target=TARGETS, method="guided-grad-cam", layer=name)
    expected = expected.detach()
    assert torch.allclose(found.relevance, expected, atol=1e-12 * float(expected.abs().max()))
    assert found.settings["unit"] == "gradient x activation"


def test_finer_cam_is_that_of_grad_cam_with_one_class_to_compare_with() -> None:
    """With more, the peer lets the gradient flow through the softmax that weighs them; ours holds it constant."""
    model, x, name, _ = resnet()
    layer = model.get_submodule(name)
    with peer.FinerCAM(model, [layer]) as cam:
        cam(x, targets=None, alpha=0.7, comparison_categories=[1])
        seen = cam.base_cam.activations_and_grads
        value, gradient = seen.activations[0], seen.gradients[0]
    expected = torch.einsum("nc,nchw->nhw", gradient.mean((2, 3)), value)
    method = maps.FinerCAM(references=1, strength=0.7, relu=False)
    found = pl.explain(model, x, target="top", method=method, layer=name)
    assert torch.allclose(found.layers[name], expected, atol=1e-9)


def test_finer_cam_is_grad_cam_of_the_difference() -> None:
    model, x, name, _ = resnet()
    scores = model(x).detach()
    for weighing in ("equal", "probability"):
        found = pl.explain(model, x, target=TARGETS, method=maps.FinerCAM(weighing=weighing, relu=False), layer=name)
        for i, c in enumerate(TARGETS):
            others = sorted((d for d in range(5) if d != c), key=lambda d: abs(float(scores[i, d] - scores[i, c])))[:3]
            share = torch.full((3,), 1 / 3) if weighing == "equal" else scores[i, others].softmax(0)
            target = str(c) + "".join(f" - {0.6 * float(w)}*{d}" for w, d in zip(share, others, strict=True))
            alone = pl.explain(model, x[i : i + 1], target=target, method=maps.GradCAM(relu=False), layer=name)
            assert torch.allclose(found.layers[name][i], alone.layers[name][0], atol=1e-6)
            assert float(found.output[i]) == pytest.approx(float(alone.output[0]), abs=1e-6)


def test_cam_is_the_linear_layer_applied_to_every_position() -> None:
    model, x, name, _ = resnet()
    found = pl.explain(model, x, target=TARGETS, method="cam")
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, a, y: seen.append(y.detach()))
    scores = model(x).detach()
    handle.remove()
    expected = torch.einsum("nc,nchw->nhw", model.fc.weight[TARGETS].detach(), seen[0])  # type: ignore[union-attr, index]
    assert found.settings["layer"] == name
    assert torch.allclose(found.layers[name], expected, atol=1e-10)
    bias = model.fc.bias[TARGETS].detach()  # type: ignore[union-attr, index]
    assert torch.allclose(found.layers[name].mean((1, 2)) + bias, scores[[0, 1], TARGETS], atol=1e-10)
    cut = pl.explain(model, x, target=TARGETS, method=maps.CAM(relu=True)).layers[name]
    grad_cam = pl.explain(model, x, target=TARGETS, method="grad-cam").layers[name]
    assert torch.allclose(cut / 9, grad_cam, atol=1e-12)


def test_cam_says_what_keeps_it_from_being_defined() -> None:
    model, x, _, _ = vgg()
    with pytest.raises(
        ModelError, match=r"one linear layer behind 'avgpool', but there is Relu in the module 'classif"
    ):
        pl.explain(model, x, target=0, method="cam")
    assert "classifier.1" in str(maps.CAM().unfit(_call(model, x)))
    with pytest.raises(ModelError, match="its positions count differently: they are flattened"):
        pl.explain(convolutional(), numbers(2, 3, 8, 8), target=0, method="cam")


def _call(model: nn.Module, x: Tensor) -> Any:
    from pellucid._api import Request

    return Request(model).call(x)


@pytest.mark.parametrize("method", ["hires-cam", "gradient-x-activation"])
def test_shares_sum_to_the_output_where_the_rest_is_affine(method: str) -> None:
    model, x, name, _ = resnet()
    found = pl.explain(model, x, target=TARGETS, method=method)
    bias = model.fc.bias[TARGETS].detach()  # type: ignore[union-attr, index]
    assert "unit" not in found.settings
    assert torch.allclose(found.layers[name].sum((1, 2)) + bias, found.output, atol=1e-10)
    assert torch.allclose(found.relevance.sum((1, 2, 3)), found.layers[name].sum((1, 2)), atol=1e-10)
    assert found.ledger is not None
    assert found.ledger.closed(1e-12)
    assert found.ledger.amounts["bias"] == pytest.approx(float(bias.sum()), abs=1e-10)
    assert found.ledger.amounts["input"] == pytest.approx(float(found.relevance.sum()), abs=1e-9)
    deep = pl.explain(model, x, target=TARGETS, method=method, layer="layer3")
    assert deep.ledger is None  # ReLUs follow: nothing is promised


def test_gradient_x_activation_scores_every_channel() -> None:
    """``H_i = 1/Z sum_jk dy/dA_ijk A_ijk``."""
    model, x, name, _ = resnet()
    found = pl.explain(model, x, target=TARGETS, method="gradient-x-activation", layer=["layer3", name])
    products = captum.LayerGradientXActivation(model, model.layer3).attribute(x, target=TARGETS)  # type: ignore[arg-type]
    assert torch.allclose(found.details["channel scores"], products.mean((2, 3)).detach(), atol=1e-12)
    assert torch.allclose(found.layers["layer3"], products.sum(1).detach(), atol=1e-12)
    assert found.details["channel scores of layer4"].shape == (2, 512)
    assert torch.allclose(found.relevance.sum((1, 2, 3)), products.sum((1, 2, 3)).detach(), atol=1e-10)


def test_smooth_grad_cam_plusplus_averages_derivatives() -> None:
    model, x = convolutional().double(), numbers(2, 3, 8, 8).double()
    method = maps.SmoothGradCAMPlusPlus(samples=7, noise=0.2, relu=False)
    found = pl.explain(model, x, target=[0, 2], method=method, layer="2", seed=5)
    value = model[:3](x).detach()  # type: ignore[index]
    gradients = []
    from pellucid.engine.point import Kind, Point
    from pellucid.methods.noise import Noise

    call = _call(model, x)
    call.seed = 5
    noise = Noise(call, {Point(Kind.INPUT, "x"): x}, 0.2, relative=True)
    for k in range(7):
        numbers_, rows = torch.full((2,), k), torch.arange(2)
        noisy = noise.around(numbers_, rows)[Point(Kind.INPUT, "x")]
        middle = model[:3](noisy).detach().requires_grad_()  # type: ignore[index]
        model[3:](middle)[[0, 1], [0, 2]].sum().backward()  # type: ignore[index]
        gradients.append(middle.grad)
    g = torch.stack(gradients)
    d1, d2, d3 = g.mean(0), (g**2).mean(0), (g**3).mean(0)
    below = 2 * d2 + value.sum((2, 3), keepdim=True) * d3
    alpha = torch.where(below == 0, 0, d2 / below)
    weights = (alpha * d1.clamp(min=0)).sum((2, 3))
    expected = torch.einsum("nc,nchw->nhw", weights, value)
    assert torch.allclose(found.layers["2"], expected, atol=1e-12)
    assert found.details["standard error"].shape == x.shape
    assert bool((found.details["standard error"] > 0).any())


def test_the_standard_error_of_smooth_grad_cam_plusplus_is_its_spread_over_seeds() -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    method = maps.SmoothGradCAMPlusPlus(samples=40, noise=0.1, relu=False)
    runs = [pl.explain(model, x, target=0, method=method, layer="2", seed=seed) for seed in range(24)]
    spread = torch.stack([run.relevance for run in runs]).std(0).mean()
    told = torch.stack([run.details["standard error"] for run in runs]).mean()
    assert 0.5 < float(told / spread) < 2


@pytest.mark.parametrize("method", [maps.EigenCAM(), maps.EigenCAM(centre=True), maps.EigenGradCAM(relu=False)])
def test_principal_maps_have_a_sign_of_their_own(method: Any) -> None:
    model, x, name, _ = resnet()
    found = pl.explain(model, x, target=TARGETS, method=method, layer=name).layers[name].flatten(1)
    value = pl.explain(model, x, target=TARGETS, method=maps.HiResCAM(), layer=name).layers[name].flatten(1)
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, a, y: seen.append(y.detach()))
    model(x)
    handle.remove()
    along = value if isinstance(method, maps.EigenGradCAM) else seen[0].norm(dim=1).flatten(1)
    assert bool(((found * along).sum(1) >= 0).all())
    if isinstance(method, maps.EigenCAM) and not method.centre:
        matrix = seen[0].flatten(2).transpose(1, 2)
        expected = matrix @ torch.linalg.svd(matrix).Vh[:, 0, :, None]
        assert torch.allclose(found.abs(), expected[..., 0].abs(), atol=1e-9)
        assert bool((found >= -1e-9).all())  # activations that are not negative: no sign is left to chance


@pytest.mark.parametrize("case", CASES)
def test_relevance_is_the_map_resized_and_shared_by_the_channels(case: str) -> None:
    model, x, name, _ = CASES[case]()
    found = pl.explain(model, x, target=TARGETS, method=maps.GradCAM(relu=False), layer=name)
    map_ = found.layers[name]
    mode = {2: "bilinear", 3: "trilinear"}[map_.ndim - 1]
    expected = nn.functional.interpolate(map_[:, None], size=x.shape[2:], mode=mode)[:, 0]
    assert torch.allclose(found.pool("sum"), expected, atol=1e-12)  # type: ignore[arg-type]
    assert bool((found.relevance == found.relevance[:, :1]).all())
    assert found.settings["unit"] == "activation"
    assert found.settings["layer"] == name


@pytest.mark.parametrize("kind", [maps.GradCAM, maps.GradCAMPlusPlus, maps.XGradCAM, maps.LayerCAM, maps.HiResCAM,
                                  maps.EigenCAM, maps.EigenGradCAM, maps.ScoreCAM, maps.AblationCAM])  # fmt: skip
def test_relu_is_a_setting(kind: Any) -> None:
    model, x = convolutional(), numbers(2, 3, 8, 8)
    signed = pl.explain(model, x, target=0, method=kind(relu=False), layer="1")
    cut = pl.explain(model, x, target=0, method=kind(relu=True), layer="1")
    assert torch.allclose(cut.layers["1"], signed.layers["1"].clamp(min=0))
    assert cut.settings["relu"] is True


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="Expected references as a whole number of 1 or more, got 0"):
        maps.FinerCAM(references=0)
    with pytest.raises(InputError, match="Expected weighing as 'equal' or 'probability', got 'none'"):
        maps.FinerCAM(weighing="none")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Expected samples as a whole number of 2 or more"):
        maps.SmoothGradCAMPlusPlus(samples=1)
    with pytest.raises(InputError, match="Expected noise as a number of 0 or more"):
        maps.SmoothGradCAMPlusPlus(noise=-1)
    with pytest.raises(InputError, match="finer-cam compares a class with others"):
        pl.explain(convolutional(), numbers(2, 3, 8, 8), target=lambda y: y.sum(1), method="finer-cam")


@pytest.mark.parametrize("method", ["score-cam", "ablation-cam"])
def test_a_forward_for_every_channel_is_foretold(method: str) -> None:
    for case, channels in (("resnet-18", 512), ("vit", 24)):
        model, x, _, _ = CASES[case]()
        row = next(row for row in pl.check(model, x).methods if row.method == method)
        assert row.forwards == 1 + channels
