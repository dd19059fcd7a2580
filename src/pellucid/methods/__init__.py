"""Attribution methods, one paper a file: values with settings, known by name.

pellucid.explain(model, x, method="integrated-gradients")
pellucid.explain(model, x, method=pellucid.methods.IntegratedGradients(steps=200, baseline="blur"))
"""

from __future__ import annotations

from pellucid.methods.activation import (
    CAM,
    AblationCAM,
    EigenCAM,
    EigenGradCAM,
    FinerCAM,
    GradCAM,
    GradCAMPlusPlus,
    GradientTimesActivation,
    GuidedGradCAM,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    SmoothGradCAMPlusPlus,
    XGradCAM,
)
from pellucid.methods.attention import AttentionMaps, AttentionRelevance, AttentionRollout, LeGrad
from pellucid.methods.base import Attribution, Cost, Method
from pellucid.methods.baselines import BASELINES, Token
from pellucid.methods.call import Call
from pellucid.methods.catalogue import method_named, methods, register, unregister
from pellucid.methods.clrp import CLRP
from pellucid.methods.conductance import Conductance
from pellucid.methods.crp import CRP
from pellucid.methods.deep_shap import DeepSHAP
from pellucid.methods.deeplift import DeepLIFT
from pellucid.methods.expected_gradients import ExpectedGradients
from pellucid.methods.feature_ablation import FeatureAblation
from pellucid.methods.feature_permutation import FeaturePermutation
from pellucid.methods.fullgrad import FullGrad
from pellucid.methods.gradient import Gradient, GradientTimesInput
from pellucid.methods.gradient_shap import GradientSHAP
from pellucid.methods.hsic import HSIC
from pellucid.methods.integrated_gradients import IntegratedGradients
from pellucid.methods.internal_influence import InternalInfluence
from pellucid.methods.kernel_shap import KernelSHAP
from pellucid.methods.lime import LIME
from pellucid.methods.named import CPLRP, AttnLRP, Deconvnet, DeepTaylor, ExcitationBackprop, GuidedBackprop
from pellucid.methods.occlusion import Occlusion
from pellucid.methods.owen_values import OwenValues
from pellucid.methods.permutation_shapley import PermutationShapley
from pellucid.methods.points import AtPoints, PointMethod
from pellucid.methods.relevance import LRP
from pellucid.methods.rise import RISE
from pellucid.methods.shapley import ExactShapley
from pellucid.methods.smoothgrad import SmoothGrad, SmoothGradSquared, VarGrad
from pellucid.methods.sobol import Sobol
from pellucid.methods.xrai import XRAI

__all__ = [
    "BASELINES",
    "CAM",
    "CLRP",
    "CPLRP",
    "CRP",
    "HSIC",
    "LIME",
    "LRP",
    "RISE",
    "XRAI",
    "AblationCAM",
    "AtPoints",
    "AttentionMaps",
    "AttentionRelevance",
    "AttentionRollout",
    "AttnLRP",
    "Attribution",
    "Call",
    "Conductance",
    "Cost",
    "Deconvnet",
    "DeepLIFT",
    "DeepSHAP",
    "DeepTaylor",
    "EigenCAM",
    "EigenGradCAM",
    "ExactShapley",
    "ExcitationBackprop",
    "ExpectedGradients",
    "FeatureAblation",
    "FeaturePermutation",
    "FinerCAM",
    "FullGrad",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GradientSHAP",
    "GradientTimesActivation",
    "GradientTimesInput",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "IntegratedGradients",
    "InternalInfluence",
    "KernelSHAP",
    "LayerCAM",
    "LeGrad",
    "Method",
    "Occlusion",
    "OwenValues",
    "PermutationShapley",
    "PointMethod",
    "ScoreCAM",
    "SmoothGrad",
    "SmoothGradCAMPlusPlus",
    "SmoothGradSquared",
    "Sobol",
    "Token",
    "VarGrad",
    "XGradCAM",
    "method_named",
    "methods",
    "register",
    "unregister",
]
