"""Objects as inputs and results of program and package, with a store on loopback that may fail."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image
from servers import Proxy, SignedServer

import wdsr

SECRETS = ("the-secret-key", "passw0rd", "signed-secret", "anna")


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(server._server.server_port)
    os.environ.update(
        AWS_ENDPOINT_URL=proxy.url,
        AWS_ALLOW_HTTP="true",
        AWS_ACCESS_KEY_ID="key",
        AWS_SECRET_ACCESS_KEY="the-secret-key",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_REGION="us-east-1",
    )
    yield proxy
    proxy.shutdown()
    server.stop()


class Store:
    """A bucket, looked at past the proxy."""

    def __init__(self, proxy: Proxy, bucket: str) -> None:
        self.bucket = bucket
        self.client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{proxy.port}")
        self.client.create_bucket(Bucket=bucket)

    def put(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*.*"):
            key = prefix + path.relative_to(folder).as_posix()
            self.client.put_object(Bucket=self.bucket, Key=key, Body=path.read_bytes())

    def files(self, prefix: str) -> dict[str, bytes]:
        """The objects below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        get = self.client.get_object
        return {
            key.removeprefix(prefix): get(Bucket=self.bucket, Key=key)["Body"].read()
            for key in keys
        }

    def uploads(self) -> int:
        """Uploads in parts that are neither complete nor removed."""
        return len(self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))


@pytest.fixture
def store(proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[Store]:
    proxy.fails_every = proxy.bytes_per_second = 0
    bucket = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60].strip("-")
    yield Store(proxy, bucket)
    proxy.fails_every = proxy.bytes_per_second = 0


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the copies, which is empty after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (12, 16, 16, 3), np.uint8)
    for number, pixels in enumerate(noise):
        name = f"sub/ä {number}.jpg" if number % 3 == 0 else f"{number}.png"
        Image.fromarray(pixels).save(folder / name)
    return folder


