"""Progress, interruption and threads of `Model.upscale`."""

import multiprocessing
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import wdsr

Photograph = npt.NDArray[np.uint8]


@pytest.mark.parametrize("size", [{}, {"factor": 3}], ids=str)
def test_progress_rises_to_the_end_in_the_calling_thread(
    model: wdsr.Model, photograph: Photograph, size: dict[str, Any]
) -> None:
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total, threading.get_ident()))

    model.upscale(photograph, progress=progress, threads=4, **size)
    done, totals, callers = zip(*calls, strict=True)
    assert list(done) == sorted(set(done))
    assert done[-1] == totals[-1]
    assert set(totals) == {totals[-1]}
    assert set(callers) == {threading.get_ident()}


class StopWork(Exception):  # noqa: N818
    """Raised by a callback."""


# Takes half a minute of a processor, of which a stopped call must use little.
LARGE = np.zeros((2000, 2000, 3), np.uint8)
SOON_S = 10


def test_an_exception_in_progress_stops_the_work(model: wdsr.Model, photograph: Photograph) -> None:
    calls = 0
    start = time.process_time()

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        raise StopWork(f"{done} of {total}")

    with pytest.raises(StopWork, match=r"\d+ of \d+"):
        model.upscale(LARGE, progress=progress)
    assert calls == 1
    assert time.process_time() - start < SOON_S
    # And the model is as good as before.
    assert model.upscale(photograph).shape == (120, 192, 3)


def test_an_interrupt_stops_the_work(model: wdsr.Model) -> None:
    # A shell's background jobs are started with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.process_time()
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.upscale(LARGE)
        pytest.fail("the call gave a result")
    timer.join()
    signal.signal(signal.SIGINT, before)
    assert time.process_time() - start < SOON_S


def test_other_threads_run_meanwhile(model: wdsr.Model) -> None:
    ticks = 0
    over = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not over.is_set():
            ticks += 1
            time.sleep(0.001)

    clock = threading.Thread(target=tick)
    clock.start()
    before = ticks
    model.upscale(np.zeros((300, 300, 3), np.uint8), threads=1)
    during = ticks - before
    over.set()
    clock.join()
    # With the GIL held there would be none or one.
    assert during > 5


def test_threads_share_a_model(model: wdsr.Model, photograph: Photograph) -> None:
    expected = model.upscale(photograph)
    results: list[Photograph] = []

    def work(tile: int) -> None:
        results.extend(model.upscale(photograph, tile=tile, threads=1) for _ in range(3))

    threads = [threading.Thread(target=work, args=(tile,)) for tile in (0, 16, 31, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    for result in results:
        np.testing.assert_array_equal(result, expected)


def upscale_and_shrink(image: Photograph) -> Photograph:
    return wdsr.imresize(wdsr.load("small").upscale(image), 0.5)


def test_a_model_is_sent_to_another_process(model: wdsr.Model, photograph: Photograph) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        made = pool.apply_async(model.upscale, [photograph]).get(timeout=60)
    np.testing.assert_array_equal(made, model.upscale(photograph))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_works_too(photograph: Photograph) -> None:
    # The parent has used threads, which do not live on in the child.
    expected = upscale_and_shrink(photograph)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        made = pool.apply_async(upscale_and_shrink, [photograph]).get(timeout=60)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_forked_while_other_threads_work_does_not_hang(photograph: Photograph) -> None:
    model = wdsr.load("small", scale=2)
    expected = int(model.upscale(photograph).sum())
    stopping = threading.Event()

    def work() -> None:
        tile = 16
        while not stopping.is_set():
            # Another width rearranges the weights.
            tile = 48 - tile
            model.upscale(photograph[:16, :16], threads=1, tile=tile)

    def child(connection: Connection) -> None:
        connection.send(int(model.upscale(photograph).sum()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(20):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=child, args=(sender,))
            process.start()
            try:
                assert receiver.poll(60), "the child hangs"
                assert receiver.recv() == expected
            finally:
                process.kill()
                process.join()
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("shape", [(1, 1, 3), (3000, 300, 3)], ids=str)
def test_an_array_resized_by_the_callback_is_read_as_it_was(shape: tuple[int, ...]) -> None:
    model = wdsr.load("small", scale=2)
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    expected = model.upscale(image)

    def progress(done: int, total: int) -> None:
        image.fill(0)
        image.resize(shape, refcheck=False)

    assert np.array_equal(model.upscale(image, threads=1, tile=16, progress=progress), expected)
    assert image.shape == shape


@pytest.mark.parametrize("requested", ["argument", "variable"])
def test_the_number_of_threads_is_capped(
    photograph: Photograph, requested: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = wdsr.load("small", scale=2)
    expected = model.upscale(photograph)
    threads = 100_000
    if requested == "variable":
        monkeypatch.setenv("RAYON_NUM_THREADS", str(threads))
        threads = 0
    start = time.monotonic()
    with pytest.warns(RuntimeWarning, match="100000 threads are more than 16 for each processor"):
        result = model.upscale(photograph, threads=threads)
    assert np.array_equal(result, expected)
    with pytest.warns(RuntimeWarning, match="using"):
        wdsr.imresize(photograph, 0.5, threads=threads)
    assert time.monotonic() - start < 60
