"""Working ahead in another thread: order, errors and endings as if there were none."""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from dinogen.data.ahead import in_thread


def test_items_come_in_order_and_from_another_thread():
    makers = [threading.current_thread()]

    def items() -> Iterator[int]:
        for number in range(20):
            makers.append(threading.current_thread())
            yield number

    assert list(in_thread(items(), ahead=3)) == list(range(20))
    assert makers[0] not in makers[1:]


def test_no_more_is_made_ahead_than_asked_for():
    made = []
    with closing(in_thread((made.append(number) or number for number in range(20)), ahead=2)) as items:
        assert next(items) == 0
    assert len(made) <= 4  # the one taken, two that wait and the one in hand


def test_an_error_arrives_after_the_items_before_it():
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    found = in_thread(items(), ahead=5)
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    with closing(in_thread(iter(int, 1), ahead=2)) as items:
        next(items)
    assert threading.active_count() == before


def test_processes_forked_in_the_thread_end_well():
    def exit_codes() -> Iterator[int]:
        process = multiprocessing.get_context("fork").Process(target=int)
        process.start()
        process.join()
        yield process.exitcode

    assert list(in_thread(exit_codes(), ahead=1)) == [0]
