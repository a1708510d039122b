"""`wdsr.ray`: a local cluster of several nodes, whose workers are killed."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import ray
from PIL import Image
from ray.cluster_utils import Cluster

import wdsr.ray

COUNT = 2000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without processors and three nodes of one each, as processes of this computer."""
    # Ray's default of 15 starves workers beside other work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    store = {"object_store_memory": 500 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
    for _ in range(3):
        cluster.add_node(num_cpus=1, **store)
    cluster.connect()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 16 x 16 pixels in subfolders, one of them damaged."""
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(1).integers(0, 256, (COUNT, 16, 16, 3), np.uint8)
    for number, pixels in enumerate(noise):
        path = folder / f"album-{number % 7}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    damaged = folder / "album-0" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return folder


def upscale_by_program(images: Path, out: Path) -> str:
    command = [os.environ["WDSR_PROGRAM"], "upscale", "-r", images, "-o", out, "-m", "small"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stderr
    return run.stderr.splitlines()[-1]


def files(folder: Path) -> dict[str, bytes]:
    """Bytes of the results in a folder, by path; nothing else is there but manifests."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    results = [path for path in paths if not path.name.startswith(".wdsr-manifest")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in results}


def workers() -> list[int]:
    """Process identifiers of the actors that upscale."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::") and b"MapBatches(Upscaler)" in title:
            found.append(int(folder.name))
    return found


def test_a_killed_worker_and_a_killed_node_lose_and_double_nothing(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed: list[str] = []

    def done() -> int:
        return sum(1 for path in out.rglob("*.png")) if out.exists() else 0

    def kill() -> None:
        while done() < COUNT // 5:
            time.sleep(0.05)
        os.kill(workers()[0], signal.SIGKILL)
        killed.append(f"a worker at {done()}")
        while done() < COUNT // 2:
            time.sleep(0.05)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        killed.append(f"a node at {done()}")

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    rows = wdsr.ray.upscale(images, out, model="small", recursive=True).take_all()
    killer.join(timeout=5)
    print(killed)
    assert len(killed) == 2, killed

    assert len(rows) == COUNT
    assert len({row["source"] for row in rows}) == COUNT
    failed = [row for row in rows if row["status"] == "failed"]
    assert [Path(row["source"]).name for row in failed] == ["0.png"]
    assert failed[0]["error_kind"] == "input"
    assert {row["status"] for row in rows} <= {"done", "up_to_date", "failed"}
    upscale_by_program(images, tmp_path / "program")
    assert files(out) == files(tmp_path / "program")

    # Another run, of Ray or of the program, finds all results.
    again = wdsr.ray.upscale(images, out, model="small", recursive=True).take_all()
    assert sorted({row["status"] for row in again}) == ["failed", "up_to_date"]
    assert {row["xxh3"] for row in again} == {row["xxh3"] for row in rows}
    assert f"{COUNT - 1} up to date" in upscale_by_program(images, out)


def test_a_changed_option_upscales_again(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    few = images / "album-1"
    for options in ({}, {"width": 40}):
        rows = wdsr.ray.upscale(few, tmp_path, model="small", **options).take_all()
        assert {row["status"] for row in rows} == {"done"}
    assert {row["width"] for row in rows} == {40}


def test_a_dataset_keeps_its_other_columns(cluster: Cluster, images: Path, tmp_path: Path) -> None:
    sources = [images / "album-1" / f"{number}.png" for number in (1, 8, 15)]
    items = [
        {"source": str(source), "target": str(tmp_path / f"{place}.png"), "place": place}
        for place, source in enumerate(sources)
    ]
    dataset = ray.data.from_items(items)
    rows = wdsr.ray.upscale(dataset, tmp_path, model="small", resume=False).take_all()
    assert sorted(row["place"] for row in rows) == [0, 1, 2]
    assert {row["status"] for row in rows} == {"done"}
    assert not list(tmp_path.glob(".wdsr-manifest*"))


def test_a_checkpoint_of_ray_omits_rows_that_are_written(
    cluster: Cluster, images: Path, tmp_path: Path
) -> None:
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    # Its filter and the upscaler hold a processor each; reading and writing need a third.
    cluster.add_node(num_cpus=1, object_store_memory=500 << 20)
    # It omits rows where they are read, so the pairs come from a file.
    folder = images / "album-2"
    pairs = [
        {"source": str(path), "target": str(tmp_path / "out" / path.name)}
        for path in folder.iterdir()
    ]
    table = pyarrow.Table.from_pylist(pairs)
    pyarrow.parquet.write_table(table, tmp_path / "pairs.parquet")
    counts = []
    context.checkpoint_config = CheckpointConfig(
        id_column="source",
        checkpoint_path=str(tmp_path / "checkpoint"),
        delete_checkpoint_on_success=False,
    )
    try:
        for name in ("first", "second"):
            read = ray.data.read_parquet(str(tmp_path / "pairs.parquet"))
            rows = tmp_path / name
            wdsr.ray.upscale(read, tmp_path / "out", model="small").write_parquet(str(rows))
            files = list(rows.rglob("*.parquet"))
            counts.append(sum(pyarrow.parquet.read_metadata(file).num_rows for file in files))
    finally:
        context.checkpoint_config = None
    assert counts == [len(pairs), 0]
