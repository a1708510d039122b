from spandrel.architectures.WDSR import WDSR, WDSRArch

from .util import (
    ModelFile,
    TestImage,
    assert_image_inference,
    assert_loads_correctly,
    assert_size_requirements,
    disallowed_props,
    skip_if_unchanged,
)

skip_if_unchanged(__file__)

RELEASE = "https://github.com/wdsr-rs/wdsr/releases/download/v0.1.0"


def test_load():
    assert_loads_correctly(
        WDSRArch(),
        lambda: WDSR(),
        lambda: WDSR(scale=1),
        lambda: WDSR(scale=2),
        lambda: WDSR(scale=3),
        lambda: WDSR(n_feats=64, low_rank=51),
        lambda: WDSR(n_blocks=8),
        lambda: WDSR(expansion=9, low_rank=12),
        lambda: WDSR(block="a", expansion=4, low_rank=0),
        lambda: WDSR(block="a", expansion=2, low_rank=0, n_blocks=3, scale=2),
    )


def test_size_requirements():
    file = ModelFile.from_url(f"{RELEASE}/wdsr-small-x2.safetensors")
    assert_size_requirements(file.load_model())


def test_WDSR_base_x4(snapshot):
    file = ModelFile.from_url(f"{RELEASE}/wdsr-base-x4.safetensors")
    model = file.load_model()
    assert model == snapshot(exclude=disallowed_props)
    assert isinstance(model.model, WDSR)
    assert_image_inference(
        file,
        model,
        [TestImage.SR_16, TestImage.SR_32, TestImage.SR_64],
    )


def test_WDSR_base_x2_official_layout(snapshot):
    file = ModelFile.from_url(f"{RELEASE}/wdsr-base-x2-official.safetensors")
    model = file.load_model()
    assert model == snapshot(exclude=disallowed_props)
    assert isinstance(model.model, WDSR)
    assert_image_inference(
        file,
        model,
        [TestImage.SR_16, TestImage.SR_32, TestImage.SR_64],
    )
