"""The command itself: quick to answer, and one clear line where it cannot go on."""

import importlib
import inspect
import os
import resource
import signal  # noqa: F401 Interrupt's code uses it
import subprocess
import sys
from importlib.metadata import version

import pytest
from forked import forked

import kdist
from kdist.cli import INTERRUPTED, main

HEAVY = {"torch", "numpy", "scipy", "matplotlib", "sklearn", "k_diffusion"}
EXTRAS = ("typer", "click", "rich", "matplotlib", "sklearn", "k_diffusion", "PIL", "safetensors", "jinja2")


def python(code, *arguments, **environment):
    """``code`` in a process of its own, with these arguments."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
    )


MAIN = "from kdist.cli import main; main()"
TELL = f"import atexit, sys; atexit.register(lambda: print('heavy:', *sorted({HEAVY} & set(sys.modules))));"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["compare", "--help"], ["design-early", "--help"]])
def test_answers_without_anything_heavy(arguments):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(TELL + MAIN, *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"
    # 0.13 s of processor time where it was measured; a busy machine counts a little more
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_every_command_has_help_with_an_example():
    commands = python(MAIN, "--help").stdout.split("Commands:")[1].splitlines()
    names = [line.split()[0] for line in commands if line.startswith("  ") and line[2] != " "]
    assert {"demo", "predict", "design", "features", "measure", "compare"} <= set(names)
    code = (
        "import contextlib, io, sys\nfrom kdist.cli import main\n"
        f"for name in {names}:\n"
        "    sys.argv, text = ['kdist', name, '--help'], io.StringIO()\n"
        "    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit): main()\n"
        "    print(name, f'kdist {name}' in text.getvalue().split('Options:')[0].partition('Example')[2])\n"
    )
    said = dict(line.split() for line in python(code).stdout.splitlines())
    assert said == dict.fromkeys(said, "True")


def unread():
    """A pipe whose reader has left from the start, as that of ``kdist ... | head`` may: nothing is said of it, and what
    was begun is finished."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_reader_that_leaves_is_no_error():
    writer = unread()
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", MAIN, "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def unheard(writer, *arguments):
    os.dup2(writer, 1)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115 it ends with the process
    sys.argv = ["kdist", *arguments]
    main()


@pytest.mark.parametrize(
    "arguments",
    [["doctor"], ["predict", "--class", "0", "--class", "1", "--schedule", "3", "--out", "prediction"]],
)
def test_a_reader_that_leaves_loses_no_file(arguments, tmp_path):
    writer = unread()
    done = forked(unheard, writer, *arguments, said=tmp_path / "said", folder=tmp_path)
    os.close(writer)
    done.join(120)
    assert (done.exitcode, done.said.read_text()) == (0, "")
    assert "--out" not in arguments or (tmp_path / "prediction" / "predict.json").is_file()


def test_version_from_one_place():
    for start in (MAIN, "import runpy; runpy.run_module('kdist.cli', run_name='__main__', alter_sys=True)"):
        assert python(start, "--version").stdout.strip() == f"kdist {kdist.__version__}"
    assert kdist.__version__.startswith("0.")
    assert version("kdist")  # installed under this name


def test_completion_can_be_installed():
    # no shell is looked for, there may be none above the tests
    done = python(MAIN, "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_KDIST_COMPLETE" in done.stdout


# -- where it cannot go on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "extra"), [("predict", "evals"), ("features", "evals"), ("demo", "all"), ("--help", "evals")]
)
def test_core_alone_names_the_extra(command, extra):
    done = python(f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}));" + MAIN, command)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "needs typer" in done.stderr
    assert f"pip install 'kdist[{extra}]'" in done.stderr


class Interrupt:
    """Finder of modules: Ctrl-C at the import of one, however the library passes it on."""

    def __init__(self, module, becomes):
        self.module, self.becomes = module, becomes

    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            try:
                exec("os.kill(os.getpid(), signal.SIGINT)")  # as where a dataclass is made
            except KeyboardInterrupt:
                if self.becomes == "itself":
                    raise
                raise ImportError("interrupted halfway") from None


becoming = pytest.mark.parametrize("becomes", ["itself", "an ImportError"])


@becoming
@pytest.mark.parametrize("module", ["kdist.cli.app", "typer", "torch"])
def test_interrupted_at_any_import(module, becomes, tmp_path):
    before = (
        f"import os, signal, sys\n{inspect.getsource(Interrupt)}\nsys.meta_path.insert(0, Interrupt(*sys.argv[-2:]))\n"
    )
    done = python(f"{before}sys.argv = ['kdist', 'demo', '--out', {str(tmp_path)!r}]\n{MAIN}", module, becomes)
    assert done.stderr == f"kdist: {INTERRUPTED}\n"
    assert done.returncode == 130


def interrupted(module, becomes):
    for name in [name for name in sys.modules if name.startswith((module, "kdist.demo", "kdist.cli"))]:
        del sys.modules[name]
    vars(kdist).pop(module.rpartition(".")[2], None)
    sys.meta_path.insert(0, Interrupt(module, becomes))
    sys.argv = ["kdist", "demo", "--out", "out"]
    importlib.import_module("kdist.cli").main()


@becoming
def test_interrupted_at_a_late_import(becomes, tmp_path):
    done = forked(interrupted, "kdist.digits", becomes, said=tmp_path / "said", folder=tmp_path)
    done.join(120)
    assert (done.exitcode, done.said.read_text()) == (130, f"kdist: {INTERRUPTED}\n")


def test_letters_that_the_terminal_lacks():
    """A finished run is told in escapes; nothing is lost to the terminal's encoding, in either direction."""
    show = f"import kdist.cli.app, rich; kdist.cli.app.app = lambda **_: rich.print('{{}}'); {MAIN}"
    for name, shown in (("κλάση", r"\u03ba\u03bb\u03ac\u03c3\u03b7"), (r"\udcff", r"\udcff")):
        done = python(show.format(name), PYTHONIOENCODING="ascii")
        assert (done.stdout.strip(), done.returncode) == (shown, 0), done.stderr
