"""The smallest variant of every torchvision family; where one module holds several architectures, one of each."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.video.mvit import PositionalEncoding

from benchmarks.zoo.registry import Row

# name: side of the input in pixels, the smallest at which every stage still has a map to work on
CLASSIFICATION = {
    "alexnet": 96, "convnext_tiny": 64, "densenet121": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "googlenet": 64, "inception_v3": 96, "maxvit_t": 224, "mnasnet0_5": 64, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "regnet_x_400mf": 64, "regnet_y_400mf": 64, "resnet18": 64, "resnet50": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 64, "shufflenet_v2_x0_5": 64, "squeezenet1_0": 64, "squeezenet1_1": 64, "swin_t": 64,
    "swin_v2_t": 64, "vgg11": 64, "vgg11_bn": 64, "vit_b_32": 96,
}  # fmt: skip
SEGMENTATION = {"deeplabv3_mobilenet_v3_large": 96, "fcn_resnet50": 64, "lraspp_mobilenet_v3_large": 96}
VIDEO = {
    "mc3_18": (8, 56), "r2plus1d_18": (8, 56), "r3d_18": (8, 56), "s3d": (16, 224), "swin3d_t": (8, 64),
    "mvit_v1_b": (8, 64), "mvit_v2_s": (8, 64),
}  # fmt: skip
SIZED = {"vit_b_32": "image_size", "maxvit_t": "input_size"}
DETECTION = (
    "fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16", "ssdlite320_mobilenet_v3_large",
)  # fmt: skip


class ClassLogits(nn.Module):
    """A torchvision detector up to the class logits of its head, before scores and suppression.

    Shape: (1, 3, height, width) -> (1, candidates, classes); the background class, where there is one, is left out.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        detector: Any = self.detector
        images, _ = detector.transform(list(x))
        features = detector.backbone(images.tensors)
        if not isinstance(features, OrderedDict):
            features = OrderedDict([("0", features)])
        if hasattr(detector, "roi_heads"):
            proposals, _ = detector.rpn(images, features)
            heads = detector.roi_heads
            boxes = heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes))
            return heads.box_predictor(boxes)[0][None, :, 1:]
        logits = detector.head(list(features.values()))["cls_logits"]
        return logits[..., 1:] if type(detector).__name__ == "SSD" else logits


def _classifier(name: str, size: int) -> tuple[nn.Module, Tensor]:
    kwargs: dict[str, Any] = {SIZED[name]: size} if name in SIZED else {}
    if name == "maxvit_t":
        kwargs = {"input_size": (size, size)}
    if name in ("googlenet", "inception_v3"):
        kwargs = {"init_weights": False}
    model = torchvision.models.get_model(name, weights=None, **kwargs)
    return model, torch.randn(1, 3, size, size)


def _segmentation(name: str, size: int) -> tuple[nn.Module, Tensor]:
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    return model, torch.randn(1, 3, size, size)


def _video(name: str, frames: int, size: int) -> tuple[nn.Module, Tensor]:
    model: Any = torchvision.models.get_model(name, weights=None)
    if name.startswith("mvit"):  # its builders fix 16 frames of 224 pixels; only the table of positions depends on that
        model.pos_encoding = PositionalEncoding(
            model.conv_proj.out_channels,
            spatial_size=(size // 4, size // 4),
            temporal_size=frames // 2,
            rel_pos_embed=name == "mvit_v2_s",
        )
    return model, torch.randn(1, 3, frames, size, size)


def _detector(name: str) -> tuple[nn.Module, Tensor]:
    kwargs: dict[str, Any] = {} if name.startswith("ssd") else {"min_size": 96, "max_size": 128}
    if "rcnn" in name:
        kwargs |= {"rpn_pre_nms_top_n_test": 40, "rpn_post_nms_top_n_test": 10}
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=11, **kwargs)
    return ClassLogits(model), torch.rand(1, 3, 96, 128)


def rows() -> list[Row]:
    """The rows of the set "torchvision"."""
    row = partial(Row, set="torchvision")
    found = [
        row(name=name, family="classification", kind="convolutional classifier", make=partial(_classifier, name, size))
        for name, size in CLASSIFICATION.items()
    ]
    found += [
        row(
            name=name,
            family="segmentation",
            kind="segmentation",
            make=partial(_segmentation, name, size),
            scalar="top class",
        )
        for name, size in SEGMENTATION.items()
    ]
    found += [
        row(name=name, family="detection", kind="detection", make=partial(_detector, name), scalar="top cell")
        for name in DETECTION
    ]
    found += [
        row(name=name, family="video", kind="video", make=partial(_video, name, *size)) for name, size in VIDEO.items()
    ]
    return found
