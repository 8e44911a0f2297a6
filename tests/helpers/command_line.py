"""The ``kdist`` command in the test's own process: a new one would import torch again, which takes seconds."""

import contextlib
import dataclasses
import io
import signal
import sys
from unittest.mock import patch

from kdist.cli import main


@dataclasses.dataclass(frozen=True)
class Done:
    """What a process would leave."""

    returncode: int
    stdout: str
    stderr: str


def kdist(*arguments: object) -> Done:
    """``kdist`` with these arguments, through the installed entry point, on a terminal 200 columns wide."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before = signal.getsignal(signal.SIGINT)
    try:
        with (
            patch.object(sys, "argv", ["kdist", *map(str, arguments)]),
            patch.dict("os.environ", {"COLUMNS": "200"}),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        signal.signal(signal.SIGINT, before)  # main takes Ctrl-C over
    return Done(code, out.getvalue(), err.getvalue())
