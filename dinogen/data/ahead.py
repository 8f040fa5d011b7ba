"""Working ahead: reading in worker processes, and making in another thread what this one uses."""

import signal
import threading
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from dinogen.errors import DinogenError

Index = TypeVar("Index")
Item = TypeVar("Item")


def read_ahead(
    read: Callable[[Index], Item], indices: Iterable[Index], workers: int, pin_memory: bool = False
) -> Generator[Item, None, None]:
    """Yield `read(index)` for each of `indices`, in order, read ahead by `workers` processes.

    Args:
        read: reads one item, a whole batch; it is copied to every worker.
        indices: one for each item, possibly without end.
        workers: number of processes; 0 reads in this one, when asked.
        pin_memory: call the items' `pin_memory()`.

    Raises:
        DinogenError: as `read` raised it, when its item's turn comes.
    """
    loader = DataLoader(
        _Reads(read),
        sampler=indices,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_leave_interrupts_to_the_parent,
        generator=torch.Generator(),  # not the global one: a resumed run opens its loader once more
    )
    for item in loader:
        if isinstance(item, DinogenError):
            raise item
        yield item


def in_thread(items: Iterable[Item], ahead: int) -> Generator[Item, None, None]:
    """Yield `items`, made by another thread while this one uses them: for work that both do outside of Python.

    Args:
        items: iterated by the other thread alone; what it raises is raised here when its turn comes.
        ahead: items that may wait.
    """
    source, end = iter(items), object()
    made: SimpleQueue = SimpleQueue()
    places = threading.Semaphore(ahead)
    unwanted = threading.Event()

    def make() -> None:
        item = None
        while item is not end:
            places.acquire()
            if unwanted.is_set():
                return
            try:
                item = next(source, end)
            except BaseException as error:
                made.put((end, error))
                return
            made.put((item, None))

    # Not an executor's thread: a process forked from one (a DataLoader's worker) ends with exit code 1, because
    # concurrent.futures waits at its exit for that very thread.
    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is end:
                return
            places.release()
            yield item
    finally:
        unwanted.set()
        places.release()
        thread.join()  # for the item in hand


class _Reads(Dataset, Generic[Index, Item]):
    def __init__(self, read: Callable[[Index], Item]):
        self.read = read

    def __getitem__(self, index: Index) -> Item | DinogenError:
        try:
            return self.read(index)
        except DinogenError as error:
            # Handed over as a value: raised in a worker it would arrive wrapped into the text of a traceback.
            return error


def _as_it_is(item: Item) -> Item:
    return item


def _leave_interrupts_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
