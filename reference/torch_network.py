"""The network of an ONNX file that wdsr wrote, as a PyTorch module."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional


class TorchNetwork(nn.Module):
    """Runs the file's nodes in their order; every Conv is an `nn.Conv2d` with its weights."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        constants = {t.name: numpy_helper.to_array(t).copy() for t in graph.initializer}
        self.convs = nn.ModuleDict()
        # Operator, its inputs, its output, block size of a pixel shuffle.
        self.steps: list[tuple[str, list[str], str, int]] = []
        # Step after which a value is used no more, so that none is kept longer than it is needed.
        self.last_use: dict[str, int] = {}
        for node in graph.node:
            inputs, (output,) = list(node.input), node.output
            settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Conv":
                weight, bias = (constants.pop(name) for name in inputs[1:])
                self.convs[output] = conv2d(weight, bias)
            self.last_use |= dict.fromkeys(inputs, len(self.steps))
            self.steps.append((node.op_type, inputs, output, settings.get("blocksize", 0)))
        # What is left: the mean, and scales of residual branches.
        self.constants = list(constants)
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(value))

    def forward(self, image: Tensor) -> Tensor:
        """[batch, 3, height, width] in 0..1 -> [batch, 3, scale height, scale width]."""
        values = {"input": image} | {name: getattr(self, name) for name in self.constants}
        for step, (operator, inputs, output, block) in enumerate(self.steps):
            first, second = values[inputs[0]], values.get(inputs[-1])
            match operator:
                case "Conv":
                    result = self.convs[output](first)
                case "Relu":
                    # In place as the published networks: it always follows a convolution.
                    result = functional.relu(first, inplace=True)
                case "Add":
                    result = first + second
                case "Sub":
                    result = first - second
                case "Mul":
                    result = first * second
                case "DepthToSpace":
                    result = functional.pixel_shuffle(first, block)
                case _:
                    raise ValueError(f"expected an operator that wdsr writes, found {operator}")
            values[output] = result
            for name in inputs:
                if self.last_use[name] == step:
                    values.pop(name, None)
        return values["output"]


def conv2d(weight: np.ndarray, bias: np.ndarray) -> nn.Conv2d:
    """A convolution with zero padding that keeps the size; weight [out, in, k, k]."""
    outputs, inputs, kernel, _ = weight.shape
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    conv.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return conv
