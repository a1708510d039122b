"""Times a Python inference engine on an ONNX file and prints the times as JSON.

engine.py ENGINE MODEL.onnx WIDTH HEIGHT THREADS SECONDS EXPECTED, started by peers.py in a process
of its own, to measure its memory. If EXPECTED does not exist, the engine `onnxruntime` writes its
output there, float32. The others compare their output with it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

# Runs the network; returns its output, float32 [1, 3, height, width].
Run = Callable[[], np.ndarray]


def onnxruntime(model: Path, image: np.ndarray, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    batch, _, height, width = image.shape
    for name, size in {"batch": batch, "height": height, "width": width}.items():
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": image})[0]


def openvino(model: Path, image: np.ndarray, threads: int, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape(image.shape)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(network, "CPU", settings)
    return lambda: compiled(image)[0]


def quantized(model: Path, image: np.ndarray) -> Path:
    """The network in int8, calibrated on a part of the image: quantisation nodes (QDQ), weights by
    output channel, unsigned activations."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"input": image[:, :, :128, :128]}]

        def get_next(self) -> dict | None:
            return self.left.pop() if self.left else None

    folder = Path(tempfile.mkdtemp())
    prepared, path = folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        path,
        Images(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path


def ncnn(model: Path, image: np.ndarray, threads: int) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    with tempfile.TemporaryDirectory() as folder:
        # pnnx writes its files beside the one it reads.
        copy = Path(folder, "model.onnx")
        copy.write_bytes(model.read_bytes())
        # The network it writes takes any size; pnnx itself runs it at this one.
        command = ["pnnx", copy, "inputshape=[1,3,32,32]", "fp16=0"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        net.load_param(f"{folder}/model.ncnn.param")
        net.load_model(f"{folder}/model.ncnn.bin")
    mat = ncnn.Mat(image[0])

    def run() -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", mat)
        return np.array(extractor.extract("out0")[1])[None]

    return run


def torch(model: Path, image: np.ndarray, threads: int, compiled: bool, bf16: bool) -> Run:
    import torch

    from torch_network import TorchNetwork

    torch.set_num_threads(threads)
    network = TorchNetwork(model).eval().to(memory_format=torch.channels_last)
    forward = torch.compile(network) if compiled else network
    pixels = torch.from_numpy(image).to(memory_format=torch.channels_last)

    def run() -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return forward(pixels).float().numpy()

    return run


ENGINES: dict[str, Callable[[Path, np.ndarray, int], Run]] = {
    "onnxruntime": onnxruntime,
    "onnxruntime-int8": lambda m, i, t: onnxruntime(quantized(m, i), i, t),
    "openvino-int8": lambda m, i, t: openvino(quantized(m, i), i, t, precision="f32"),
    "openvino": lambda *a: openvino(*a, precision="f32"),
    "openvino-bf16": lambda *a: openvino(*a, precision="bf16"),
    "ncnn": ncnn,
    "torch": lambda *a: torch(*a, compiled=False, bf16=False),
    "torch-compile": lambda *a: torch(*a, compiled=True, bf16=False),
    "torch-bf16": lambda *a: torch(*a, compiled=False, bf16=True),
    "torch-compile-bf16": lambda *a: torch(*a, compiled=True, bf16=True),
}


def peak_memory_mb() -> float:
    """Peak memory of this process, in MB of 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    name, model, width, height, threads, seconds, expected = sys.argv[1:]
    shape = (1, 3, int(height), int(width))
    # The image of all engines: (2654435761 i mod 2^32) / 2^32 at index i.
    index = np.arange(np.prod(shape), dtype=np.uint32)
    image = (index * np.uint32(2654435761) / np.float32(2**32)).astype(np.float32).reshape(shape)

    run = ENGINES[name](Path(model), image, int(threads))
    output = run()
    times_ms: list[float] = []
    started = time.perf_counter()
    while not times_ms or time.perf_counter() - started < float(seconds):
        before = time.perf_counter()
        run()
        times_ms.append(1e3 * (time.perf_counter() - before))
    memory_mb = peak_memory_mb()

    if name == "onnxruntime" and not Path(expected).exists():
        output.tofile(expected)
    reference = np.fromfile(expected, np.float32).reshape(output.shape)
    report = {
        "times_ms": times_ms,
        "peak_memory_mb": memory_mb,
        "difference": float(np.abs(output - reference).max() / np.abs(reference).max()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
