"""Writes the built-in models as release files, and their entries for OpenModelDB.

    reference/run openmodeldb.py RELEASE_FILES ENTRIES

RELEASE_FILES gets the model files under the names of a release. ENTRIES gets `data/`, laid out as
in https://github.com/OpenModelDB/open-model-database: an entry for each model with its size and
SHA-256, and what is to be added to `architectures.json` and `users.json`.
`reference/spandrel/entries` is what this script writes of the models in this checkout.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open

from program import ROOT, wdsr

RELEASE = "https://github.com/wdsr-rs/wdsr/releases/download/v0.1.0"
DATE = "2026-11-27"
PURPOSES = {
    "base": "For clean photographs: the balance of speed and quality.",
    "small": "For clean photographs: half the work of base.",
    "photo": "For photographs with JPEG artifacts and noise. These are the weights of strength 1; "
    "wdsr itself reads the strength off each image.",
}
DATASET = (
    "About 900 freely licensed photographs: "
    "[the list](https://github.com/wdsr-rs/wdsr/blob/main/models/README.md)"
)


def entry(kind: str, scale: int, file: Path) -> dict[str, Any]:
    with safe_open(file, "numpy") as tensors:
        config = json.loads(tensors.metadata()["config"])
    tags = ["general-upscaler", "photo"]
    if kind == "photo":
        tags = ["compression-removal", "denoise", "jpeg", "photo", "restoration"]
    content = file.read_bytes()
    return {
        "name": f"WDSR {kind}",
        "author": "wdsr-rs",
        "license": "MIT OR Apache-2.0",
        "tags": tags,
        "description": f"{PURPOSES[kind]}\n\nWDSR-B ([Yu et al. 2018]"
        "(https://arxiv.org/abs/1808.08718)), trained for PSNR: nothing is invented. "
        "Fast on processors with [wdsr](https://github.com/wdsr-rs/wdsr).",
        "date": DATE,
        "architecture": "wdsr",
        "size": [f"{config['features']}nf", f"{config['blocks']}nb"],
        "scale": scale,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "urls": [f"{RELEASE}/{file.name}"],
            }
        ],
        "dataset": DATASET,
        "images": [],
    }


def write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4) + "\n")


def main() -> None:
    files, entries = (Path(name) for name in sys.argv[1:])
    files.mkdir(parents=True, exist_ok=True)
    for model in sorted((ROOT / "models").glob("*-x?.safetensors")):
        kind, _, scale = model.stem.rpartition("-x")
        file = files / f"wdsr-{model.name}"
        if kind == "photo":
            wdsr("convert", "--quiet", "--f16", "--strength", "1", model, file.resolve())
        else:
            shutil.copyfile(model, file)
        name = f"{scale}x-WDSR-{kind}.json"
        write(entries / "data/models" / name, entry(kind, int(scale), file))
    # For spandrel's own test.
    official = files / "wdsr-base-x2-official.safetensors"
    model = ROOT / "models/base-x2.safetensors"
    wdsr("convert", "--quiet", "--layout", "official", model, official.resolve())
    platforms = ["pytorch", "onnx", "ncnn"]
    architecture = {"name": "WDSR", "input": "image", "compatiblePlatforms": platforms}
    write(entries / "data/architectures.json", {"wdsr": architecture})
    write(entries / "data/users.json", {"wdsr-rs": {"name": "wdsr-rs"}})


if __name__ == "__main__":
    main()
