"""Trains in PyTorch what `wdsr train` trains: same recipe, same first weights, same batches.

    wdsr train RECIPE --data FOLDER --out OUT --export-batches 300     # the trainer's own batches
    wdsr train RECIPE --data FOLDER --out OUT --export-images        # or the images
    reference/run --peers twin.py OUT

It goes on from OUT/last.checkpoint to the recipe's last update (or the last exported batch) and
writes, as `wdsr train` does, last.checkpoint, model.safetensors and metrics.jsonl. `wdsr train
--resume` may go on from there, and the other way round. It needs torch, numpy, pillow and
safetensors, not wdsr. On a GPU the convolutions of the blocks run in bf16, those of WDSR-B in
kernels of our own (twin_kernels.py), and an update is one CUDA graph.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from twin_data import Batches, Images, open_file
from twin_network import Tensors, TwinNetwork

# The recipe's keys, every one of which reaches the weights here or in what `wdsr` has exported.
# `wdsr` writes them with all defaults; a key it learns later is refused until it stands here.
KEYS = {
    "network": "block features blocks expansion low_rank norm scale residual_scale mean",
    "start": "from insert_blocks initialization",
    "degradation": "untouched stages",
    "strength": "clean range",
    "data": "folders track validation",
    "training": "updates batch patch_px least_detail branches precision seed loss"
    " charbonnier_epsilon fft_weight gradient_clip_norm average_decay rollbacks rollback_factor",
    "schedule": "kind learning_rate final_learning_rate warm_up_updates cool_down_updates"
    " milestones factor",
    "validation": "every_updates images protocol",
}
WITHOUT_EFFECT = "validation.images and validation.protocol: twin.py does not validate"
CHECKPOINT = "last.checkpoint"
# The network at strength 0, of a recipe with `[strength]`; `wdsr train` writes it.
CLEAN = "clean.safetensors"


class Training:
    """The state of a training, on its device, and an update of it."""

    def __init__(
        self, folder: Path, device: str, precision: str | None, compiled: bool, kernels: bool
    ) -> None:
        self.folder, self.device = folder, device
        tensors, self.metadata = open_file(folder / CHECKPOINT, "wdsr-checkpoint")
        self.recipe = json.loads(self.metadata["recipe"])
        refuse_unknown_keys(self.recipe)
        asked = "bf16" if device == "cuda" else self.recipe["training"].get("precision", "f32")
        self.precision = precision or asked
        body_type = {"f32": torch.float32, "bf16": torch.bfloat16}[self.precision]
        network = self.recipe["network"]
        if kernels := kernels and device == "cuda" and self.precision == "bf16" and not compiled:
            # Not at the top: triton comes with PyTorch for GPUs alone.
            from twin_kernels import fits

            kernels = fits(network)
        self.network = TwinNetwork(network, body_type, kernels)
        forward = torch.compile(self.network) if compiled else self.network
        self.forward: Callable[[Tensors, Tensors, Tensor], Tensor] = forward
        self.loss_of = loss_of(self.recipe["training"])

        tensors = {key: tensor.to(device) for key, tensor in tensors.items()}
        self.parameters = part(tensors, "parameters")
        self.average = part(tensors, "average")
        self.first_moment = part(tensors, "first_moment")
        self.second_moment = part(tensors, "second_moment")
        self.running = {key: t for key, t in tensors.items() if key.startswith("running_")}
        for tensor in self.parameters.values():
            tensor.requires_grad_()
        self.learning_rate = torch.zeros((), device=device)
        self.optimizer = torch.optim.Adam(
            self.parameters.values(), lr=self.learning_rate, capturable=device == "cuda", fused=True
        )
        for key, parameter in self.parameters.items():
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=device),
                "exp_avg": self.first_moment[key],
                "exp_avg_sq": self.second_moment[key],
            }
        self.average_step = torch.zeros((), device=device)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        batch, side_px = self.recipe["training"]["batch"], self.recipe["training"]["patch_px"]
        self.low = torch.zeros(batch, 3, side_px, side_px, device=device)
        side_px *= self.recipe["network"]["scale"]
        self.high = torch.zeros(batch, 3, side_px, side_px, device=device)
        if device == "cuda":
            self.low = self.low.to(memory_format=torch.channels_last)
        self.graph: torch.cuda.CUDAGraph | None = None
        if "strength" in self.recipe:
            self.network.clean = self.clean_network()
            self.network.strength = torch.ones((), device=device)
        self.updates = 0
        self.load_numbers()

    def clean_network(self) -> Tensors:
        """The convolutions at strength 0."""
        tensors, _ = open_file(self.folder / CLEAN, "wdsr")
        return {key: tensor.float().to(self.device) for key, tensor in tensors.items()}

    def load_numbers(self) -> None:
        self.updates = int(self.metadata["updates"])
        self.rollbacks = int(self.metadata.get("rollbacks", 0))
        self.learning_rate_factor = float(self.metadata.get("learning_rate_factor", 1))
        self.seconds = float(self.metadata["seconds"])
        for state in self.optimizer.state.values():
            state["step"].fill_(self.updates)
        self.forget_losses()

    def forget_losses(self) -> None:
        self.loss_sum.zero_()
        self.finite.fill_(True)

    def tensors(self) -> Tensors:
        """All that a checkpoint holds, under its keys."""
        parts = {
            "parameters": self.parameters,
            "average": self.average,
            "first_moment": self.first_moment,
            "second_moment": self.second_moment,
        }
        named = {f"{part}/{key}": t for part, of in parts.items() for key, t in of.items()}
        return {key: tensor.detach() for key, tensor in (named | self.running).items()}

    def step(self) -> None:
        """Forwards, backwards, Adam and the moving average, on `self.low` and `self.high`."""
        made = self.forward(self.parameters, self.running, self.low)
        loss = self.loss_of(made - self.high)
        parameters = list(self.parameters.values())
        gradients = torch.autograd.grad(loss, parameters)
        length = torch.nn.utils.get_total_norm(gradients)
        longest = self.recipe["training"]["gradient_clip_norm"]
        with torch.no_grad():
            if longest > 0:
                torch._foreach_mul_(gradients, (longest / length).clamp(max=1))
            # Fused Adam wants the very strides of the parameter, which convolutions do not keep.
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter)
            torch._foreach_copy_([parameter.grad for parameter in parameters], gradients)
            self.optimizer.step()
            averages = list(self.average.values())
            moves = torch._foreach_sub(parameters, averages)
            torch._foreach_mul_(moves, self.average_step)
            torch._foreach_add_(averages, moves)
            self.loss_sum += loss.double()
            self.finite &= loss.isfinite() & length.isfinite()

    def capture(self) -> None:
        """Makes `step` a CUDA graph."""
        state = [*self.tensors().values(), *(s["step"] for s in self.optimizer.state.values())]
        kept = [tensor.clone() for tensor in state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()
        for tensor, value in zip(state, kept, strict=True):
            tensor.copy_(value)
        self.forget_losses()

    def update(self, low: Tensor, high: Tensor, strength: Tensor | None) -> None:
        decay = self.recipe["training"]["average_decay"]
        decay = min(decay, (2 + self.updates) / (11 + self.updates))
        self.learning_rate.fill_(self.rate())
        self.average_step.fill_(1 - decay)
        self.low.copy_(low)
        self.high.copy_(high)
        if self.network.strength is not None and strength is not None:
            self.network.strength.copy_(strength)
        if self.graph:
            self.graph.replay()
        else:
            self.step()
        self.updates += 1

    def rate(self) -> float:
        """The learning rate of the next update."""
        end = self.recipe["training"]["updates"]
        rate = learning_rate(self.recipe["schedule"], self.updates, end)
        return rate * self.learning_rate_factor

    def is_finite(self) -> bool:
        finite = (tensor.isfinite().all() for tensor in self.tensors().values())
        return bool(torch.stack([*finite, self.finite]).all())

    def roll_back(self) -> None:
        """Goes back to the last checkpoint, with a lower learning rate from there on."""
        training, failed = self.recipe["training"], self.updates
        rollbacks, factor = self.rollbacks + 1, self.learning_rate_factor
        if rollbacks > training["rollbacks"]:
            raise ValueError(
                f"a loss up to update {failed} is not finite after going back {self.rollbacks}"
                f" times; {self.folder / CHECKPOINT} is the last good checkpoint; train with a"
                " lower schedule.learning_rate, a longer schedule.warm_up_updates or"
                " training.gradient_clip_norm"
            )
        kept, self.metadata = open_file(self.folder / CHECKPOINT, "wdsr-checkpoint")
        # Its updates may have been fitted since.
        self.metadata["recipe"] = json.dumps(self.recipe)
        for key, tensor in self.tensors().items():
            tensor.copy_(kept[key])
        self.load_numbers()
        self.rollbacks = rollbacks
        self.learning_rate_factor = factor * training["rollback_factor"]
        self.save()
        print(
            f"a loss up to update {failed} is not finite: back to {self.updates}, learning rate"
            f" times {self.learning_rate_factor:g}"
        )

    def save(self) -> None:
        """Writes the model for use (of the averaged weights) and the checkpoint."""
        # A checksum of ours is of the tensors as they were.
        self.metadata.pop("crc32c", None)
        self.metadata |= {
            "updates": str(self.updates),
            "rollbacks": str(self.rollbacks),
            "learning_rate_factor": str(self.learning_rate_factor),
            "seconds": str(self.seconds),
        }
        config = self.recipe["network"] | {"norm": "none"}
        body_type = str(self.network.body_type).removeprefix("torch.")
        notes = {
            "format": "wdsr",
            "version": "1",
            "config": json.dumps(config),
            "recipe": self.metadata["recipe"],
            "updates": str(self.updates),
            "trainer": f"reference/twin.py, torch {torch.__version__}, {self.device}, {body_type}",
        }
        with torch.no_grad():
            model = self.network.folded(self.average, self.running)
        if self.network.clean is not None:
            strong = {f"strong/{key}": tensor for key, tensor in model.items()}
            model = self.network.clean | strong
        write_tensors(self.folder / "model.safetensors", model, notes)
        write_tensors(self.folder / CHECKPOINT, self.tensors(), self.metadata)


def part(tensors: Tensors, name: str) -> Tensors:
    start = f"{name}/"
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}


def write_tensors(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    plain = {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}
    write(path, save(plain, metadata))


def write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".wdsr-{path.name}.part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def refuse_unknown_keys(recipe: dict[str, Any]) -> None:
    for table, keys in recipe.items():
        for key in keys:
            if key not in KEYS.get(table, "").split():
                raise ValueError(f"{table}.{key} of the recipe is a key twin.py does not know")
    if recipe["training"]["branches"]:
        raise ValueError("training.branches: twin.py trains plain convolutions; set it to false")


def loss_of(training: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """The recipe's loss as a function of the errors [batch, 3, height, width]."""
    match training["loss"]:
        case "l1":
            return lambda error: error.abs().mean()
        case "l2":
            return lambda error: error.square().mean()
        case "charbonnier" if training["charbonnier_epsilon"] == 0:
            return lambda error: error.abs().mean()
        case "charbonnier":
            epsilon = training["charbonnier_epsilon"]
            return lambda error: (error.square() + epsilon**2).sqrt().mean()
        case "fft":
            weight = training["fft_weight"]
            spectrum = lambda error: torch.view_as_real(torch.fft.rfft2(error))  # noqa: E731
            return lambda error: error.abs().mean() + weight * spectrum(error).abs().mean()
        case other:
            raise ValueError(f"training.loss is {other}, which twin.py does not know")


