#!/usr/bin/env python3
"""Cuts a folder of golden vectors down to what the project carries in `tests/golden`.

    reference/run cut_golden_vectors.py FULL OUT

FULL and OUT have the layout that `tests/golden/README.md` describes. The networks below show every
block, normalisation, scale and residual scale once; `output_train` stays where it differs from
`output_eval`, that is, with batch normalisation. Tensors and files are copied, not computed.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

NETWORKS = [
    "wdsr-b_x3",
    "edsr_x2",
    "edsr_x4",
    "wdsr-a_x2_batch",
    "wdsr-b_x2_batch",
    "wdsr-b_x2_none",
    "wdsr-a_x8_res0.1",
    "wdsr-b_x1",
]
# One of each layout and of each container: zip, the older one, parametrizations.
CHECKPOINTS = [
    "official_wdsr-a_x2.pt",
    "official_wdsr-b_x2_legacy.pt",
    "yjn870_wdsr-b_x3.pth.tar",
    "ychfan_wdsr-a_x4.pt",
    "parametrized_wdsr-a_x2.pt",
]
# Odd sizes, and a small image with every scale but 4.
IMAGES = {
    "image1": ["1/2", "1/3", "1/4", "1.5", "0.7"],
    "image2": ["1/2", "1/3", "1/4", "2", "3", "1.5", "0.7"],
}


def cut(source: Path, target: Path, keep: list[str] | None = None) -> None:
    """Copies a safetensors file's metadata and the tensors named, or all that say something new."""
    with safe_open(source, "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in keep or file.keys()}
        if "output_train" in tensors:
            if np.array_equal(tensors["output_train"], tensors["output_eval"]):
                del tensors["output_train"]
        save_file(tensors, target, file.metadata())


def cut_list(source: Path, target: Path, key: str, keep: list[str]) -> None:
    """Copies the entries of a JSON list whose `key` is in `keep`."""
    cases = [case for case in json.loads(source.read_text()) if case[key] in keep]
    missing = set(keep) - {case[key] for case in cases}
    assert not missing, f"{source}: expected {sorted(missing)}"
    target.write_text(json.dumps(cases, indent=1) + "\n")


def main() -> None:
    full, out = (Path(name) for name in sys.argv[1:])
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    cut_list(full / "cases.json", out / "cases.json", "name", NETWORKS)
    for name in NETWORKS:
        cut(full / f"{name}.safetensors", out / f"{name}.safetensors")
    checkpoints = "checkpoints/checkpoints.json"
    cut_list(full / checkpoints, out / checkpoints, "file", CHECKPOINTS)
    for name in CHECKPOINTS:
        file = f"checkpoints/{name}"
        (out / file).write_bytes((full / file).read_bytes())
    expected = "checkpoints/expected.safetensors"
    cut(full / expected, out / expected, ["input", *(f"out/{name}" for name in CHECKPOINTS)])
    resized = [
        f"{image}/{kind}/{scale}"
        for image, scales in IMAGES.items()
        for kind in ("uint8_passes", "float")
        for scale in scales
    ]
    cut(full / "imresize.safetensors", out / "imresize.safetensors", [*IMAGES, *resized])
    for name in ("metrics.safetensors", "metrics.json"):
        (out / name).write_bytes((full / name).read_bytes())


if __name__ == "__main__":
    main()