def run(*arguments: object, code: int = 0) -> str:
    """Runs `wdsr upscale`; gives its standard error, which has no credentials."""
    command = [os.environ["WDSR_PROGRAM"], "upscale", "-m", "small", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert not any(secret in done.stderr for secret in SECRETS), done.stderr
    return done.stderr


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*.*") if not path.name.startswith(".wdsr")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_objects_are_upscaled_as_files_are(store: Store, images: Path, tmp_path: Path) -> None:
    store.put(images, "in/")
    source, target = f"s3://{store.bucket}/in/", f"s3://{store.bucket}/out/"
    run("-r", images, "-o", tmp_path / "out")
    expected = files(tmp_path / "out")
    assert len(expected) == 12

    report = tmp_path / "report.jsonl"
    run("-r", source, "-o", target, "--report", report)
    assert store.files("out/") == expected
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert {row["status"] for row in rows} == {"done"}
    assert rows[0]["input"].startswith(source)

    # A second run keeps results, unless an option or input changed, or another program wrote one.
    assert "12 up to date" in run("-r", source, "-o", target)
    assert "12 done" in run("-r", source, "-o", target, "--width", "20")
    assert "12 done" in run("-r", source, "-o", target)
    store.client.put_object(Bucket=store.bucket, Key="out/1.png", Body=b"mine")
    Image.new("RGB", (5, 5)).save(tmp_path / "2.png")
    store.client.upload_file(str(tmp_path / "2.png"), store.bucket, "in/2.png")
    line = run("-r", source, "-o", target, "--if-exists", "skip")
    assert "1 done, 10 up to date, 1 skipped" in line, line

    # Results below the inputs are no inputs, and patterns and shards divide as they do files.
    run(source, "-o", f"{source}results/")
    assert set(store.files("in/results/")) == {name for name in expected if "/" not in name}
    line = run("-r", source, "-o", f"{source}results/")
    assert "12 inputs" in line, line
    run(f"s3://{store.bucket}/in/sub/*[36].jpg", "-o", f"s3://{store.bucket}/pattern/")
    assert set(store.files("pattern/")) == {"ä 3.jpg", "ä 6.jpg"}
    for shard in ("1/2", "2/2"):
        run("-r", source, "-o", f"s3://{store.bucket}/shards/", "--shard", shard)
    # With the results below the inputs.
    assert len(store.files("shards/")) == 24

    # One image; from and to files.
    run(f"{source}1.png", "-o", f"s3://{store.bucket}/one.png")
    assert store.files("one.png") == {"": expected["1.png"]}
    run(f"{source}1.png", "-o", tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == expected["1.png"]
    run(images / "1.png", "-o", f"s3://{store.bucket}/from-file/")
    assert store.files("from-file/") == {"1.png": expected["1.png"]}


def test_a_store_that_fails_one_request_in_ten_changes_nothing(
    store: Store, proxy: Proxy, images: Path, tmp_path: Path
) -> None:
    run("-r", images, "-o", tmp_path / "out")
    large = tmp_path / "large"
    large.mkdir()
    noise = np.random.default_rng(2).integers(0, 256, (700, 2000, 3), np.uint8)
    Image.fromarray(noise).save(large / "large.png")
    # 9.5 MB, which is stored in parts.
    options = ("--width", 3000, "--compression", "none")
    run(large, "-o", tmp_path / "large-out", *options)
    store.put(images, "in/")
    store.put(large, "large/")
    proxy.fails_every, proxy.failures = 10, 0
    bucket = f"s3://{store.bucket}"
    run("-r", f"{bucket}/in/", "-o", f"{bucket}/out/")
    run("-r", f"{bucket}/in/", "-o", f"{bucket}/out/")
    proxy.fails_every = 4
    run(f"{bucket}/large/", "-o", f"{bucket}/large-out/", *options)
    assert proxy.failures > 6
    assert store.files("out/") == files(tmp_path / "out")
    assert store.files("large-out/") == files(tmp_path / "large-out")
    assert store.uploads() == 0


def test_a_slow_store_is_waited_for_until_the_time_limit(
    store: Store, proxy: Proxy, images: Path
) -> None:
    store.put(images, "in/")
    bucket = f"s3://{store.bucket}"
    proxy.bytes_per_second = 400
    started = time.monotonic()
    line = run(f"{bucket}/in/1.png", "-o", f"{bucket}/out/", "--timeout", "1", code=1)
    assert "not done within 1 s" in line
    assert time.monotonic() - started < 15
    assert store.files("out/") == {}
    row = wdsr.upscale_file(f"{bucket}/in/1.png", f"{bucket}/out/1.png", model="small", timeout=1.0)
    assert (row["status"], row["error_kind"]) == ("failed", "time"), row
    proxy.bytes_per_second = 2000
    run(f"{bucket}/in/1.png", "-o", f"{bucket}/out/")
    assert list(store.files("out/")) == ["1.png"]


def test_a_stopped_or_killed_program_leaves_no_object(
    store: Store, proxy: Proxy, tmp_path: Path, temporary: Path
) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (700, 2000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    for kill in (signal.SIGTERM, signal.SIGKILL):
        target = f"s3://{store.bucket}/out/"
        options = ["-m", "small", "--width", "3000", "--compression", "none"]
        command = [os.environ["WDSR_PROGRAM"], "upscale", tmp_path / "large.png", "-o", target]
        proxy.bytes_per_second = 1 << 20
        program = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        while not store.uploads():
            assert program.poll() is None, program.communicate()
            time.sleep(0.05)
        program.send_signal(kill)
        program.communicate(timeout=60)
        assert program.returncode == (-kill if kill == signal.SIGKILL else 128 + kill)
        proxy.bytes_per_second = 0
        assert store.files("out/") == {}
        if kill == signal.SIGTERM:
            assert store.uploads() == 0
    # What a killed program left is removed by the next.
    run(tmp_path / "large.png", "-o", f"s3://{store.bucket}/out/", "--width", "10")
    assert list(store.files("out/")) == ["large.png"]


def test_memory_does_not_grow_with_an_object(store: Store) -> None:
    store.client.put_object(Bucket=store.bucket, Key="large.png", Body=bytes(200 << 20))
    command = [os.environ["WDSR_PROGRAM"], "upscale", "-m", "small", "-o", os.environ["TMPDIR"]]
    program = subprocess.Popen(
        [*command, f"s3://{store.bucket}/large.png"], stderr=subprocess.PIPE, text=True
    )
    peak_kb = 0
    while program.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{program.pid}/status").read_text()
            peak_kb = int(status.split("VmHWM:")[1].split()[0])
        time.sleep(0.02)
    assert program.stderr
    assert "not an image" in program.stderr.read()
    assert 0 < peak_kb < 120 << 10
    (Path(os.environ["TMPDIR"]) / ".wdsr-manifest.jsonl").unlink()
    line = run(
        f"s3://{store.bucket}/large.png", "-o", f"s3://{store.bucket}/out/",
        "--max-pixels", "100", code=3,
    )  # fmt: skip
    assert "it has 209715200 bytes, allowed are 67110464" in line


def test_credentials_of_urls_are_shown_nowhere(images: Path, tmp_path: Path) -> None:
    server = SignedServer((images / "1.png").read_bytes())
    report = tmp_path / "report.jsonl"
    out = tmp_path / "out"
    run(server.url("a.png"), "-o", f"{out}/", "--report", report)
    run(server.url("b.png", "other-secret"), "-o", f"{out}/", code=1)
    for arguments in (
        [server.url("a.png")],
        [server.url("a.png"), "-o", server.url("b.png")],
        [server.url("a.png"), "-o", f"{out}/", "--width", "x"],
        ["s3://anna:passw0rd@bucket/a.png", "-o", f"{out}/"],
    ):
        assert run(*arguments, code=1 if arguments[0].startswith("s3") else 2)
    row = wdsr.upscale_file(server.url("b.png", "signed-secre"), out / "c.png", model="small")
    assert row["status"] == "failed"
    row_of_result = wdsr.upscale_file(server.url("d.png"), out / "d.png", model="small")
    assert row_of_result["status"] == "done", row_of_result
    texts = [path.read_text() for path in (report, out / ".wdsr-manifest.jsonl")]
    texts += [str(row), str(row_of_result)]
    for text in texts:
        assert not any(secret in text for secret in SECRETS), text
    assert "a.png" in texts[0]
    run(images / "1.png", "-o", tmp_path / "expected.png")
    assert (out / "a.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_the_package_takes_urls(store: Store, images: Path) -> None:
    store.put(images, "in/")
    bucket = f"s3://{store.bucket}"
    pairs = wdsr.find_images(f"{bucket}/in/", f"{bucket}/out", recursive=True)
    assert len(pairs) == 12

    def rows() -> list[Any]:
        manifest = wdsr.Manifest(f"{bucket}/out")
        return list(wdsr.upscale_files(pairs, model="small", manifest=manifest))

    first, second = rows(), rows()
    assert {row["status"] for row in first} == {"done"}, first
    assert {row["status"] for row in second} == {"up_to_date"}
    assert [row["xxh3"] for row in first] == [row["xxh3"] for row in second]
    # The program knows them.
    assert "12 up to date" in run("-r", f"{bucket}/in/", "-o", f"{bucket}/out/")
    missing = wdsr.upscale_file(f"{bucket}/no.png", f"{bucket}/x.png", model="small")
    assert (missing["status"], missing["error_kind"]) == ("failed", "input")
    server = "http://127.0.0.1:1/x.png"
    refused = wdsr.upscale_file(images / "1.png", server, model="small")
    assert (refused["status"], refused["error_kind"]) == ("failed", "output")
    assert refused["error"] is not None
    assert "only read" in refused["error"]
