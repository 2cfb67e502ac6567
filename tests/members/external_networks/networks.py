"""Small networks of plain torch and of ONNX, as other frameworks would write them."""

import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from evaluation.core.classes import Classes
from members.data.dataset import DataSet

NAMES = ("ground", "water", "tree")
LEVELS = (40, 120, 200)
"""Brightness of each class: a linear network can tell them apart."""


def images_of(*, images=24, size=(12, 16), channels=1, names=NAMES, seed=0):
    """Images whose classes are their brightness, with their masks."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, len(names), (images, size[0] // 4, size[1] // 4)).astype(np.uint8)
    masks = masks.repeat(4, axis=1).repeat(4, axis=2)
    grey = np.array(LEVELS)[masks] + rng.integers(-8, 9, masks.shape)
    # The last colour is reversed, so that the order of colours matters.
    stack = [grey if c < channels - 1 or channels == 1 else 255 - grey for c in range(channels)]
    ids = tuple(f"image-{i:02d}" for i in range(images))
    pixels = np.stack(stack, axis=1).astype(np.uint8)
    return DataSet(pixels, masks, ids, None, Classes(names))


def logits_weights(channels=1, scale=255.0, order=(0, 1, 2)):
    """Weights of a 1 x 1 convolution: the class whose level is nearest to the first channel."""
    levels = np.array(LEVELS) / 255
    weight = np.zeros((len(levels), channels, 1, 1), np.float32)
    weight[:, 0, 0, 0] = 2 * 30 * levels * (255 / scale) / 255 * (255 if scale == 1 else 1)
    weight[:, 0, 0, 0] = 60 * levels / scale
    bias = (-30 * levels**2).astype(np.float32)
    return weight[list(order)], bias[list(order)]


class Brightness(nn.Module):
    """Logits of classes by brightness, for pixels of 0 to `scale`."""

    def __init__(self, channels=1, scale=255.0, order=(0, 1, 2), softmax=False):
        super().__init__()
        weight, bias = logits_weights(channels, scale, order)
        self.conv = nn.Conv2d(channels, len(order), 1)
        self.softmax = softmax
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(weight))
            self.conv.bias.copy_(torch.from_numpy(bias))

    def forward(self, images):
        logits = self.conv(images.float())
        return logits.softmax(dim=1) if self.softmax else logits


def save_torchscript(module, path, channels=1):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), torch.zeros(1, channels, 8, 8), check_trace=False)
        traced.save(str(path))
    return path


def save_pt2(module, path, channels=1):
    free = torch.export.Dim.DYNAMIC
    example = torch.zeros(2, channels, 8, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module.eval(), (example,), dynamic_shapes=({0: free, 2: free, 3: free},)
        )
        torch.export.save(program, path)
    return path


def save_onnx(
    path,
    *,
    channels=1,
    scale=255.0,
    order=(0, 1, 2),
    shape=("n", None, "h", "w"),
    nodes=(),
    output="logits",
    last=False,
    dtype=TensorProto.FLOAT,
    external=False,
    mean=0.0,
    std=1.0,
):
    """Write the same network by hand: tracing takes seconds.

    Args:
        mean: subtracted from the pixels that it is given.
        std: by which they are divided after that.
        nodes: (operator, attributes) appended to the convolution.
        last: channels last, in and out.
    """
    weight, bias = logits_weights(channels, scale, order)
    weight, bias = weight * std, bias + mean * weight[:, 0, 0, 0]
    sides = [shape[0], channels if shape[1] is None else shape[1], *shape[2:]]
    graph, name = [], "images"
    if dtype != TensorProto.FLOAT:
        graph.append(helper.make_node("Cast", [name], ["cast"], to=TensorProto.FLOAT))
        name = "cast"
    if last:
        sides = [sides[0], *sides[2:], sides[1]]
        graph.append(helper.make_node("Transpose", [name], ["first"], perm=[0, 3, 1, 2]))
        name = "first"
    graph.append(helper.make_node("Conv", [name, "weight", "bias"], ["conv"]))
    name = "conv"
    for number, (operator, attributes) in enumerate(nodes):
        attributes = dict(attributes)
        domain = attributes.pop("domain", "")
        graph.append(
            helper.make_node(operator, [name], [f"out{number}"], domain=domain, **attributes)
        )
        name = f"out{number}"
    if last:
        graph.append(helper.make_node("Transpose", [name], ["last"], perm=[0, 2, 3, 1]))
        name = "last"
    kind = TensorProto.INT64 if nodes and nodes[-1][0] == "ArgMax" else TensorProto.FLOAT
    graph.append(helper.make_node("Identity", [name], [output]))
    tensors = [
        numpy_helper.from_array(weight.astype(np.float32), "weight"),
        numpy_helper.from_array(bias, "bias"),
    ]
    model = helper.make_model(
        helper.make_graph(
            graph,
            "network",
            [helper.make_tensor_value_info("images", dtype, sides)],
            [helper.make_tensor_value_info(output, kind, None)],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("my.operators", 1)],
        ir_version=9,
    )
    onnx.save(
        model,
        path,
        save_as_external_data=external,
        location=f"{path.name}.data" if external else None,
        size_threshold=0,
    )
    return path
