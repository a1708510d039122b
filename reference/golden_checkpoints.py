#!/usr/bin/env python3
"""Adds checkpoints of Real-ESRGAN, BasicSR and ESRGAN to a folder of golden vectors.

    reference/run --peers golden_checkpoints.py GOLDEN

The files are what torch.save writes of the networks below, with random weights; the expected
outputs are computed by PyTorch in float64. The names of the modules, and so the keys, are those of
the published code: xinntao/Real-ESRGAN `realesrgan/archs/srvgg_arch.py`, XPixelGroup/BasicSR
`basicsr/archs/edsr_arch.py`, `srresnet_arch.py` and `rrdbnet_arch.py`; xinntao/ESRGAN, whose first
release numbers its modules. Nothing here uses wdsr.
"""

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.4488, 0.4371, 0.4040)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, 1, 1)


class SRVGGNetCompact(nn.Module):
    """A chain of convolutions and PReLUs, added to the enlarged image."""

    def __init__(self, features: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.ModuleList()
        for inputs in [3] + [features] * blocks:
            activation = nn.PReLU(features)
            nn.init.uniform_(activation.weight, -0.5, 1.5)
            self.body.extend([conv(inputs, features), activation])
        self.body.append(conv(features, 3 * scale * scale))

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for layer in self.body:
            x = layer(x)
        base = functional.interpolate(image, scale_factor=self.scale, mode="nearest")
        return functional.pixel_shuffle(x, self.scale) + base


class Block(nn.Module):
    """conv, ReLU, conv, added to the input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.relu(self.conv1(x)))


class EDSR(nn.Module):
    """EDSR under the names of BasicSR."""

    def __init__(self, features: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(Block(features) for _ in range(blocks)))
        self.conv_after_body = conv(features, features)
        factors = [2] * (scale.bit_length() - 1) if scale != 3 else [3]
        pairs = [(conv(features, features * f * f), nn.PixelShuffle(f)) for f in factors]
        self.upsample = nn.Sequential(*(layer for pair in pairs for layer in pair))
        self.conv_last = conv(features, 3)

    def forward(self, image: Tensor) -> Tensor:
        mean = self.mean.to(image)
        x = self.conv_first((image - mean) * 255)
        x = self.upsample(x + self.conv_after_body(self.body(x)))
        return self.conv_last(x) / 255 + mean


class MSRResNet(nn.Module):
    """Residual blocks and upsampling with leaky ReLUs, added to the enlarged image."""

    def __init__(self, features: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.factor = 2 if scale == 4 else scale
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(Block(features) for _ in range(blocks)))
        self.upconv1 = conv(features, features * self.factor**2)
        if scale == 4:
            self.upconv2 = conv(features, features * 4)
        self.conv_hr = conv(features, features)
        self.conv_last = conv(features, 3)

    def forward(self, image: Tensor) -> Tensor:
        def leaky(x: Tensor) -> Tensor:
            return functional.leaky_relu(x, 0.1)

        x = self.body(leaky(self.conv_first(image)))
        x = leaky(functional.pixel_shuffle(self.upconv1(x), self.factor))
        if self.scale == 4:
            x = leaky(functional.pixel_shuffle(self.upconv2(x), 2))
        x = self.conv_last(leaky(self.conv_hr(x)))
        base = functional.interpolate(
            image, scale_factor=self.scale, mode="bilinear", align_corners=False
        )
        return x + base


class DenseBlock(nn.Module):
    """Convolutions that read the concatenation of all results before."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for i in range(4):
            self.add_module(f"conv{i + 1}", conv(features + i * growth, growth))
        self.conv5 = conv(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            parts.append(functional.leaky_relu(layer(torch.cat(parts, 1)), 0.2))
        return x + 0.2 * self.conv5(torch.cat(parts, 1))


class RRDB(nn.Module):
    """Three dense blocks in a residual block."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks, then nearest neighbours and convolutions."""

    def __init__(self, features: int, blocks: int, scale: int, growth: int) -> None:
        super().__init__()
        self.stages = scale.bit_length() - 1
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = conv(features, features)
        for stage in range(self.stages):
            self.add_module(f"conv_up{stage + 1}", conv(features, features))
        self.conv_hr = conv(features, features)
        self.conv_last = conv(features, 3)
        # The default initialisation makes the branches vanish beside what they are added to.
        for layer in self.body.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data *= 3

    def forward(self, image: Tensor) -> Tensor:
        def leaky(x: Tensor) -> Tensor:
            return functional.leaky_relu(x, 0.2)

        x = self.conv_first(image)
        x = x + self.conv_body(self.body(x))
        for stage in range(self.stages):
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = leaky(self.get_submodule(f"conv_up{stage + 1}")(x))
        return self.conv_last(leaky(self.conv_hr(x)))


def esrgan_key(key: str) -> str:
    """A key of BasicSR's RRDBNet in ESRGAN."""
    key = key.replace("conv_body", "trunk_conv").replace("body.", "RRDB_trunk.")
    return key.replace("rdb", "RDB").replace("conv_up", "upconv").replace("conv_hr", "HRconv")


def first_esrgan_key(key: str, blocks: int, stages: int) -> str:
    """A key of BasicSR's RRDBNet in the first release of ESRGAN."""
    key = re.sub(r"^body\.(\d+)\.rdb(\d)\.conv(\d)", r"model.1.sub.\1.RDB\2.conv\3.0", key)
    key = re.sub(r"^conv_up(\d)", lambda match: f"model.{3 * int(match[1])}", key)
    for name, place in [
        ("conv_first", "0"),
        ("conv_body", f"1.sub.{blocks}"),
        ("conv_hr", str(3 * stages + 2)),
        ("conv_last", str(3 * stages + 4)),
    ]:
        key = re.sub(f"^{name}", f"model.{place}", key)
    return key


def main() -> None:
    folder = Path(sys.argv[1]) / "checkpoints"
    listed = json.loads((folder / "checkpoints.json").read_text())
    expected = load_file(folder / "expected.safetensors")
    # File, layout and kind as the program prints them, network, key of the weights.
    for file, layout, kind, network, sizes, key in [
        ("compact_x4.pth", "Compact", "compact", SRVGGNetCompact, (8, 3, 4), "params"),
        ("compact_x1.pth", "Compact", "compact", SRVGGNetCompact, (6, 1, 1), "params_ema"),
        ("basicsr_edsr_x3.pth", "BasicSR's EDSR", "edsr", EDSR, (8, 2, 3), "params"),
        ("basicsr_edsr_x4.pth", "BasicSR's EDSR", "edsr", EDSR, (6, 1, 4), "params"),
        ("msrresnet_x2.pth", "MSRResNet", "msrresnet", MSRResNet, (8, 2, 2), "params"),
        ("msrresnet_x3.pth", "MSRResNet", "msrresnet", MSRResNet, (6, 1, 3), "params"),
        ("msrresnet_x4.pth", "MSRResNet", "msrresnet", MSRResNet, (6, 1, 4), "params_ema"),
        (
            "rrdb_x4.pth",
            "BasicSR's and Real-ESRGAN's RRDB",
            "rrdb",
            RRDBNet,
            (8, 1, 4, 8),
            "params_ema",
        ),
        ("esrgan_x2.pth", "ESRGAN's RRDB", "rrdb", RRDBNet, (4, 2, 2, 3), None),
        ("first_esrgan_x1.pth", "ESRGAN's first RRDB", "rrdb", RRDBNet, (4, 1, 1, 4), None),
        ("first_esrgan_x4.pth", "ESRGAN's first RRDB", "rrdb", RRDBNet, (3, 2, 4, 2), None),
    ]:
        # Files stay as they were written.
        if f"out/{file}" in expected:
            continue
        torch.manual_seed(len(file) + sizes[2])
        model = network(*sizes)
        features, blocks, scale = sizes[:3]
        state = model.state_dict()
        if file.startswith("esrgan"):
            state = {esrgan_key(key): tensor for key, tensor in state.items()}
        if file.startswith("first_esrgan"):
            stages = scale.bit_length() - 1
            state = {first_esrgan_key(key, blocks, stages): tensor for key, tensor in state.items()}
        torch.save(state if key is None else {key: state}, folder / file)
        with torch.no_grad():
            output = model.double()(expected["input"].double())
        expected[f"out/{file}"] = output.float().contiguous()
        listed = [case for case in listed if case["file"] != file]
        listed.append(
            {
                "file": file,
                "layout": layout,
                "block": kind,
                "features": features,
                "blocks": blocks,
                "expansion": 1,
                "scale": scale,
            }
        )
    save_file(expected, folder / "expected.safetensors")
    (folder / "checkpoints.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()
