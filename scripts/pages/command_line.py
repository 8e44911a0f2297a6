"""The ``kdist`` command inside this process: one of its own would import torch again, which takes seconds."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from subprocess import CompletedProcess
from unittest.mock import patch

from kdist.cli import main

__all__ = ["kdist"]


def kdist(*arguments: object, **environment: str) -> CompletedProcess[str]:
    """``kdist`` with these arguments, through its entry point, as ``subprocess.run`` answers; what it raises goes on.

    Args:
        arguments: as they would be typed, one by one.
        environment: variables that it sees, for instance ``COLUMNS``.
    """
    words = ["kdist", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    before = signal.getsignal(signal.SIGINT)
    try:
        with (
            patch.object(sys, "argv", words),
            patch.dict("os.environ", environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        signal.signal(signal.SIGINT, before)  # main takes Ctrl-C over
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())
