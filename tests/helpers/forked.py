"""A process of its own that has torch and everything else loaded: a new Python would import them again, for seconds."""

import multiprocessing
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest


def forked(function, *arguments, said, folder="."):
    """``function(*arguments)``, started in a copy of this process: a ``multiprocessing.Process``.

    Args:
        function: its own changes (patches, ``sys.path``, the environment) are seen by nobody else.
        said: the file that gets what it prints, errors too; the process has it as ``said``.
        folder: where it runs.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs processes that fork, which Windows lacks")
    # daemon: ended with this process, should it ever hang
    process = multiprocessing.get_context("fork").Process(
        target=_run, args=(function, arguments, said, folder), daemon=True
    )
    process.said = Path(said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest-xdist's thread only waits for the next test's name
        process.start()
    return process


def _run(function, arguments, said, folder):
    sys.stdout = sys.stderr = open(said, "w", buffering=1)  # noqa: SIM115 it ends with the process
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a new one; pytest's processes may ignore it
    os.chdir(folder)
    function(*arguments)
