"""Makes two narrow networks of Gluon's model zoo in this folder. Run by MXNet 1.9.1 (`make mxnet-env`):

MXNET_MKLDNN_ENABLED=0 .venv-mxnet/bin/python tests/data/mxnet/make.py

With oneDNN, MXNet's gradient of max pooling is noise in inference, so it must be off.
"""

import json
import os
import sys

import mxnet as mx
import numpy as np
from mxnet.gluon.model_zoo.vision import MobileNetV2, SqueezeNet

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")


def narrow_squeezenet():
    """SqueezeNet 1.1 with an eighth of the channels, and a last pooling that fits 64 pixels."""
    net = SqueezeNet("1.1", classes=10)
    for block in walk(net):
        if isinstance(block, mx.gluon.nn.Conv2D) and block._channels != 10:
            block._channels //= 8
            block._kwargs["num_filter"] = block._channels
            block.weight._shape = (block._channels, 0, *block.weight.shape[2:])
            block.bias._shape = (block._channels,)
        if isinstance(block, mx.gluon.nn.AvgPool2D):
            block._kwargs.update(kernel=(3, 3), stride=(3, 3))
    return net


def walk(block):
    yield block
    for child in block._children.values():
        yield from walk(child)


def make(name, net, rng, size):
    mx.random.seed(1)
    net.initialize(mx.init.Xavier(magnitude=2.5))
    net.hybridize()
    x = mx.nd.array(rng.standard_normal((2, 3, size, size)))
    net(x)
    for parameter_name, parameter in net.collect_params().items():
        values = parameter.data().asnumpy()
        if parameter_name.endswith("gamma"):
            values = rng.uniform(0.5, 1.5, values.shape) * np.where(rng.random(values.shape) < 0.06, -1, 1)
        elif parameter_name.endswith(("beta", "bias")):
            values = rng.normal(0, 0.2, values.shape)
        parameter.set_data(mx.nd.array(values))
    with mx.autograd.record(train_mode=True):  # batch statistics of the weights as they are now
        for _ in range(30):
            net(x)
            mx.nd.waitall()
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    net.export(os.path.join(folder, name))
    out = net(x).asnumpy()
    net.cast("float64")
    x64 = x.astype("float64")
    x64.attach_grad()
    with mx.autograd.record(train_mode=False):
        logits = net(x64)
        top = logits.argmax(1)
        total = mx.nd.pick(logits, top).sum()
    total.backward(train_mode=False)
    io = {"data": x.asnumpy(), "out_0": out, "logits": logits.asnumpy(), "top": top.asnumpy().astype("int64")}
    np.savez_compressed(os.path.join(folder, "io.npz"), grad_data=x64.grad.asnumpy().astype("float32"), **io)
    with open(os.path.join(folder, name + "-symbol.json")) as file:
        symbol = json.load(file)
    last = symbol["nodes"][symbol["heads"][0][0]]["name"]
    meta = {"name": name, "mxnet": mx.__version__, "logits": last, "grad_dtype": "computed by MXNet in float64"}
    with open(os.path.join(folder, "meta.json"), "w") as file:
        json.dump(meta, file, indent=1)


if __name__ == "__main__":
    if os.environ.get("MXNET_MKLDNN_ENABLED") != "0":
        sys.exit("set MXNET_MKLDNN_ENABLED=0")
    generator = np.random.default_rng(3)
    make("squeezenet1.1", narrow_squeezenet(), generator, 64)
    make("mobilenetv2_0.07", MobileNetV2(0.07, classes=10), generator, 32)
