"""Checks the WDSR module for spandrel, which chaiNNer and ComfyUI load models with.

    reference/run --peers spandrel_check.py

The module (reference/spandrel) is added to a copy of the installed spandrel. Models are loaded by
it and compared with `wdsr upscale`; networks of the module are loaded from their own state dicts.
"""

import importlib.metadata
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from program import ROOT, upscale, wdsr, write_random_model

MODULE = ROOT / "reference/spandrel/libs/spandrel/spandrel/architectures/WDSR"
# Largest difference allowed of a sample in 0..1: another order of summation.
BOUND = 1e-5
NETWORKS = [
    {},
    {"scale": 1},
    {"scale": 3, "n_feats": 64, "low_rank": 51},
    {"n_blocks": 8, "expansion": 9, "low_rank": 12},
    {"block": "a", "expansion": 2, "low_rank": 0, "n_blocks": 3, "scale": 2},
]


def install(folder: Path) -> None:
    """Makes `import spandrel` find a copy with the module."""
    installed = importlib.metadata.distribution("spandrel").locate_file("spandrel")
    shutil.copytree(str(installed), folder / "spandrel")
    shutil.copytree(MODULE, folder / "spandrel/architectures/WDSR")
    sys.path.insert(0, str(folder))


def check_hyperparameters() -> bool:
    from spandrel.architectures.WDSR import WDSR, WDSRArch

    good = True
    for given in NETWORKS:
        model = WDSR(**given)
        loaded = WDSRArch().load(model.state_dict()).model.hyperparameters
        expected = {**loaded, **model.hyperparameters}
        good &= loaded == expected
        print(f"hyperparameters {given}: {'as given' if loaded == expected else loaded}")
    return good


def check(model: Path, file: Path, label: str, folder: Path) -> bool:
    """Checks that spandrel makes of `file` what `wdsr upscale` makes of `model`."""
    from spandrel import ModelLoader

    descriptor = ModelLoader().load_from_file(file)
    image = np.random.default_rng(0).random((29, 37, 3), np.float32)
    with torch.no_grad():
        output = descriptor.model(torch.from_numpy(image.transpose(2, 0, 1))[None])
    theirs = output[0].numpy().transpose(1, 2, 0)
    ours = upscale(model, image, folder)
    difference = float(np.abs(ours - theirs).max())
    verdict = "within" if difference <= BOUND else "ABOVE"
    print(f"{label} ({descriptor.tags}): {difference:.1e}, {verdict} {BOUND:.0e}", flush=True)
    return difference <= BOUND and descriptor.architecture.id == "WDSR"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder)
        from spandrel import MAIN_REGISTRY, ArchSupport
        from spandrel.architectures.WDSR import WDSRArch

        MAIN_REGISTRY.add(ArchSupport.from_architecture(WDSRArch()))
        results = [check_hyperparameters()]
        random, official = folder / "random.safetensors", folder / "official.safetensors"
        for network, scale in [("wdsr-a-32x4", 3), ("wdsr-b-32x16", 4), ("wdsr-b-16x2", 1)]:
            write_random_model(network, scale, random)
            results.append(check(random, random, f"{network} x{scale}", folder))
            wdsr("convert", "--quiet", "--layout", "official", random, official)
            label = f"{network} x{scale}, official layout"
            results.append(check(random, official, label, folder))
        small, photo = ROOT / "models/small-x2.safetensors", folder / "photo.safetensors"
        results.append(check(small, small, "small x2", folder))
        built_in = ROOT / "models/photo-x2.safetensors"
        wdsr("convert", "--quiet", "--strength", "1", built_in, photo)
        results.append(check(photo, photo, "photo x2 at strength 1", folder))
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    sys.exit(passed != len(results))


if __name__ == "__main__":
    main()
