"""Runs tasks in this process or in several, with progress, and stops within seconds when it is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_end
from typing import Any, TypeVar

from lpmc_errors import LpmcError

POLL_SECONDS = 0.2  # between two looks at how far the workers are

Task = TypeVar("Task")
Report = Callable[[int], None]  # so many items more are done

_shared: dict[str, Any] = {}  # of a worker process: the counter and the event that its parent gave it


class _Stopped(Exception):
    """The run was interrupted while this task was being done."""


def run_tasks(
    work: Callable[[Task, Report], None], tasks: Sequence[Task], workers: int, progress: Report, *, stopped: str
) -> None:
    """Call `work(task, report)` for every task; `progress(items)` is told how many items were reported so far.

    With several workers `work` and the tasks must be picklable and the caller's module importable
    (`if __name__ == "__main__":`), as processes are spawned. Raises what the work raises, `KeyboardInterrupt` when
    interrupted, and `LpmcError` when a process is killed; `stopped` is then what to run the command again with.
    """
    if workers <= 1 or len(tasks) <= 1:
        done = 0

        def report(items: int) -> None:
            nonlocal done
            done += items
            progress(done)

        for task in tasks:
            work(task, report)
        return
    context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads can hang
    counter, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), mp_context=context, initializer=_start_worker, initargs=(counter, stop)
    )
    try:
        with _ctrl_c_held():
            waiting = {pool.submit(_run, work, task) for task in tasks}
        while waiting:
            with _ctrl_c_noted() as noted:
                ended, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
                done = counter.value
            if noted:
                raise KeyboardInterrupt
            for future in ended:
                future.result()
            progress(done)
    except BrokenProcessPool as error:
        raise LpmcError(
            "a worker process",
            "was killed, perhaps for want of memory",
            f"run the same command again (what is finished is kept), with {stopped}",
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; those that are started here never see it: the parent decides.

    The parent sees it when the block ends. A worker that ignored it only once it runs would die while it starts.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ctrl_c_noted() -> Iterator[list[int]]:
    """Ctrl-C only adds to the list while the block runs, which holds locks that the workers need.

    Raised between taking such a lock and giving it back, it would leave the workers waiting for ever.
    """
    noted: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted  # then Ctrl-C is not raised here
        return
    signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _start_worker(counter: Any, stop: Any) -> None:
    _shared.update(counter=counter, stop=stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker of a killed run would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)


def _run(work: Callable[[Task, Report], None], task: Task) -> None:
    def report(items: int) -> None:
        with _shared["counter"].get_lock():
            _shared["counter"].value += items
        if _shared["stop"].is_set():
            raise _Stopped

    work(task, report)