def learning_rate(schedule: dict[str, Any], update: int, updates: int) -> float:
    """Of an update (counted from 0), as `crates/train/src/schedule.rs`."""

    def half_cosine(first: float, last: float, progress: float) -> float:
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))

    highest, rising = schedule["learning_rate"], schedule["warm_up_updates"]
    warm_up = min(1, (update + 1) / rising) if rising else 1
    match schedule["kind"]:
        case "constant":
            falling = schedule.get("cool_down_updates", 0)
            if update < updates - falling:
                return highest * warm_up
            last = schedule["final_learning_rate"]
            progress = (update - max(0, updates - falling) + 1) / falling
            return last + (highest * warm_up - last) * (1 - math.sqrt(progress))
        case "cosine":
            last = schedule["final_learning_rate"]
            return half_cosine(highest, last, update / updates) * warm_up
        case "step":
            passed = sum(update >= milestone for milestone in schedule["milestones"])
            return highest * schedule["factor"] ** passed * warm_up
        case "one-cycle" if update < rising:
            return half_cosine(highest / 25, highest, update / rising)
        case "one-cycle":
            progress = (update - rising) / max(1, updates - rising)
            return half_cosine(highest, schedule["final_learning_rate"], progress)
        case other:
            raise ValueError(f"schedule.kind is {other}, which twin.py does not know")


