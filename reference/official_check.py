"""Checks `wdsr convert --layout official`: PyTorch's output against `wdsr upscale`.

    reference/run --peers official_check.py

Networks of every kind with random weights at scales 2, 3 and 4, a residual scale, and the built-in
model. `load_state_dict` is strict. Golden checkpoints, which the published code wrote, show that
the networks here have the published keys and ranges.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import official_networks
from golden_models import GOLDEN
from program import ROOT, upscale, wdsr, write_random_model

NETWORKS = ("wdsr-a-16x4", "wdsr-b-32x8", "edsr-16x4")
SCALES = (2, 3, 4)
# Largest difference allowed of a sample in 0..1: another order of summation.
BOUND = 1e-5


def convert(model: Path, folder: Path) -> Path:
    path = folder / "official.safetensors"
    wdsr("convert", "--quiet", model, path, "--layout", "official")
    return path


def check(model: Path, label: str, folder: Path) -> bool:
    path = convert(model, folder)
    with safe_open(path, "pt") as file:
        network = official_networks.build(file.metadata()["options"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    network.load_state_dict(tensors, strict=True)
    image = np.random.default_rng(0).random((29, 37, 3), np.float32)
    ours = upscale(model, image, folder)
    with torch.inference_mode():
        planes = torch.from_numpy(image).permute(2, 0, 1)[None]
        theirs = (network(255 * planes) / 255)[0].permute(1, 2, 0).numpy()
    assert theirs.shape == ours.shape, (theirs.shape, ours.shape)
    difference = float(np.abs(ours - theirs).max())
    verdict = "within" if difference <= BOUND else "ABOVE"
    print(f"{label}: {difference:.1e}, {verdict} {BOUND:.0e}", flush=True)
    return difference <= BOUND


def write_residual_scale(model: Path, residual_scale: float) -> None:
    """Changes the residual scale in the description of a model file."""
    with safe_open(model, "numpy") as file:
        metadata = file.metadata()
    found = '"residual_scale":1.0'
    assert found in metadata["config"], metadata["config"]
    metadata["config"] = metadata["config"].replace(found, f'"residual_scale":{residual_scale}')
    save_file(load_file(model), model, metadata)


def check_networks(case: dict) -> bool:
    """Checks that a checkpoint of the published code computes the expected output."""
    folder = GOLDEN / "checkpoints"
    network = official_networks.build(
        f"--model {case['block'].replace('-', '_')} --scale {case['scale']} --n_resblocks "
        f"{case['blocks']} --n_feats {case['features']} --block_feats "
        f"{case['features'] * case['expansion']} --res_scale 1 --r_mean 0.4488 --g_mean 0.4371 "
        "--b_mean 0.4040"
    )
    network.load_state_dict(torch.load(folder / case["file"], weights_only=True), strict=True)
    with safe_open(folder / "expected.safetensors", "pt") as file, torch.inference_mode():
        output = network(255 * file.get_tensor("input")) / 255
        difference = (output - file.get_tensor(f"out/{case['file']}")).abs().max().item()
    print(f"{case['file']}: {difference:.1e}", flush=True)
    return difference <= BOUND


def main() -> None:
    cases = json.loads((GOLDEN / "checkpoints/checkpoints.json").read_text())
    results = [check_networks(case) for case in cases if case["layout"] == "official"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = folder / "random.safetensors"
        for network in NETWORKS:
            for scale in SCALES:
                write_random_model(network, scale, random)
                results.append(check(random, f"{network} x{scale}", folder))
        write_random_model("wdsr-a-16x4", 2, random)
        write_residual_scale(random, 0.1)
        results.append(check(random, "wdsr-a-16x4 x2, residual scale 0.1", folder))
        results.append(check(ROOT / "models/small-x2.safetensors", "small x2", folder))
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    sys.exit(passed != len(results))


if __name__ == "__main__":
    main()
