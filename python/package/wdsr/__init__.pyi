"""Image super-resolution with WDSR networks for NumPy arrays and Pillow images."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypedDict, TypeVar, final, type_check_only

import numpy as np
import numpy.typing as npt
from PIL import Image

__version__: str
__all__ = [
    "Manifest", "Model", "__version__", "find_images", "imresize", "load", "psnr", "ssim",
    "upscale_file", "upscale_files",
]  # fmt: skip

_Image = TypeVar(
    "_Image",
    npt.NDArray[np.uint8],
    npt.NDArray[np.uint16],
    npt.NDArray[np.float32],
    Image.Image,
)
_Image8Bit = npt.NDArray[np.uint8] | Image.Image
_Protocol = Literal["benchmark", "div2k", "ntire"]

def load(
    model: str | os.PathLike[str] | None = None,
    scale: int | None = None,
    *,
    device: str = "cpu",
) -> Model: ...

@final
class Model:
    def upscale(
        self,
        image: _Image,
        *,
        factor: float | None = None,
        width: int | None = None,
        height: int | None = None,
        longest: int | None = None,
        size: tuple[int, int] | None = None,
        alpha: Literal["network", "lanczos"] = "network",
        wrap: Literal["none", "x", "xy"] = "none",
        strength: float | None = None,
        threads: int = 0,
        tile: int = 640,
        precision: Literal["f32", "bf16", "f16", "int8", "auto"] = "f32",
        self_ensemble: bool = False,
        progress: Callable[[int, int], Any] | None = None,
    ) -> _Image: ...
    def choose(self, image: _Image) -> tuple[str, float, str]: ...
    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def scale(self) -> int: ...
    @property
    def block(self) -> Literal["wdsr-a", "wdsr-b", "edsr"]: ...
    @property
    def blocks(self) -> int: ...
    @property
    def features(self) -> int: ...
    @property
    def expansion(self) -> int: ...
    @property
    def low_rank(self) -> int: ...
    @property
    def parameters(self) -> int: ...
    @property
    def multiply_adds_per_pixel(self) -> int: ...
    @property
    def receptive_radius_px(self) -> int: ...
    @property
    def notes(self) -> dict[str, str]: ...

@final
class Manifest:
    def __new__(cls, folder: str | os.PathLike[str]) -> Manifest: ...

@type_check_only
class Row(TypedDict):
    source: str
    target: str
    status: Literal["done", "up_to_date", "skipped", "failed"]
    error: str | None
    error_kind: Literal["input", "output", "memory", "model", "device", "time"] | None
    width: int | None
    height: int | None
    frames: int | None
    pages: int | None
    model: str | None
    strength: float | None
    warnings: list[str]
    bytes: int | None
    xxh3: str | None
    milliseconds: float

def upscale_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: Model | str | os.PathLike[str] | None = None,
    factor: float | None = None,
    width: int | None = None,
    height: int | None = None,
    longest: int | None = None,
    size: tuple[int, int] | None = None,
    format: Literal["png", "jpg", "webp", "tiff", "bmp", "gif"] | None = None,
    alpha: Literal["network", "lanczos"] = "network",
    wrap: Literal["none", "x", "xy"] = "none",
    strength: float | None = None,
    metadata: Literal["keep", "strip", "strip-gps"] = "keep",
    quality: int = 95,
    compression: Literal["none", "fastest", "fast", "balanced", "high"] = "fast",
    if_exists: Literal["overwrite", "skip", "error"] = "overwrite",
    manifest: Manifest | None = None,
    max_pixels: int | None = None,
    max_output_pixels: int | None = None,
    max_memory: int | None = None,
    timeout: float | None = None,
    threads: int = 0,
    tile: int = 640,
    precision: Literal["f32", "bf16", "f16", "int8", "auto"] = "f32",
    self_ensemble: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> Row: ...
def upscale_files(
    files: Iterable[tuple[str | os.PathLike[str], str | os.PathLike[str]]],
    **options: object,
) -> Iterator[Row]: ...
def find_images(
    images: str
    | os.PathLike[str]
    | list[str]
    | list[os.PathLike[str]]
    | list[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    recursive: bool = False,
    format: Literal["png", "jpg", "webp", "tiff", "bmp", "gif"] | None = None,
) -> list[tuple[str, str]]: ...
def imresize(
    image: _Image,
    scale: float,
    *,
    rounding: Literal["8bit", "float"] = "8bit",
    threads: int = 0,
) -> _Image: ...
def psnr(
    a: _Image8Bit,
    b: _Image8Bit,
    scale: int,
    protocol: _Protocol = "benchmark",
) -> float: ...
def ssim(
    a: _Image8Bit,
    b: _Image8Bit,
    scale: int,
    protocol: _Protocol = "benchmark",
    *,
    threads: int = 0,
) -> float: ...