def find_data(training: Training, elsewhere: Path | None) -> Batches | Images:
    folder, recipe = training.folder, training.recipe
    batches = folder / "batches.safetensors"
    images = sorted((elsewhere or folder).glob("images-*.safetensors"))
    if batches.exists() and images:
        raise ValueError(f"{folder}: both {batches.name} and {images[0].name}; keep one of them")
    if batches.exists():
        if "degradation" in recipe:
            raise ValueError("[degradation]: twin.py degrades exported images; export these")
        which = recipe["training"], recipe["network"]["scale"], training.device
        return Batches(batches, *which)
    if images:
        if recipe["training"]["least_detail"] > 0:
            raise ValueError(
                "training.least_detail: twin.py takes every patch of exported images; set it to 0"
                " or export batches"
            )
        return Images(images, recipe, training.device)
    raise ValueError(
        f"{elsewhere or folder}: neither {batches.name} nor images-1.safetensors; write them by"
        " `wdsr train --export-batches N` or `--export-images`"
    )


class Fit:
    """Counts updates from the fifth second to the twentieth, then says how many fit."""

    FROM_SECONDS, TO_SECONDS = 5, 20
    # What is left for a machine that becomes slower.
    SHARE = 0.95

    def __init__(self, end_seconds: float) -> None:
        self.end_seconds = end_seconds
        self.begun: tuple[float, int] | None = None
        self.first = time.monotonic()

    def updates(self, done: int) -> int | None:
        """The update that the minutes allow, once it is known."""
        if self.begun is None and time.monotonic() - self.first < self.FROM_SECONDS:
            return None
        if self.begun and time.monotonic() - self.begun[0] < self.TO_SECONDS - self.FROM_SECONDS:
            return None
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.monotonic()
        if self.begun is None:
            self.begun = (now, done)
            return None
        since, done_then = self.begun
        return done + int(
            (self.end_seconds - now) * self.SHARE * (done - done_then) / (now - since)
        )


