from __future__ import annotations

import torch
from typing_extensions import override

from spandrel.util import KeyCondition, get_scale_and_output_channels, get_seq_len

from ...__helpers.model_descriptor import Architecture, ImageModelDescriptor, StateDict
from .__arch.wdsr import WDSR


def _without_weight_norm(state_dict: StateDict) -> StateDict:
    """w = g v / |v|, the norm over input channels and kernel."""
    folded: StateDict = {}
    for key, value in state_dict.items():
        if key.endswith(".weight_v"):
            gain = state_dict[key[: -len("v")] + "g"]
            norm = torch.linalg.vector_norm(value.double(), dim=(1, 2, 3), keepdim=True)
            weight = gain.double() * value.double() / norm
            folded[key[: -len("_v")]] = weight.to(value.dtype)
        elif not key.endswith(".weight_g"):
            folded[key] = value
    return folded


class WDSRArch(Architecture[WDSR]):
    def __init__(self) -> None:
        super().__init__(
            id="WDSR",
            detect=KeyCondition.has_all(
                "head.0.bias",
                "body.0.body.0.bias",
                "body.0.body.2.bias",
                "tail.0.bias",
                "skip.0.bias",
                KeyCondition.has_any(
                    # the official code, with weight normalization
                    KeyCondition.has_all("skip.0.weight_g", "skip.0.weight_v"),
                    # models of wdsr, with plain weights
                    "skip.0.weight",
                ),
            ),
        )

    @override
    def load(self, state_dict: StateDict) -> ImageModelDescriptor[WDSR]:
        # The official code computes on (255 x - 255 mean) / 127.5; plain weights are for x - mean.
        input_factor = 2 if "skip.0.weight_v" in state_dict else 1
        state = _without_weight_norm(state_dict)

        n_feats = state["head.0.weight"].shape[0]
        n_blocks = get_seq_len(state, "body")
        expansion = state["body.0.body.0.weight"].shape[0] // n_feats
        is_b = "body.0.body.3.weight" in state
        low_rank = state["body.0.body.2.weight"].shape[0] if is_b else 0
        scale, _ = get_scale_and_output_channels(state["tail.0.weight"].shape[0], 3)
        res_scale = 1  # undetectable

        model = WDSR(
            scale=scale,
            n_feats=n_feats,
            n_blocks=n_blocks,
            block="b" if is_b else "a",
            expansion=expansion,
            low_rank=low_rank,
            res_scale=res_scale,
            input_factor=input_factor,
        )

        return ImageModelDescriptor(
            model,
            state,
            architecture=self,
            purpose="Restoration" if scale == 1 else "SR",
            tags=["WDSR-B" if is_b else "WDSR-A", f"{n_feats}nf", f"{n_blocks}nb"],
            supports_half=True,
            supports_bfloat16=True,
            scale=scale,
            input_channels=3,
            output_channels=3,
        )


__all__ = ["WDSRArch", "WDSR"]
