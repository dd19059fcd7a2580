"""Class activation maps: what a layer's channels show, weighed by what they mean to the explained scalar."""

from __future__ import annotations

from pellucid.methods.activation.ablation_cam import AblationCAM
from pellucid.methods.activation.base import ActivationMap, GradientMap
from pellucid.methods.activation.class_activation_map import CAM
from pellucid.methods.activation.eigen_cam import EigenCAM
from pellucid.methods.activation.eigen_grad_cam import EigenGradCAM
from pellucid.methods.activation.finer_cam import FinerCAM
from pellucid.methods.activation.grad_cam import GradCAM
from pellucid.methods.activation.grad_cam_plusplus import GradCAMPlusPlus
from pellucid.methods.activation.gradient_x_activation import GradientTimesActivation
from pellucid.methods.activation.guided_grad_cam import GuidedGradCAM
from pellucid.methods.activation.hires_cam import HiResCAM
from pellucid.methods.activation.layer_cam import LayerCAM
from pellucid.methods.activation.score_cam import ScoreCAM
from pellucid.methods.activation.smooth_grad_cam_plusplus import SmoothGradCAMPlusPlus
from pellucid.methods.activation.xgrad_cam import XGradCAM

ACTIVATION_MAPS: tuple[type[ActivationMap], ...] = (
    CAM,
    GradCAM,
    GradCAMPlusPlus,
    SmoothGradCAMPlusPlus,
    HiResCAM,
    XGradCAM,
    LayerCAM,
    EigenCAM,
    EigenGradCAM,
    ScoreCAM,
    AblationCAM,
    FinerCAM,
    GuidedGradCAM,
    GradientTimesActivation,
)
"""All of them."""

__all__ = [
    "ACTIVATION_MAPS",
    "CAM",
    "AblationCAM",
    "ActivationMap",
    "EigenCAM",
    "EigenGradCAM",
    "FinerCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientMap",
    "GradientTimesActivation",
    "GuidedGradCAM",
    "HiResCAM",
    "LayerCAM",
    "ScoreCAM",
    "SmoothGradCAMPlusPlus",
    "XGradCAM",
]