def train(training: Training, data: Batches | Images, end_seconds: float, fit: bool) -> None:
    """`end_seconds`: when to stop, as `time.monotonic()` counts."""
    recipe = training.recipe
    last = recipe["training"]["updates"]
    end = min(last, data.end)
    if not data.first <= training.updates <= data.end:
        raise ValueError(
            f"{training.folder / CHECKPOINT} stands at update {training.updates}, the batches are"
            f" of updates {data.first} to {data.end}; export them anew"
        )
    metrics = training.folder / "metrics.jsonl"
    since, since_updates = time.monotonic(), training.updates
    forget_after(metrics, training.updates)
    fitting = Fit(end_seconds) if fit else None
    while training.updates < end:
        rate = training.rate()
        training.update(*data.batch(training.updates))
        done = training.updates
        if fitting and done % 50 == 0 and (fits := fitting.updates(done)):
            recipe["training"]["updates"] = last = end = min(max(fits, done), data.end)
            training.metadata["recipe"] = json.dumps(recipe)
            print(f"training.updates is {last}, which the minutes allow", flush=True)
            fitting = None
        out_of_time = done % 100 == 0 and time.monotonic() > end_seconds
        if done % recipe["validation"]["every_updates"] and done != end and not out_of_time:
            continue
        if not training.is_finite():
            training.roll_back()
            forget_after(metrics, training.updates)
            since, since_updates = time.monotonic(), training.updates
            continue
        seconds, count = time.monotonic() - since, done - since_updates
        training.seconds += seconds
        line = {
            "update": done,
            "loss": training.loss_sum.item() / count,
            "learning_rate": rate,
            "psnr_db": None,
            "bicubic_psnr_db": None,
            "patches_per_second": count * recipe["training"]["batch"] / seconds,
            "seconds": training.seconds,
            "unix_seconds": time.time(),
        }
        with metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
        training.save()
        print(
            f"update {done} of {last}: loss {line['loss']:.6f}, learning rate {rate:.2e},"
            f" {line['patches_per_second']:.0f} patches/s",
            flush=True,
        )
        training.forget_losses()
        since, since_updates = time.monotonic(), done
        if out_of_time:
            print("the minutes are over; run it again to go on")
            return
    if end < last:
        print(f"the exported batches end at update {end} of {last}")


def forget_after(metrics: Path, updates: int) -> None:
    """Drops the lines of updates that will be done again."""
    if metrics.exists():
        lines = [line for line in metrics.read_text().splitlines() if is_within(line, updates)]
        write(metrics, "".join(f"{line}\n" for line in lines).encode())


def is_within(line: str, updates: int) -> bool:
    try:
        return json.loads(line)["update"] <= updates
    except ValueError:
        # Cut short by a full disk or a killed process.
        return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what `wdsr train --export-...` has written")
    parser.add_argument(
        "--images", type=Path, help="where images-N.safetensors are, if not in the folder"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after these")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="cuda where there is one")
    parser.add_argument(
        "--precision",
        choices=("f32", "bf16"),
        help="of the blocks; bf16 on a GPU, else the recipe's",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="set training.updates to what --minutes allow, by the first 20 seconds",
    )
    parser.add_argument("--no-kernels", action="store_true", help="on a GPU: PyTorch's operations")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--no-graph", action="store_true", help="on a GPU: no CUDA graph")
    arguments = parser.parse_args()

    started = time.monotonic()
    if arguments.fit and not math.isfinite(arguments.minutes):
        parser.error("--fit needs --minutes")
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    try:
        training = Training(
            arguments.folder,
            device,
            arguments.precision,
            arguments.compile,
            not arguments.no_kernels,
        )
        # Beside bf16, TF32 is exact enough; f32 means what it says.
        torch.backends.cudnn.allow_tf32 = training.precision != "f32"
        print(
            f"{device}, {training.precision}; without effect: {WITHOUT_EFFECT}; `wdsr eval` does",
            flush=True,
        )
        if device == "cuda" and not arguments.no_graph:
            training.capture()
        data = find_data(training, arguments.images)
        train(training, data, started + 60 * arguments.minutes, arguments.fit)
    except (OSError, ValueError, SafetensorError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
