"""Checks twin.py against `wdsr train`: same recipe, first weights and batches, 300 updates.

    reference/run --peers twin_check.py

Small networks of every kind, norm, loss and schedule, on parts of samples/chelsea.png. The losses
of both must agree to float noise (BOUNDS). Then the way back: `wdsr` reads the twin's model and
goes on from its checkpoint.
Last, the low-resolution images of twin.py's own patches must be `wdsr`'s to the bit.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from twin_data import Batches, Images, open_file

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
UPDATES = 300
VALIDATION = "[validation]\nevery_updates = 1\nimages = 0\n"
B_8X2 = 'block = "wdsr-b"\nfeatures = 8\nblocks = 2\n'
# Largest relative difference allowed of an update's losses. The slope of an absolute value jumps
# at 0, so an error that rounds to the other side there changes the weights by far more than float
# noise, and such a difference stays: two runs of PyTorch, with oneDNN and without, differ by 2.4e-4
# then. Where the slope is continuous nothing but noise is left.
SMOOTH, JUMPS = 2e-6, 5e-3
BOUNDS = {"l1": JUMPS, "fft": JUMPS, "l2": SMOOTH, "charbonnier": SMOOTH}
# Before the first such jump; 10 updates have none here.
EARLY_UPDATES, EARLY_BOUND = 10, 1e-6
# Name, `[network]`, `[training]`, `[schedule]`, updates.
RECIPES = [
    (
        "wdsr-b, weight norm, l1, cosine, warm-up, average",
        B_8X2,
        'loss = "l1"\naverage_decay = 0.99',
        'kind = "cosine"\nlearning_rate = 1e-3\nwarm_up_updates = 20',
        UPDATES,
    ),
    (
        "wdsr-a x3, batch norm, fft, one-cycle",
        'block = "wdsr-a"\nfeatures = 6\nblocks = 2\nscale = 3\nnorm = "batch"',
        'loss = "fft"',
        'kind = "one-cycle"\nlearning_rate = 2e-4',
        60,
    ),
    (
        "edsr x4, no norm, charbonnier, steps, clipping",
        'block = "edsr"\nfeatures = 6\nblocks = 2\nscale = 4\nresidual_scale = 0.5',
        'loss = "charbonnier"\ngradient_clip_norm = 0.05\naverage_decay = 0.9',
        'kind = "step"\nlearning_rate = 2e-4\nmilestones = [20, 40]\nfactor = 0.5',
        60,
    ),
    (
        "wdsr-b x1, weight norm, l2, constant, cool-down",
        B_8X2 + "scale = 1",
        'loss = "l2"',
        'kind = "constant"\nlearning_rate = 1e-3\nwarm_up_updates = 10\ncool_down_updates = 20',
        UPDATES,
    ),
]


def wdsr(*arguments: str | Path) -> None:
    command = ["cargo", "run", "--quiet", "--locked", "--package", "wdsr-cli", "--", *arguments]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def twin(folder: Path, *arguments: str) -> None:
    command = [sys.executable, HERE / "twin.py", folder, "--device", "cpu", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_images(folder: Path) -> None:
    folder.mkdir()
    image = Image.open(ROOT / "samples" / "chelsea.png").convert("RGB")
    for at in range(6):
        left, top = 70 * (at % 3) + 60, 100 * (at // 3) + 20
        image.crop((left, top, left + 97, top + 97)).save(folder / f"{at}.png")


def write_recipe(path: Path, network: str, training: str, schedule: str, updates: int) -> None:
    path.write_text(
        f"[network]\n{network}\n[training]\nupdates = {updates}\nbatch = 4\npatch_px = 12\n"
        f"{training}\n[schedule]\n{schedule}\n{VALIDATION}"
    )


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").open()]


def check_losses(root: Path, case: tuple[str, str, str, str, int]) -> None:
    name, *tables, updates = case
    recipe, ours, twins = root / "recipe.toml", root / "wdsr", root / "twin"
    write_recipe(recipe, *tables, updates)
    arguments = ["train", recipe, "--data", root / "data", "--out"]
    wdsr(*arguments, twins, "--export-batches", str(updates))
    # The twin begins as wdsr does, from the same checkpoint.
    wdsr(*arguments, ours)
    twin(twins)
    pairs = list(zip(losses(ours), losses(twins), strict=True))
    assert len(pairs) == updates, pairs
    differences = [abs(a - b) / a for a, b in pairs]
    shown = [u for u in (1, 10, 60, 100, 200, 300) if u <= updates]
    figures = ", ".join(f"{max(differences[:u]):.1e} up to {u}" for u in shown)
    print(f"{name}: loss {pairs[0][0]:.4f} to {pairs[-1][0]:.4f}, differs by {figures}", flush=True)
    (bound,) = (bound for loss, bound in BOUNDS.items() if f'loss = "{loss}"' in tables[1])
    assert max(differences[:EARLY_UPDATES]) <= EARLY_BOUND, f"{name}: {differences}"
    assert max(differences) <= bound, f"{name}: {differences}"
    models = [open_file(folder / "model.safetensors", "wdsr")[0] for folder in (ours, twins)]
    change = max((models[0][key] - models[1][key]).abs().max().item() for key in models[0])
    print(f"  weights of the models: {change:.1e}")
    for folder in (ours, twins):
        model = folder / "model.safetensors"
        wdsr("upscale", "-m", model, "-o", folder / "made.png", root / "data" / "0.png")
    made = [torch.tensor(list(Image.open(f / "made.png").tobytes())) for f in (ours, twins)]
    assert (made[0] - made[1]).abs().max() <= 1, "upscaled images differ"
    shutil.rmtree(ours)
    shutil.rmtree(twins)


def check_going_on(root: Path) -> None:
    """Half by the twin, half by wdsr, and the twin in two parts."""
    recipe, whole, parts = root / "recipe.toml", root / "whole", root / "parts"
    write_recipe(recipe, *RECIPES[0][1:4], 40)
    arguments = ["train", recipe, "--data", root / "data", "--out"]
    wdsr(*arguments, whole)
    wdsr(*arguments, parts, "--export-batches", "20")
    twin(parts)
    wdsr(*arguments, parts, "--resume")
    pairs = list(zip(losses(whole), losses(parts), strict=True))
    assert len(pairs) == 40, pairs
    assert all(abs(a - b) / a <= JUMPS for a, b in pairs), pairs


def check_images(root: Path) -> None:
    """Patches as large as the images: each is one of them, turned."""
    recipe, folder = root / "recipe.toml", root / "images"
    for scale in (2, 3):
        patch_px = 97 // scale
        recipe.write_text(
            f"[network]\n{B_8X2}scale = {scale}\n[training]\nupdates = 20\nbatch = 8\n"
            f"patch_px = {patch_px}\n{VALIDATION}"
        )
        arguments = ["train", recipe, "--data", root / "data", "--out", folder]
        wdsr(*arguments, "--export-batches", "20")
        training = {"batch": 8, "patch_px": patch_px, "seed": 1}
        batches = Batches(folder / "batches.safetensors", training, scale, "cpu")
        shutil.rmtree(folder)
        wdsr(*arguments, "--export-images")
        files = sorted(folder.glob("images-*.safetensors"))
        images = Images(files, training, scale, "cpu")

        def pairs(data: Batches | Images) -> set[bytes]:
            found = set()
            for update in range(20):
                for low, high in zip(*data.batch(update), strict=True):
                    found.add(low.numpy().tobytes() + high.numpy().tobytes())
            return found

        expected, found = pairs(batches), pairs(images)
        # 6 images in 8 orientations; 160 patches leave hardly one out.
        assert len(expected) > 40 and len(found) > 40, (len(expected), len(found))
        assert len(expected | found) <= 48, len(expected | found)
        twin(folder, "--compile", "--precision", "bf16")
        assert losses(folder)[-1] < losses(folder)[0], losses(folder)
        shutil.rmtree(folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "data")
        for case in RECIPES:
            check_losses(root, case)
        check_going_on(root)
        check_images(root)
    print("twin.py agrees with wdsr train")


if __name__ == "__main__":
    main()
