"""Runs the parts of a corpus in this process or in several; stops within a clip when it is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_end
from typing import Any, Protocol

from lpmc_errors import LpmcError

POLL_SECONDS = 0.2  # between two looks at how far the workers are

_shared: dict[str, Any] = {}  # of a worker process: the counter and the event that its parent gave it


class Work(Protocol):
    """What is done for each number; picklable. Calls `tick()` after every clip."""

    def __call__(self, number: int, tick: Callable[[], None]) -> None: ...


class _Stopped(Exception):
    """The run was interrupted while this part was being rendered."""


def run_parts(work: Work, numbers: Sequence[int], workers: int, progress: Callable[[int], None]) -> None:
    """Call `work` for every number; `progress(clips)` is told how many clips have been done so far.

    With several workers the caller's module must be importable (`if __name__ == "__main__":`), as processes are
    spawned. Raises what the work raises, `LpmcError` when a process is killed, `KeyboardInterrupt` when interrupted.
    """
    if workers <= 1 or len(numbers) <= 1:
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            progress(done)

        for number in numbers:
            work(number, tick)
        return
    context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads can hang
    counter, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(
        min(workers, len(numbers)), mp_context=context, initializer=_start_worker, initargs=(counter, stop)
    )
    try:
        with _ctrl_c_held():
            waiting = {pool.submit(_run, work, number) for number in numbers}
        while waiting:
            ended, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
            for future in ended:
                future.result()
            progress(counter.value)
    except BrokenProcessPool as error:
        raise LpmcError(
            "rendered corpus",
            "a worker process was killed, perhaps for want of memory",
            "run the same command again (finished clips are kept), with fewer workers",
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_held() -> Any:
    """Ctrl-C reaches every process of a terminal; those that are started here never see it: the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(counter: Any, stop: Any) -> None:
    _shared.update(counter=counter, stop=stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker of a killed run would wait for parts for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)


def _run(work: Work, number: int) -> None:
    def tick() -> None:
        with _shared["counter"].get_lock():
            _shared["counter"].value += 1
        if _shared["stop"].is_set():
            raise _Stopped

    work(number, tick)
