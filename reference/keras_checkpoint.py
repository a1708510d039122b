"""Writes crates/convert/tests/data/: krasserm WDSR weights as Keras saves them, and their output.

Layers, names and their order are those of krasserm/super-resolution model/wdsr.py under TensorFlow
2 (`model.save_weights("weights.h5")`); the numbers are random. The output is computed here in
float64 from the definition, with TensorFlow's depth_to_space, so neither TensorFlow nor the code
under test takes part.

Needs h5py and numpy: python reference/keras_checkpoint.py
"""

import pathlib
from collections.abc import Callable

import h5py
import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "crates/convert/tests/data"
MEAN = np.array([0.4488, 0.4371, 0.4040]) * 255


def conv(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """x [h, w, in], kernel [kh, kw, in, out], zero padding."""
    height, width, _ = x.shape
    size = kernel.shape[0]
    padded = np.pad(x, ((size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    y = np.zeros((height, width, kernel.shape[3])) + bias
    for dy in range(size):
        for dx in range(size):
            y += padded[dy : dy + height, dx : dx + width] @ kernel[dy, dx]
    return y


def depth_to_space(x: np.ndarray, scale: int) -> np.ndarray:
    """tf.nn.depth_to_space: channel (dy * scale + dx) * 3 + colour goes to pixel (dy, dx)."""
    height, width, _ = x.shape
    x = x.reshape(height, width, scale, scale, 3).transpose(0, 2, 1, 3, 4)
    return x.reshape(height * scale, width * scale, 3)


class Network:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.layers = []

    def weight_normalized(self, x: np.ndarray, filters: int, size: int) -> np.ndarray:
        shape = (size, size, x.shape[2], filters)
        v = self.random.normal(size=shape).astype(np.float32)
        g = self.random.uniform(0.3, 0.9, filters).astype(np.float32)
        bias = self.random.normal(scale=0.05, size=filters).astype(np.float32)
        index = sum(weights is not None for _, weights in self.layers)
        name = f"weight_normalization_{index}" if index else "weight_normalization"
        self.layers.append((name, {"g": g, "kernel": v, "bias": bias}))
        kernel = v.astype(np.float64)
        kernel *= g / np.sqrt((kernel**2).sum((0, 1, 2)))
        return conv(x, kernel, bias)

    def other(self, name: str) -> None:
        self.layers.append((name, None))

    def wdsr(
        self, x: np.ndarray, kind: str, features: int, blocks: int, expansion: int, scale: int
    ) -> np.ndarray:
        """x and result in 0..1, [h, w, 3]."""
        x = (x * 255 - MEAN) / 127.5
        self.other("input_1")
        self.other("lambda")
        m = self.weight_normalized(x, features, 3)
        for block in range(blocks):
            if kind == "a":
                b = np.maximum(self.weight_normalized(m, features * expansion, 3), 0)
            else:
                b = np.maximum(self.weight_normalized(m, features * expansion, 1), 0)
                b = self.weight_normalized(b, int(features * 0.8), 1)
            m = m + self.weight_normalized(b, features, 3)
            self.other(f"add_{block}" if block else "add")
        m = depth_to_space(self.weight_normalized(m, 3 * scale**2, 3), scale)
        s = depth_to_space(self.weight_normalized(x, 3 * scale**2, 5), scale)
        for name in ("lambda_1", "lambda_2", f"add_{blocks}", "lambda_3"):
            self.other(name)
        return ((m + s) * 127.5 + MEAN) / 255

    def save(self, group: h5py.Group, text: Callable) -> None:
        group.attrs["layer_names"] = text([name.encode() for name, _ in self.layers])
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = b"2.2.4-tf"
        for name, weights in self.layers:
            layer = group.create_group(name)
            if weights is None:
                layer.attrs["weight_names"] = np.zeros(0)
                continue
            # Keras lists trainable weights first, then `initialized`.
            names = [f"{name}/{part}:0" for part in (*weights, "initialized")]
            layer.attrs["weight_names"] = text([part.encode() for part in names])
            for part, value in weights.items():
                layer[f"{name}/{part}:0"] = value
            layer[f"{name}/initialized:0"] = np.True_


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(1).uniform(size=(6, 7, 3)).astype(np.float32)
    results = {}
    for name, group, arguments in (
        ("wdsr-a-x2", "model_weights", ("a", 4, 2, 4, 2)),
        ("wdsr-b-x3", None, ("b", 8, 2, 6, 3)),
    ):
        network = Network(seed=len(name))
        results[name] = network.wdsr(image.astype(np.float64), *arguments)
        with h5py.File(FOLDER / f"{name}.h5", "w") as file:
            # model.save() puts the weights in a group, save_weights() does not. h5py 2 wrote names
            # as an array of fixed length, h5py 3 writes strings.
            if group:
                network.save(file.create_group(group), list)
            else:
                network.save(file, np.asarray)
    (FOLDER / "input.f32").write_bytes(image.astype("<f4").tobytes())
    for name, output in results.items():
        (FOLDER / f"{name}.f32").write_bytes(output.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
