"""Work spread over processes whose results come back in order."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 8  # items a worker may be ahead of the slowest one: bounds memory, and hides uneven items

_work: Callable[[Any], Any]  # one a process, made by its initialiser


class WorkerDied(Exception):
    """The process that worked on an item was killed by it: a decoder crashed, or memory ran out."""


def ordered_map(
    make_work: Callable[[], Callable[[Item], Result]], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Yield every item with `make_work()(item)`, in order, whatever the number of processes.

    Args:
        make_work: called once, in this process; the other processes are forks of this one.
        items: consumed only a little ahead of the results.
        workers: number of processes; 0 or 1 works in this one.

    Yields:
        `(item, result)`; an item that kills its process twice, the second time alone, comes with a `WorkerDied`.
    """
    if workers <= 1:
        yield from _in_this_process(make_work, items)
        return
    work = make_work()
    pool = _start_pool(work, workers)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        remaining = iter(items)
        while True:
            while len(waiting) < AHEAD * workers and (item := next(remaining, None)) is not None:
                waiting.append((item, pool.submit(_do, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:  # every waiting item has failed with it; who was it?
                pool.shutdown(wait=True)
                result = _alone(work, item)
                pool = _start_pool(work, workers)
                waiting = deque((other, pool.submit(_do, other)) for other, _ in waiting)
            yield item, result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_this_process(
    make_work: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    work = None
    for item in items:
        work = work or make_work()  # not before there is work: it may load a model
        yield item, work(item)


def _alone(work: Callable[[Item], Result], item: Item) -> Result | WorkerDied:
    with _start_pool(work, 1) as pool:
        try:
            return pool.submit(_do, item).result()
        except BrokenProcessPool:
            return WorkerDied()


def _start_pool(work: Callable, workers: int) -> ProcessPoolExecutor:
    # Forked, as the DataLoader's workers are: a process that has to import torch and a detector for itself is busy
    # for six seconds before it sees its first photo.
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(work,))


def _start_worker(work: Callable) -> None:
    global _work
    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C and a closed terminal are the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    if "torch" in sys.modules:  # its threads were not forked with it: what waited for them would wait for ever
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = work


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()  # a parent that was killed cannot tell its workers to stop
    os._exit(1)


def _do(item: Any) -> Any:
    return _work(item)
