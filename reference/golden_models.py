"""The golden networks as model files for `wdsr`, with their normalisations folded."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from program import ROOT

# The golden vectors that the tests read, too: laid out as tests/golden/README.md says.
GOLDEN = Path(os.environ.get("WDSR_GOLDEN", ROOT / "tests/golden"))
# The default of PyTorch's BatchNorm2d.
BATCH_NORM_EPSILON = 1e-5

Tensors = dict[str, np.ndarray]


def cases() -> list[dict[str, Any]]:
    """The descriptions of the networks, each with a `name`."""
    return json.loads((GOLDEN / "cases.json").read_text())


def read(case: dict[str, Any]) -> tuple[Tensors, np.ndarray, np.ndarray]:
    """Parameters, an image [batch, 3, height, width] in 0..1, and the network's output for it."""
    with safe_open(GOLDEN / f"{case['name']}.safetensors", "numpy") as file:
        keys = [key for key in file.keys() if key.startswith("param/")]
        tensors = {key.removeprefix("param/"): file.get_tensor(key) for key in keys}
        return tensors, file.get_tensor("input"), file.get_tensor("output_eval")


def folded(tensors: Tensors) -> Tensors:
    """`KEY.weight` and `KEY.bias` of each convolution, under the keys of a model file."""
    result = {}
    for key in [key.removesuffix(".bias") for key in tensors if key.endswith(".bias")]:
        if f"{key}.running_mean" in tensors:
            continue
        bias = tensors[f"{key}.bias"].astype(np.float64)
        if f"{key}.weight_g" in tensors:
            direction = tensors[f"{key}.weight_v"].astype(np.float64)
            length = np.sqrt((direction**2).sum((1, 2, 3), keepdims=True))
            weight = tensors[f"{key}.weight_g"] * direction / length
        else:
            weight = tensors[f"{key}.weight"].astype(np.float64)
        path, _, position = key.rpartition(".")
        norm = f"{path}.{int(position) + 1}" if position.isdigit() else ""
        if f"{norm}.running_mean" in tensors:
            variance = tensors[f"{norm}.running_var"].astype(np.float64)
            gain = tensors[f"{norm}.weight"] / np.sqrt(variance + BATCH_NORM_EPSILON)
            weight = weight * gain[:, None, None, None]
            bias = (bias - tensors[f"{norm}.running_mean"]) * gain + tensors[f"{norm}.bias"]
            # Its position without the norms before it.
            key = f"{path}.{ {0: 0, 3: 2, 5: 3}[int(position)] }"
        result |= {f"{key}.weight": weight, f"{key}.bias": bias}
    return {key: np.ascontiguousarray(value, np.float32) for key, value in result.items()}


def write(case: dict[str, Any], tensors: Tensors, path: Path) -> None:
    """Writes a model file of the tensors from `read`."""
    config = {key: value for key, value in case.items() if key not in ("name", "params")}
    metadata = {"format": "wdsr", "version": "1", "config": json.dumps(config | {"norm": "none"})}
    save_file(folded(tensors), path, metadata)
