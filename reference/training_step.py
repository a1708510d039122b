"""Times a training step of PyTorch on the network of an ONNX file and prints the times as JSON.

training_step.py VARIANT MODEL.onnx THREADS SECONDS, started by peers.py. A step is the forward
pass of 16 patches of 48x48, mean absolute error, backward pass and Adam, with weight normalisation
on every convolution.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import l1_loss
from torch.nn.utils.parametrizations import weight_norm

from engine import peak_memory_mb
from torch_network import TorchNetwork

PATCHES, PATCH_PX = 16, 48
# Compiled, bf16 autocast.
VARIANTS = {
    "torch": (False, False),
    "torch-compile": (True, False),
    "torch-bf16": (False, True),
    "torch-compile-bf16": (True, True),
}


def main() -> None:
    variant, model, threads, seconds = sys.argv[1:]
    compiled, bf16 = VARIANTS[variant]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    network = TorchNetwork(Path(model)).to(memory_format=torch.channels_last)
    for conv in network.convs.values():
        weight_norm(conv)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    low = torch.rand(PATCHES, 3, PATCH_PX, PATCH_PX).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        high = torch.rand(network(low).shape).to(memory_format=torch.channels_last)
    forward = torch.compile(network) if compiled else network

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = forward(low)
        l1_loss(output.float(), high).backward()
        optimizer.step()

    for _ in range(2):
        step()
    times_ms: list[float] = []
    started = time.perf_counter()
    while not times_ms or time.perf_counter() - started < float(seconds):
        before = time.perf_counter()
        step()
        times_ms.append(1e3 * (time.perf_counter() - before))
    print(json.dumps({"times_ms": times_ms, "peak_memory_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
