"""Progress, interruption and threads of `Model.upscale`."""

import multiprocessing
import signal
import threading
import time
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
