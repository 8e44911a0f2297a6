"""The ``kdist`` command: what a user sees of errors, interruption and missing packages is decided here.

Standard library only, so that ``main`` is in charge from the first moment; :mod:`.app` has the commands.
"""

from __future__ import annotations

import io
import os
import sys

__all__ = ["main"]

INTERRUPTED = "interrupted; what was finished is kept; the same command goes on"

_EXTRA = {"demo": "all", "design-early": "all", "tune": "all"}  # of each command; the others need "evals"
_interrupted = False


class _Stream(io.TextIOWrapper):
    """Output whose reader may leave early (``| head``): the rest goes nowhere, and what was begun is finished."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        super().flush()


def main() -> None:
    """Entry point: bad input or a missing package is one line on stderr and exit code 2, Ctrl-C one line and 130."""
    try:
        import signal  # some modules more: from here on Ctrl-C is caught

        signal.signal(signal.SIGINT, _interrupt)
        _guard("stdout")
        _guard("stderr")
        if sys.argv[1:] == ["doctor"]:  # asked for where something is missing, so it needs no extra
            from .doctor import doctor

            return doctor()
        from .app import app

        app(prog_name="kdist")
    except BaseException as error:
        if _interrupted or isinstance(
            error, KeyboardInterrupt
        ):  # whatever became of it on its way: libraries turn it into errors of their own
            exec("")  # where it came inside an exec, Python would end itself by the signal instead of the exit code
            _stop(INTERRUPTED, 130)
        if isinstance(error, (ValueError, TypeError, OSError, ImportError, ArithmeticError, MemoryError)):
            if os.environ.get("KDIST_DEBUG"):
                raise
            _stop(f"error: {_in_one_line(error)}  (KDIST_DEBUG=1 shows where)", 2)
        raise


def _guard(name: str) -> None:
    """Neither a letter that a terminal lacks nor a reader that leaves loses a finished run."""
    stream = getattr(sys, name)
    if stream is not None and stream is getattr(sys, f"__{name}__"):
        how = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        setattr(sys, name, _Stream(stream.buffer, stream.encoding, "backslashreplace", **how))
    elif hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _interrupt(number: int, frame: object) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt


def _stop(message: str, code: int) -> None:
    print(f"kdist: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("kdist"):
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        extra = _EXTRA.get(command, "evals")
        return f"{f'kdist {command}'.strip()} needs {error.name}, which is missing; pip install 'kdist[{extra}]'"
    from ..files import printable

    return printable(" ".join(str(error).split())) or type(error).__name__
