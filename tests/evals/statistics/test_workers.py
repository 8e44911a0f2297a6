"""Threads that share the processors: how many, what their products may take, what becomes of them after an error."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info
from threads import torch_threads

from kdist.evals.statistics.workers import workers


def test_after_an_error_nobody_waits_for_queued_work() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    def interrupted() -> None:
        with workers(1) as (each, aside):
            aside(lambda: list(each(work, range(1000))))
            each(work, range(1000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(done) < 100  # those that had begun; all would take ten seconds a thread


def test_fewer_workers_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the memory for three of them; products have the processors that are left, and in the end all again."""
    monkeypatch.setattr(sys.modules[workers.__module__], "memory", lambda: 700.0)
    with torch_threads(6):
        with workers(100) as (each, aside):
            assert each.__self__._max_workers == 3  # type: ignore[attr-defined]
            for blas, openmp in [*each(product_threads, range(9)), aside(product_threads).result()]:
                assert blas == {2}
                assert 2 in openmp
        with workers(1000) as (each, _):  # too much, but there is no way with none
            assert each.__self__._max_workers == 1  # type: ignore[attr-defined]
        assert 6 in product_threads()[1]
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 6


def product_threads(_: int = 0) -> list[set[int]]:
    """How many a product would take in this thread: NumPy's and SciPy's; torch's (and others that bring an OpenMP).

    ``torch.get_num_threads`` would decide it by being asked."""
    pools = threadpool_info()
    return [{pool["num_threads"] for pool in pools if pool["user_api"] == kind} for kind in ("blas", "openmp")]
