"""Threads that share the processors, no more of them than memory has room for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from .memory import memory

__all__ = ["Each", "workers"]

Each = Callable[..., Iterable[Any]]  # the built-in map, or one that works side by side


@contextmanager
def workers(needed: float) -> Iterator[tuple[Each, Callable[..., Future[Any]]]]:
    """``map`` over threads, and a way to submit what hands them its work at the same time.

    All arithmetic goes to them: threads within its small products would only get into each other's way. Where memory
    has room for few, the products have the other processors.

    Args:
        needed: bytes that each of them may take.
    """
    threads = torch.get_num_threads()
    count = max(1, min(threads, int(memory() / 2 // max(needed, 1))))
    share = threads // count
    with _blas_threads(share):
        # torch's number is each thread's own; in a thread that was never told, its products take all processors
        pools = [ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(share,)) for n in (count, 1)]
        try:
            yield pools[0].map, pools[1].submit
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)  # after an error nobody waits for the rest
            torch.set_num_threads(threads)  # for threads that start from now on


def _blas_threads(count: int) -> AbstractContextManager[Any]:
    try:
        return _blas().limit(limits=count, user_api="blas")
    except ImportError:
        return nullcontext()


@functools.cache
def _blas() -> Any:
    """NumPy's and SciPy's, loaded by now; to look for them anew took longer than a small measurement."""
    from threadpoolctl import ThreadpoolController  # comes with scikit-learn

    return ThreadpoolController()
